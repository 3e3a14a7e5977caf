"""mpiexec of an MPI that knows the allocation: Open MPI, and Hydra (MPICH, Intel MPI), whose options differ."""

from __future__ import annotations

from collections.abc import Sequence

from .base import AgentLauncher


def _openmpi(nodes: Sequence[str], command: Sequence[str]) -> list[str]:
    one_each = ["--map-by", "ppr:1:node", "--bind-to", "none", "--oversubscribe"]
    return ["mpiexec", "-np", str(len(nodes)), "--host", ",".join(nodes), *one_each, *command]


def _hydra(nodes: Sequence[str], command: Sequence[str]) -> list[str]:
    one_each = ["-ppn", "1", "-bind-to", "none"]
    return ["mpiexec.hydra", "-n", str(len(nodes)), "-hosts", ",".join(nodes), *one_each, *command]


OPENMPI = AgentLauncher("mpiexec", _openmpi, at_once=True)
HYDRA = AgentLauncher("hydra", _hydra, at_once=True, connect="environment")
