"""A pilot in a real Slurm allocation: an agent on every node, and what happens to them."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from emulated import Slurm


def test_a_batch_script_of_one_line_uses_all_nodes(slurm: Slurm, wd: Path) -> None:
    tasks = 200
    (wd / "tasks.txt").write_text("".join(f"echo {number} $(hostname); sleep 0.05\n" for number in range(tasks)))
    job = slurm.submit("pilotfish run tasks.txt --output out", wd, "--nodes=4", "--ntasks-per-node=2")
    assert slurm.wait_for_end(job) == "COMPLETED", (wd / f"{job}.out").read_text()
    lines = [file.read_text().split() for file in (wd / "out").glob("*.out")]
    assert sorted(int(number) for number, _ in lines) == list(range(tasks))
    hosts = Counter(host for _, host in lines)
    assert sorted(hosts) == slurm.node_names
    assert min(hosts.values()) > tasks / 8
