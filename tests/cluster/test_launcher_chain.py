"""The whole chain: a laptop, SSH to a login node, sbatch, a pilot on the nodes, results home; and with the link cut meanwhile.

Hosts are emulated with networks of their own (emulated.py): `ctl` is the login node, node1 to node3 belong to Slurm, node4 is
the laptop. They share one file system, so what is on the laptop and what on the cluster differs by folder.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

from emulated import Host, Slurm
from patience import PATIENCE_S, wait_until


def write_submission(wd: Path, tasks: int, seconds: float) -> Path:
    described = []
    for number in range(tasks):
        folder = wd / f"laptop/w/t{number}"
        folder.mkdir(parents=True)
        (folder / "in").write_text(f"{number}\n")
        command = f"cat in >out; hostname >>out; echo t{number} >>{wd}/starts; sleep {seconds}"
        described.append(
            {"command": command, "task_work_path": f"t{number}", "forward_files": ["in"], "backward_files": ["out"]}
        )
    machine = {
        "batch_type": "Slurm",
        "context_type": "SSH",
        "local_root": str(wd / "laptop"),
        "remote_root": str(wd / "scratch"),
        "remote_profile": {"hostname": "cluster", "ssh_config": str(wd / "ssh_config"), "timeout": 3, "keepalive": 2},
    }
    resources = {"number_node": 3, "cpu_per_node": 2, "walltime": "10m", "custom_flags": ["#SBATCH --exclude=node4"]}
    given = {
        "work_base": "w",
        "machine": machine,
        "resources": resources,
        "pilot": {"python": sys.executable},
        "task_list": described,
    }
    (wd / "run.json").write_text(json.dumps(given))
    return wd / "run.json"


def start(laptop: Host, wd: Path, *words: str) -> subprocess.Popen[str]:
    environ = {name: value for name, value in os.environ.items() if not name.startswith("SLURM")}
    environ |= {"PILOTFISH_HOME": str(wd / "home")}
    command = laptop.command(sys.executable, "-m", "pilotfish", "submit", str(wd / "run.json"), *words)
    return subprocess.Popen(command, env=environ, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def check_results(wd: Path, tasks: int) -> None:
    outputs = [(wd / f"laptop/w/t{number}/out").read_text().split() for number in range(tasks)]
    assert [int(number) for number, _ in outputs] == list(range(tasks))
    assert {host for _, host in outputs} == {"node1", "node2", "node3"}
    starts = (wd / "starts").read_text().split()
    assert len(starts) == len(set(starts)) == tasks


def test_from_the_laptop_to_the_nodes_and_back(cluster: Slurm, wd: Path) -> None:
    write_submission(wd, 30, 0.2)
    process = start(cluster.hosts["node4"], wd, "--check-interval", "1")
    output, _ = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 0, output
    check_results(wd, 30)
    assert os.listdir(wd / "scratch") == [], "cleaned"


def test_the_link_is_cut_for_half_a_minute_while_the_pilot_runs(cluster: Slurm, wd: Path) -> None:
    write_submission(wd, 60, 2.0)
    process = start(cluster.hosts["node4"], wd, "--check-interval", "1", "--clean", "never")
    wait_until((wd / "starts").exists, "tasks to start")
    cluster.hosts.cut("node4")
    began = time.monotonic()
    wait_until(lambda: time.monotonic() - began > 30, "half a minute")
    cluster.hosts.mend("node4")
    output, _ = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 0, output
    check_results(wd, 60)
