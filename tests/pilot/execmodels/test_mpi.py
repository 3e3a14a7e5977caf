"""Real Open MPI and MPICH, started by a pilot on this machine."""

from __future__ import annotations

import os
import sys
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


OWN_MPIRUNS = {
    "openmpi": ["", "--bind-to core", "--map-by slot", "--map-by node:PE=1", "-N 1"],
    "mpich": ["", "-bind-to core", "-bind-to socket"],
}
"""Options with which tasks start the launcher themselves."""


@pytest.mark.skipif(len(HERE) < 2, reason="one processor: nothing to choose")
@pytest.mark.parametrize("kind", OWN_MPIRUNS)
def test_ranks_that_a_task_starts_itself_stay_on_its_core(
    kind: str, mpi_program: Callable[[str], Path], wd: Path
) -> None:
    """Whatever the launcher is asked to do, and whatever runs beside it."""
    mpirun = {"openmpi": "mpirun.openmpi", "mpich": "mpiexec.hydra"}[kind]
    lines = [f"{mpirun} {options} -n 1 {mpi_program(kind)}" for options in OWN_MPIRUNS[kind]]
    for number, line in enumerate([*lines, *lines]):
        jobs_script = f"echo $QCG_PM_CPU_SET; {line}"
        (wd / f"{number}.sh").write_text(jobs_script)
    jobs = Jobs().add(
        name="own",
        exec="bash",
        args=["${it}.sh"],
        stdout="${it}.out",
        stderr="${it}.err",
        iteration=2 * len(lines),
    )
    with LocalManager(["--wd", str(wd)]) as pilot:
        pilot.submit(jobs)
        pilot.wait4all()
    given = [(wd / f"{number}.out").read_text().split() for number in range(2 * len(lines))]
    for number, (core, *rank) in enumerate(given):
        assert rank[-1:] == [core], (lines[number % len(lines)], (wd / f"{number}.err").read_text())
    assert {core for core, *_ in given} == {str(cpu) for cpu in HERE}


@pytest.mark.parametrize("kind", OWN_MPIRUNS)
def test_ranks_of_tasks_whose_cores_are_only_counted_are_not_bound(
    kind: str, mpi_program: Callable[[str], Path], wd: Path
) -> None:
    """Open MPI would bind the ranks of all tasks to the first core of the machine."""
    mpirun = {"openmpi": "mpirun.openmpi", "mpich": "mpiexec.hydra"}[kind]
    jobs = Jobs().add(name="own", exec=mpirun, args=["-n", "1", str(mpi_program(kind))], stdout="out", stderr="err")
    with LocalManager(["--wd", str(wd), "--nodes", "1,1"]) as pilot:
        pilot.submit(jobs)
        assert pilot.wait4("own") == {"own": "SUCCEED"}, (wd / "err").read_text()
    assert _ranks(wd) == [("0/1", ",".join(map(str, HERE)))]


@pytest.mark.skipif(len(HERE) < 2, reason="one processor: nothing to choose")
def test_a_pilot_in_a_task_tells_its_own_tasks_the_cores_that_they_have(
    mpi_program: Callable[[str], Path], wd: Path
) -> None:
    """What the outer pilot has told its task is not taken for the user's word."""
    last = HERE[-1]
    script = (
        f"taskset -c {last} {sys.executable} -m pilotfish run -q --output inner -- sh -c '$0 -n 1 --bind-to core $1'"
    )
    line = f"{script} mpirun.openmpi {mpi_program('openmpi')}"
    jobs = Jobs().add(name="outer", script=line.replace("$", "$$"), numCores={"exact": 2}, stderr="err")
    with LocalManager(["--wd", str(wd)]) as pilot:
        pilot.submit(jobs)
        assert pilot.wait4("outer") == {"outer": "SUCCEED"}, (wd / "err").read_text()
    assert (wd / "inner" / "task.out").read_text().split()[-1] == str(last)
