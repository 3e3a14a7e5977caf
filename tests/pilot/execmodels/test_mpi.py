"""Real Open MPI and MPICH, started by a pilot on this machine."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from pilotfish import Jobs, LocalManager

HERE = sorted(os.sched_getaffinity(0))
LAUNCHERS = [("openmpi", {"mpirun": "mpirun.openmpi"}), ("mpich", {})]

pytestmark = pytest.mark.usefixtures("mpi_environ")


def _ranks(wd: Path) -> list[tuple[str, str]]:
    """(RANK/SIZE, processors) by rank."""
    lines = [line.split() for line in (wd / "out").read_text().splitlines()]
    return sorted((rank, cpus) for rank, _, cpus in lines)


@pytest.mark.parametrize(("model", "options"), LAUNCHERS)
def test_four_ranks_over_two_virtual_nodes(
    model: str, options: dict[str, str], mpi_program: Callable[[str], Path], wd: Path
) -> None:
    """All virtual nodes are this machine, and their cores only a number: nothing is bound to them."""
    jobs = Jobs().add(
        name="mpi",
        exec=str(mpi_program(model)),
        model=model,
        model_opts=options,
        numNodes={"exact": 2},
        numCores={"exact": 2},
        stdout="out",
        stderr="err",
    )
    with LocalManager(["--wd", str(wd), "--nodes", "2,2"]) as pilot:
        pilot.submit(jobs)
        assert pilot.wait4("mpi") == {"mpi": "SUCCEED"}, (wd / "err").read_text()
        files = [path.name for path in wd.glob(".qcgpjm-service-*/mpi.*")]
    all_cpus = ",".join(map(str, HERE))
    assert _ranks(wd) == [(f"{rank}/4", all_cpus) for rank in range(4)]
    assert files == []


@pytest.mark.skipif(len(HERE) < 2, reason="one processor: nothing to choose")
@pytest.mark.parametrize(("model", "options"), LAUNCHERS)
def test_ranks_on_real_cores_are_bound_one_by_one(
    model: str, options: dict[str, str], mpi_program: Callable[[str], Path], wd: Path
) -> None:
    jobs = Jobs().add(
        name="mpi",
        exec=str(mpi_program(model)),
        model=model,
        model_opts=options,
        numCores={"exact": 2},
        stdout="out",
        stderr="err",
    )
    with LocalManager(["--wd", str(wd)]) as pilot:
        pilot.submit(jobs)
        assert pilot.wait4("mpi") == {"mpi": "SUCCEED"}, (wd / "err").read_text()
    assert _ranks(wd) == [("0/2", str(HERE[0])), ("1/2", str(HERE[1]))]


def test_a_cancelled_parallel_job_leaves_no_rank_behind(
    mpi_program: Callable[[str], Path], wd: Path, wait_until: Callable[..., None]
) -> None:
    """That no process is left is checked after every test (tests/conftest.py)."""
    mpi_program("mpich")
    jobs = Jobs().add(
        name="mpi", script="echo $$$$PMI_RANK > rank-$$$$PMI_RANK; sleep 600", model="mpich", numCores={"exact": 2}
    )
    with LocalManager(["--wd", str(wd), "--nodes", "2"]) as pilot:
        pilot.submit(jobs)
        wait_until(lambda: len(list(wd.glob("rank-*"))) == 2, "both ranks run")
        pilot.cancel(["mpi"])
        assert pilot.wait4("mpi") == {"mpi": "CANCELED"}


def test_a_launcher_that_is_not_there_is_named_with_what_to_do(wd: Path) -> None:
    jobs = Jobs().add(
        name="mpi", exec="true", model="intelmpi", model_opts={"mpirun": "no-mpirun"}, numCores={"exact": 2}
    )
    with LocalManager(["--wd", str(wd), "--nodes", "2"]) as pilot:
        pilot.submit(jobs)
        assert pilot.wait4("mpi") == {"mpi": "FAILED"}
        message = pilot.info("mpi")["jobs"]["mpi"]["data"]["messages"]
    assert "'no-mpirun' (not found on PATH); execution model 'intelmpi' needs it" in message
