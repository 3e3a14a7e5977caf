"""Functions over several MPI ranks."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import patience
import pytest
from patience import PATIENCE_S

from pilotfish import Executor

HERE = sorted(os.sched_getaffinity(0))


@pytest.fixture(scope="module")
def executor() -> Iterator[Executor]:
    """On two virtual nodes, each with two cores."""
    pytest.importorskip("mpi4py")
    patience.need("mpirun")
    with Executor(server_args=["--nodes", "2,2"]) as found:
        assert found.pilot
        yield found


def _environ() -> dict[str, str]:
    """What the fixture says of MPI here, for function workers of a pilot that runs; there may be more ranks than processors."""
    ours = {name: value for name, value in os.environ.items() if name.startswith(("OMPI_", "UCX_"))}
    return {**ours, "OMPI_MCA_mpi_yield_when_idle": "1"}


def _sum_of_ranks(factor: int) -> tuple[int, int]:
    from mpi4py import MPI

    world = MPI.COMM_WORLD
    print("rank", world.Get_rank())
    return world.allreduce(factor * world.Get_rank()), world.Get_size()


def _fails_at_one() -> None:
    from mpi4py import MPI

    if MPI.COMM_WORLD.Get_rank() == 1:
        raise KeyError("rank 1")
    MPI.COMM_WORLD.Barrier()


def _processors() -> list[set[int]]:
    from mpi4py import MPI

    return MPI.COMM_WORLD.gather(os.sched_getaffinity(0)) or []


for function in (_sum_of_ranks, _fails_at_one, _processors):
    function.__module__ = "__main__"  # taken along: to import this file costs each rank more than all else


def test_a_function_over_the_ranks_of_two_nodes(executor: Executor, mpi_environ: None) -> None:
    """All ranks call it; the result is that of rank 0, an error that of the rank that raised it."""
    here = executor.options(env=_environ())
    future = here.options(ranks=2, nodes=2).submit(_sum_of_ranks, 10)
    assert future.result(PATIENCE_S) == (10, 2)
    assert sorted(future.output.split("\n")[:2]) == ["rank 0", "rank 1"]
    info = executor.pilot.info(future.task)["jobs"][future.task]["data"]
    assert info["runtime"]["allocation"] == "n0[0],n1[0]"
    by_model = here.options(ranks=3, model="openmpi", model_opts={"mpirun": "mpirun.openmpi"})
    assert isinstance(by_model.submit(_fails_at_one).exception(PATIENCE_S), KeyError)


@pytest.mark.skipif(len(HERE) < 2, reason="one processor: nothing to choose")
def test_ranks_on_real_cores_are_bound_one_by_one(mpi_environ: None) -> None:
    """As those of a parallel program."""
    pytest.importorskip("mpi4py")
    patience.need("mpirun")
    with Executor() as executor:
        assert executor.options(ranks=2, env=_environ()).submit(_processors).result(PATIENCE_S) == [
            {HERE[0]},
            {HERE[1]},
        ]


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"ranks": 0}, "ranks: 0 is not a number of ranks"),
        ({"ranks": 3, "nodes": 2}, "nodes: 3 ranks cannot be spread over 2 nodes"),
        ({"ranks": 2, "cores": 2}, "cores: an MPI function has a core for each"),
        ({"model": "openmpi"}, "model: only the ranks of an MPI function"),
        ({"ranks": 2, "model": "lam"}, "lam"),
        ({"ranks": 2, "model": "openmpi", "model_opts": {"srun_args": []}}, "srun_args"),
    ],
)
def test_wrong_ranks_are_refused_where_they_are_named(executor: Executor, options: dict[str, Any], error: str) -> None:
    """As ValueError, before anything is sent."""
    with pytest.raises(ValueError, match=error):
        executor.options(**options)
