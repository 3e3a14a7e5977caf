"""What a pilot finds in a real Slurm job, for several shapes of jobs."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from emulated import Slurm
from real import SLURM_PROGRAMS, require

HERE = sorted(os.sched_getaffinity(0))


def found_in(slurm: Slurm, wd: Path, *options: str, command: str = "") -> dict[str, Any]:
    """What `pilotfish resources --here --json` tells in a job with these options."""
    job = slurm.submit(command or "pilotfish resources --here --json", wd, *options)
    text = (wd / f"{job}.out").read_text() if slurm.wait_for_end(job) == "COMPLETED" else "{}"
    told: dict[str, Any] = json.loads(text)
    assert told["job_id"] == job
    assert told["kind"] == "slurm"
    return told


@pytest.mark.parametrize(
    ("options", "cores"),
    [
        (["--nodes=4", "--ntasks-per-node=2"], {"node1": 2, "node2": 2, "node3": 2, "node4": 2}),
        (["--nodes=3", "--ntasks=5"], {"node1": 2, "node2": 2, "node3": 1}),
        (["--nodes=2", "--ntasks=2", "--exclusive"], {"node1": 2, "node2": 2}),
        (["--nodes=1", "--ntasks=1", "--cpus-per-task=2"], {"node1": 2}),
        (["--nodelist=node[2,4]", "--ntasks-per-node=1"], {"node2": 1, "node4": 1}),
    ],
    ids=["even", "uneven", "exclusive", "cpus per task", "listed"],
)
def test_nodes_and_cores_of_a_job(slurm: Slurm, wd: Path, options: list[str], cores: dict[str, int]) -> None:
    found = found_in(slurm, wd, *options)
    assert {node["name"]: len(node["core_ids"]) for node in found["nodes"]} == cores


def test_the_end_is_that_of_the_time_limit(slurm: Slurm, wd: Path) -> None:
    found = found_in(slurm, wd, "--time=10", command="date +%s >start; pilotfish resources --here --json")
    assert found["ends_s"] - int((wd / "start").read_text()) == pytest.approx(600, abs=3)


@pytest.mark.parametrize(("option", "mib"), [("--mem=300", 300), ("--mem-per-cpu=100", 200)])
def test_memory_of_a_job(slurm: Slurm, wd: Path, option: str, mib: int) -> None:
    found = found_in(slurm, wd, "--nodes=2", "--ntasks-per-node=2", option)
    assert [node["mem_bytes"] >> 20 for node in found["nodes"]] == [mib, mib]


def test_gpus_of_a_job_and_of_its_tasks(wd: Path) -> None:
    """Each node has three, the job two of each; a task is told the one it was given."""
    require("unshare", "nsenter", *SLURM_PROGRAMS)
    line = "echo $(hostname) $CUDA_VISIBLE_DEVICES"
    resources = {"numNodes": 1, "numCores": 1, "nodeCrs": {"gpu": 1}}
    execution = {"script": f"{line}; sleep 0.5", "stdout": "${it}.gpu"}
    jobs = [{"name": "gpu", "iteration": {"stop": 8}, "execution": execution, "resources": resources}]
    (wd / "jobs.json").write_text(json.dumps(jobs))
    options = ["--nodes=2", "--ntasks-per-node=2", "--gres=gpu:2"]
    with Slurm(nodes=2, cpus=2, gpus=3) as slurm:
        found = found_in(slurm, wd, *options)
        job = slurm.submit("pilotfish run jobs.json", wd, *options)
        assert slurm.wait_for_end(job) == "COMPLETED", (wd / f"{job}.out").read_text()
    assert [(node["name"], node["gpu_ids"]) for node in found["nodes"]] == [
        ("node1", ["0", "1"]),
        ("node2", ["0", "1"]),
    ]
    told = sorted({tuple(file.read_text().split()) for file in wd.glob("*.gpu")})
    assert told == [("node1", "0"), ("node1", "1"), ("node2", "0"), ("node2", "1")]


def test_a_part_of_the_nodes_is_used_when_asked(slurm: Slurm, wd: Path) -> None:
    command = "pilotfish resources --here --json --slurm-limit-nodes-range-begin 1 --slurm-limit-nodes-range-end 3"
    found = found_in(slurm, wd, "--nodes=4", "--ntasks-per-node=1", command=command)
    assert [node["name"] for node in found["nodes"]] == ["node2", "node3"]


@pytest.mark.skipif(len(HERE) != 2, reason="the emulated nodes have the processors of this machine, and claim two")
def test_tasks_are_bound_on_every_node(slurm: Slurm, wd: Path) -> None:
    """The manager's node it reads itself; of the others their agents tell the ids. Tasks that may be short are bound late."""
    program = "import os; print(*os.sched_getaffinity(0))"
    line = f"sleep 0.5; echo $(hostname) $QCG_PM_CPU_SET $(python3 -c '{program}')\n"
    (wd / "tasks.txt").write_text(line * 24)
    job = slurm.submit("pilotfish run tasks.txt --output out", wd, "--nodes=3", "--ntasks-per-node=2")
    assert slurm.wait_for_end(job) == "COMPLETED", (wd / f"{job}.out").read_text()
    lines = [file.read_text().split() for file in (wd / "out").glob("*.out")]
    assert {host for host, *_ in lines} == {"node1", "node2", "node3"}
    assert {(given, *bound) for _, given, *bound in lines} == {(str(number), str(number)) for number in HERE}
