"""mpiexec of an MPI that knows the allocation: Open MPI, and Hydra (MPICH, Intel MPI), whose options differ."""

from __future__ import annotations

from collections.abc import Sequence

from .base import Starter


def _openmpi(nodes: Sequence[str], command: Sequence[str]) -> list[str]:
    one_each = ["--map-by", "ppr:1:node", "--bind-to", "none", "--oversubscribe"]
    return ["mpiexec", "-np", str(len(nodes)), "--host", ",".join(nodes), *one_each, *command]


def _hydra(nodes: Sequence[str], command: Sequence[str]) -> list[str]:
    return [
        "mpiexec.hydra",
        "-n",
        str(len(nodes)),
        "-hosts",
        ",".join(nodes),
        "-ppn",
        "1",
        "-bind-to",
        "none",
        *command,
    ]


def _fujitsu(nodes: Sequence[str], command: Sequence[str]) -> list[str]:
    return ["mpiexec", "-n", str(len(nodes)), *command]


STARTER = Starter("mpiexec", _openmpi, at_once=True)
HYDRA = Starter("hydra", _hydra, at_once=True, connect="environment")
FUJITSU = Starter("pjm", _fujitsu, at_once=True, starts_again=False)
"""Nodes are those of the job in their order; `pjsub --mpi proc=NODES` gives one process on each."""
