"""The cable between the laptop and the machine is pulled: while inputs go up, while jobs run, while results come down.

What is sent into a link that is cut is neither answered nor refused, so only the signs of life show it. Here they are shortened
(`keepalive` 2 s, a link counts as broken after 4), and the cut lasts CUT_S seconds: longer than that, so that every cut costs a
connection. PILOTFISH_TEST_CUT_S=60 takes a minute for each cut; `.ci/run` does so for one way of bringing files over.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from emulated import Hosts
from patience import THOROUGH, wait_until
from real import require

CUT_S = float(os.environ.get("PILOTFISH_TEST_CUT_S", "12"))
LONG_CUT_S = max(CUT_S, 60.0) if THOROUGH else CUT_S
KEEPALIVE_S = float(os.environ.get("PILOTFISH_TEST_KEEPALIVE_S", "2"))
BIG = 100_000_000


@pytest.fixture
def link(hosts: Hosts, wd: Path) -> Hosts:
    """`node1` is the laptop, `ctl` the machine; its sshd takes the laptop's key. Between them pass 12 MB/s."""
    require("sshd", "ssh-keygen", "tc")
    for name in ("host", "user"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", wd / name], check=True)
    os.makedirs("/run/sshd", exist_ok=True)
    (wd / "sshd_config").write_text(
        f"HostKey {wd}/host\nAuthorizedKeysFile {wd}/user.pub\nPermitRootLogin yes\nStrictModes no\nUsePAM no\n"
    )
    hosts.ctl.run("/usr/sbin/sshd", "-f", str(wd / "sshd_config"), "-E", str(wd / "sshd.log"))
    kind, key = (wd / "host.pub").read_text().split()[:2]
    (wd / "known_hosts").write_text(f"{hosts.ctl.address} {kind} {key}\n")
    shape = ["root", "tbf", "rate", "100mbit", "burst", "64kb", "latency", "50ms"]
    hosts["node1"].run("tc", "qdisc", "add", "dev", "eth0", *shape)
    hosts.ctl.run("tc", "qdisc", "add", "dev", "node1", *shape)
    return hosts


def write_submission(link: Hosts, wd: Path, by_rsync: bool, transport: str) -> Path:
    """One task that turns a big file around; what it has made is different from what it got."""
    (wd / "laptop/w/t").mkdir(parents=True)
    (wd / "laptop/w/t/in").write_bytes(os.urandom(BIG))
    command = f"echo x >>{wd}/starts; until [ -e {wd}/go ]; do sleep 0.1; done; tac in >out"
    task = {"command": command, "task_work_path": "t", "forward_files": ["in"], "backward_files": ["out"]}
    profile = {
        "hostname": link.ctl.address,
        "key_filename": str(wd / "user"),
        "known_hosts": str(wd / "known_hosts"),
        "rsync": by_rsync,
        "transport": transport,
        "keepalive": KEEPALIVE_S,
        "timeout": 3,
    }
    machine = {
        "batch_type": "Shell",
        "context_type": "SSH",
        "local_root": str(wd / "laptop"),
        "remote_root": str(wd / "scratch"),
        "remote_profile": profile,
    }
    given = {"work_base": "w", "machine": machine, "resources": {"group_size": 1}, "task_list": [task]}
    (wd / "run.json").write_text(json.dumps(given))
    return wd / "run.json"


def grows(folder: Path, known: int) -> bool:
    """Whether something beyond the `known` bytes has arrived."""
    sizes = [path.stat().st_size for path in folder.rglob("*") if path.is_file()]
    return sum(sizes) > known + BIG // 20


@pytest.mark.parametrize(
    ("by_rsync", "transport", "cut_s"),
    [(True, "paramiko", LONG_CUT_S), (False, "paramiko", CUT_S), (True, "openssh", CUT_S)],
    ids=["rsync", "archive", "openssh"],
)
def test_a_submission_bears_cuts_on_its_way_up_while_it_runs_and_on_its_way_down(
    link: Hosts, wd: Path, by_rsync: bool, transport: str, cut_s: float
) -> None:
    file = write_submission(link, wd, by_rsync, transport)
    command = [sys.executable, "-m", "pilotfish", "submit", str(file), "--check-interval", "1", "--clean", "never"]
    environ = os.environ | {"PILOTFISH_HOME": str(wd / "home")}
    process = subprocess.Popen(
        link["node1"].command(*command), env=environ, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )

    def cut_when(condition: Callable[[], object], what: str) -> None:
        wait_until(condition, what)
        link.cut("node1")
        began = time.monotonic()
        wait_until(lambda: time.monotonic() - began > cut_s, "the cut to be over", cut_s + 60)
        link.mend("node1")

    try:
        cut_when(lambda: grows(wd / "scratch", 0), "the upload to be on its way")
        assert not (wd / "starts").exists()
        cut_when((wd / "starts").exists, "the task to start")
        (wd / "go").touch()
        cut_when(lambda: grows(wd / "laptop", BIG), "the download to be on its way")
        assert process.poll() is None
        output, _ = process.communicate(timeout=250)
    finally:
        process.kill()
    assert process.returncode == 0, output
    assert (wd / "starts").read_text() == "x\n"
    turned = subprocess.run(["tac", wd / "laptop/w/t/in"], capture_output=True, check=True).stdout
    assert (wd / "laptop/w/t/out").read_bytes() == turned
    assert (wd / "sshd.log").read_text().count("Accepted publickey") >= 4, "each cut has cost a connection"
