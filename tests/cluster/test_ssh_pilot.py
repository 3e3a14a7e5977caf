"""Agents started through a real sshd on hosts with networks of their own, without a batch system."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from emulated import Hosts
from patience import PATIENCE_S
from real import require


@pytest.fixture
def cluster(wd: Path, hosts: Hosts) -> Hosts:
    """`hosts` with an sshd on each node, and an ssh on `ctl` that has the key."""
    require("sshd", "ssh", "ssh-keygen")
    for name in ("host", "user"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", wd / name], check=True)
    (wd / "sshd_config").write_text(
        f"HostKey {wd}/host\nAuthorizedKeysFile {wd}/user.pub\nPermitRootLogin yes\nStrictModes no\nUsePAM no\n"
    )
    (wd / "ssh_config").write_text(
        f"IdentityFile {wd}/user\nStrictHostKeyChecking no\nUserKnownHostsFile /dev/null\nLogLevel ERROR\n"
    )
    hosts.ctl.run("mount", "--bind", str(wd / "ssh_config"), "/etc/ssh/ssh_config")
    os.makedirs("/run/sshd", exist_ok=True)
    for node in hosts.nodes:
        node.run("/usr/sbin/sshd", "-f", str(wd / "sshd_config"))
    return hosts


def test_a_pilot_over_ssh(cluster: Hosts, wd: Path) -> None:
    (wd / "tasks.txt").write_text("hostname >>where; sleep 0.1\n" * 30)
    words = ["run", f"{wd}/tasks.txt", "--wd", str(wd), "--quiet", "--nodes", "node1:2,node2:2,node3:2"]
    command = cluster.ctl.command(sys.executable, "-m", "pilotfish", *words)
    environ = os.environ | {"PILOTFISH_PLACEMENT": "ssh"}
    done = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=PATIENCE_S, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert set((wd / "where").read_text().split()) == {"node1", "node2", "node3"}
