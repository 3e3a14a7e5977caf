"""What a pilot finds in jobs of a real Grid Engine, and a pilot in one."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from grid_engine import GridEngine


def found_in(sge: GridEngine, wd: Path, *options: str) -> dict[str, Any]:
    job = sge.submit("date +%s >start; pilotfish resources --here --json", wd, *options)
    assert sge.wait_for_end(job)["exit_status"] == "0", (wd / f"{job}.out").read_text()
    told: dict[str, Any] = json.loads((wd / f"{job}.out").read_text())
    assert (told["kind"], told["job_id"]) == ("sge", job)
    return told


@pytest.mark.parametrize(
    ("options", "counts"),
    [([], [1]), (["-pe", "smp", "2"], [2]), (["-pe", "fill", "6"], [2, 2, 2]), (["-pe", "mpi", "5"], [1, 2, 2])],
    ids=["serial", "one host", "all", "uneven"],
)
def test_nodes_and_cores_of_a_job(sge: GridEngine, wd: Path, options: list[str], counts: list[int]) -> None:
    nodes = found_in(sge, wd, *options)["nodes"]
    assert sorted(len(node["core_ids"]) for node in nodes) == counts
    assert len({node["name"] for node in nodes} & set(sge.node_names)) == len(counts)


def test_limits_of_time_and_memory_are_known(sge: GridEngine, wd: Path) -> None:
    found = found_in(sge, wd, "-l", "h_rt=0:10:0,h_vmem=4G", "-pe", "smp", "2")
    assert found["ends_s"] - int((wd / "start").read_text()) == pytest.approx(600, abs=3)
    assert found["nodes"][0]["mem_bytes"] == 8 << 30


def test_a_batch_script_of_one_line_uses_all_nodes(sge: GridEngine, wd: Path) -> None:
    tasks = 100
    (wd / "tasks.txt").write_text("".join(f"echo {number} $(hostname); sleep 0.05\n" for number in range(tasks)))
    job = sge.submit("pilotfish run tasks.txt --output out", wd, "-pe", "fill", "6")
    ended = sge.wait_for_end(job)
    assert ended["exit_status"] == "0", (wd / f"{job}.out").read_text()
    lines = [file.read_text().split() for file in (wd / "out").glob("*.out")]
    assert sorted(int(number) for number, _ in lines) == list(range(tasks))
    assert sorted(Counter(host for _, host in lines)) == sge.node_names
