"""Functions over several MPI ranks."""

from __future__ import annotations

import patience
import pytest
from patience import PATIENCE_S

from pilotfish import Executor


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


def test_a_function_over_ranks(mpi_environ: None) -> None:
    """All ranks call it; the result is that of rank 0, an error that of the rank that raised it."""
    pytest.importorskip("mpi4py")
    patience.need("mpirun")
    with Executor(2) as executor:
        over = executor.options(ranks=2)
        future = over.submit(_sum_of_ranks, 10)
        assert future.result(PATIENCE_S) == (10, 2)
        assert sorted(future.output.split("\n")[:2]) == ["rank 0", "rank 1"]
        assert isinstance(over.submit(_fails_at_one).exception(PATIENCE_S), KeyError)
        with pytest.raises(ValueError, match="ranks"):
            executor.options(ranks=0)
