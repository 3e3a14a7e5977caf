"""Parallel tasks over the nodes of a real Slurm job, with each of the launchers that can be had."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from emulated import Slurm

MODELS: list[tuple[str, str, dict[str, object]]] = [
    ("openmpi", "openmpi", {"mpirun": "mpirun.openmpi"}),
    ("mpich", "mpich", {}),
    ("srunmpi", "mpich", {"srun_args": ["--mpi=pmi2"]}),
]


@pytest.mark.usefixtures("mpi_environ")
def test_four_ranks_over_two_nodes_each_bound_to_its_core(
    networked_slurm: Slurm, mpi_program: Callable[[str], Path], wd: Path
) -> None:
    """In one pilot, so that each finds the nodes as the one before has left them."""
    jobs = [_job(model, str(mpi_program(kind)), options) for model, kind, options in MODELS]
    (wd / "jobs.json").write_text(json.dumps(jobs))
    job = networked_slurm.submit("pilotfish run jobs.json", wd, "--nodes=2", "--ntasks-per-node=2", "--export=ALL")
    assert networked_slurm.wait_for_end(job) == "COMPLETED", (wd / f"{job}.out").read_text()
    for model, *_ in MODELS:
        lines = sorted((wd / f"{model}.out").read_text().splitlines())
        assert lines == ["0/4 node1 0", "1/4 node1 1", "2/4 node2 0", "3/4 node2 1"], model


def _job(model: str, program: str, options: Mapping[str, object]) -> dict[str, object]:
    execution = {
        "exec": program,
        "model": model,
        "model_opts": options,
        "stdout": f"{model}.out",
        "stderr": f"{model}.err",
    }
    return {"name": model, "execution": execution, "resources": {"numNodes": 2, "numCores": 2}}


def test_a_task_over_nodes_can_spread_itself_with_srun(networked_slurm: Slurm, wd: Path) -> None:
    """Model `default`: Slurm's variables, the host file and SLURM_HOSTFILE show the task its own part of the job."""
    script = "cat $$$$PILOTFISH_HOSTFILE > hosts; srun --distribution=arbitrary hostname > ranks"
    execution = {"script": script, "stderr": "err"}
    jobs = [{"name": "spread", "execution": execution, "resources": {"numCores": 3}}]
    (wd / "jobs.json").write_text(json.dumps(jobs))
    job = networked_slurm.submit("pilotfish run jobs.json", wd, "--nodes=3", "--ntasks-per-node=2")
    assert networked_slurm.wait_for_end(job) == "COMPLETED", (wd / f"{job}.out").read_text()
    hosts = (wd / "hosts").read_text().split()
    assert (len(hosts), len(set(hosts))) == (3, 2)
    assert sorted((wd / "ranks").read_text().split()) == hosts


FUNCTIONS = """
import os, sys
from pilotfish import Executor

def places():
    from mpi4py import MPI
    return MPI.COMM_WORLD.gather((os.uname().nodename, sorted(os.sched_getaffinity(0))))

with Executor() as executor:
    print(executor.options(ranks=4, nodes=2).submit(places).result())
"""


@pytest.mark.usefixtures("mpi_environ")
def test_a_function_over_the_ranks_of_two_nodes(networked_slurm: Slurm, wd: Path) -> None:
    """As those of a program: each on its core."""
    pytest.importorskip("mpi4py")
    (wd / "program.py").write_text(FUNCTIONS)
    options = "--nodes=2", "--ntasks-per-node=2", "--export=ALL"
    job = networked_slurm.submit(f"{sys.executable} program.py", wd, *options)
    assert networked_slurm.wait_for_end(job) == "COMPLETED", (wd / f"{job}.out").read_text()
    places = [("node1", [0]), ("node1", [1]), ("node2", [0]), ("node2", [1])]
    assert (wd / f"{job}.out").read_text() == f"{places}\n"
