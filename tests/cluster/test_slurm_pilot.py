"""A pilot in a real Slurm allocation: an agent on every node, and what happens to them."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from emulated import Slurm
from patience import wait_until
from real import require


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


def test_a_batch_job_can_be_looked_at_from_the_login_node(slurm: Slurm, wd: Path) -> None:
    """Its script is the simplest there is: no --net, one node."""
    (wd / "tasks.txt").write_text(f"until [ -e {wd}/go ]; do sleep 0.1; done\n")
    job = slurm.submit("pilotfish run tasks.txt", wd, "--nodes=1", "--ntasks-per-node=2")
    wait_until(lambda: list(wd.glob(".qcg*/connection.json")), "the pilot")

    def client(*words: str) -> str:
        command = slurm.hosts.ctl.command(sys.executable, "-m", "pilotfish", *words, "-c", str(wd))
        return subprocess.run(command, capture_output=True, text=True, check=False).stdout

    wait_until(lambda: '"running": 1' in client("top", "--json"), lambda: client("top"), 30)
    seen = json.loads(client("top", "--json"))
    assert (seen["pilot"]["host"], seen["running"][0]["node"]) == ("node1", "node1")
    assert "line-1  EXECUTING" in client("jobs")
    (wd / "go").touch()
    assert slurm.wait_for_end(job) == "COMPLETED"


def test_a_python_without_pilotfish_is_a_clear_error(slurm: Slurm, wd: Path) -> None:
    script = "pilotfish service --wd . --agent-python /usr/bin/python3; echo code $?"
    job = slurm.submit(script, wd, "--nodes=2", "--ntasks-per-node=2")
    assert slurm.wait_for_end(job) == "COMPLETED"
    output = (wd / f"{job}.out").read_text()
    assert "code 3" in output
    assert "No module named pilotfish" in output
    (status,) = wd.glob(".qcg*/final_status.json")
    assert "No module named pilotfish" in json.loads(status.read_text())["System"]["Problem"]


def test_nodes_without_a_shared_folder_learn_of_the_manager_by_a_variable(slurm: Slurm, wd: Path) -> None:
    """The prelude hides the connection file from the agent of node2."""
    (wd / "tasks.txt").write_text("hostname >>hosts; sleep 0.2\n" * 16 + "env >env.txt\n")
    hide = "[ $(hostname) = node1 ] || mount -t tmpfs none .qcg*"
    options = f"--agent-connect variable --agent-prelude '{hide}'"
    job = slurm.submit(
        f"pilotfish service --wd . {options} & until [ -e .qcg*/connection.json ]; do sleep 0.1; done\n"
        "pilotfish submit tasks.txt; pilotfish finish; wait",
        wd,
        "--nodes=2",
        "--ntasks-per-node=2",
    )
    assert slurm.wait_for_end(job) == "COMPLETED", (wd / f"{job}.out").read_text()
    (status,) = wd.glob(".qcg*/final_status.json")
    assert json.loads(status.read_text())["IterationStats"]["FinishedIterations"] == 17, (wd / f"{job}.out").read_text()
    assert "PILOTFISH_CONNECT=" not in (wd / "env.txt").read_text(), "no task sees the keys"
    assert set((wd / "hosts").read_text().split()) == {"node1", "node2"}


@pytest.mark.parametrize(("placement", "program"), [("mpiexec", "mpiexec.openmpi"), ("hydra", "mpiexec.hydra")])
def test_agents_started_by_an_mpi(slurm: Slurm, wd: Path, placement: str, program: str) -> None:
    require(program)
    (wd / "tasks.txt").write_text("hostname >>where; sleep 0.2\n" * 24)
    root = "export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1"
    script = f"{root}; PILOTFISH_AGENT_LAUNCHER={placement} pilotfish run tasks.txt"
    job = slurm.submit(script, wd, "--nodes=3", "--ntasks-per-node=2")
    assert slurm.wait_for_end(job) == "COMPLETED", (wd / f"{job}.out").read_text()
    assert set((wd / "where").read_text().split()) == {"node1", "node2", "node3"}


def test_a_job_that_a_task_submits_is_a_job_of_its_own(slurm: Slurm, wd: Path) -> None:
    """As one that the batch script submits; `srun` in the task still finds the task's share, and says nothing of binding."""
    (wd / "inner.sh").write_text("#!/bin/bash\nenv >$1\nsrun hostname >$1.hosts 2>$1.err\n")
    submit = "sbatch --wait --nodes=2 --ntasks=2 --time=1 --output=/dev/null inner.sh"
    (wd / "tasks.txt").write_text(f"srun hostname >share 2>share.err; {submit} of-task\n")
    job = slurm.submit(f"{submit} of-script; pilotfish run tasks.txt", wd, "--nodes=2", "--ntasks-per-node=1")
    assert slurm.wait_for_end(job) == "COMPLETED", (wd / f"{job}.out").read_text()
    assert len((wd / "share").read_text().split()) == 1
    assert (wd / "share.err").read_text() == ""
    assert len((wd / "of-task.hosts").read_text().split()) == 2
    assert (wd / "of-task.err").read_text() == ""
    names = [
        {line.partition("=")[0] for line in (wd / who).read_text().splitlines()} for who in ("of-task", "of-script")
    ]
    assert names[0] - names[1] == set()
