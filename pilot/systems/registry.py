"""The batch systems that the inside knows, and the agent launchers there are: the one place that lists them.

A new system is one file beside this one and one line in SYSTEMS; docs/developing/batch-systems.md shows it. Everything else
(options and their help, detection, starting agents, execution models, `pilotfish resources`) asks here.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from ..agent_launchers import mpiexec, ssh
from ..agent_launchers.base import AgentLauncher
from ..agent_launchers.process import FORK
from ..model.errors import SettingsError
from . import flux, local, lsf, pbs, pjm, sge, slurm, torque
from .base import BatchSystem, StepProcesses

SYSTEMS: tuple[BatchSystem, ...] = (
    slurm.SYSTEM,
    pbs.SYSTEM,
    torque.SYSTEM,
    lsf.SYSTEM,
    sge.SYSTEM,
    pjm.SYSTEM,
    flux.SYSTEM,
    local.SYSTEM,
)
"""In the order in which they are asked whether we are in one of their jobs. Flux comes late: it runs inside the others, and
outside its own jobs it is only a way to start them. `local` is inside everywhere, so it is last."""

GENERAL_LAUNCHERS: tuple[AgentLauncher, ...] = (FORK, mpiexec.OPENMPI, mpiexec.HYDRA, ssh.SSH)
"""Those that belong to no batch system."""

AUTO = "auto"
GIVEN = "given"
"""The kind of an allocation whose nodes the user has made up (`--nodes`): they are on this machine."""
VIRTUAL = frozenset({local.SYSTEM.name, GIVEN})
"""Kinds of allocations that no batch system has given."""
_COMMON = "common"


def system_of(kind: str) -> BatchSystem:
    """The batch system of an allocation of that kind; `local` for virtual nodes and for a kind that is not known."""
    return next((system for system in SYSTEMS if system.name == kind), local.SYSTEM)


def named(name: str) -> BatchSystem:
    """The system that `--resources` calls by that name. Raises SettingsError."""
    for system in SYSTEMS:
        if name.lower() in (system.name, *system.aliases):
            return system
    raise SettingsError(f'"{name}" is not known', where="--resources", remedy=f"use one of {', '.join(names())}")


def names() -> list[str]:
    """What `--resources` takes, without the aliases."""
    return [AUTO, *(system.name for system in SYSTEMS)]


# --- agent launchers ----------------------------------------------------------------------------------------------------


def launchers() -> dict[str, AgentLauncher]:
    """All agent launchers by name: the general ones and those of the systems."""
    return {launcher.name: launcher for launcher in (*GENERAL_LAUNCHERS, *(system.launcher for system in SYSTEMS))}


def launcher_for(kind: str, asked: str | None) -> AgentLauncher:
    """The launcher asked for, else that of the allocation's system. Raises SettingsError for a name that does not exist."""
    if asked is None:
        return system_of(kind).launcher
    known = launchers()
    if asked not in known:
        raise SettingsError(
            f'"{asked}" is not known', where="--agent-launcher", remedy=f"use one of {', '.join(known)}"
        )
    return known[asked]


# --- what tasks see -----------------------------------------------------------------------------------------------------


def schemas() -> list[str]:
    """What `--envschema` takes: the variables of which systems a task can be told its place in."""
    return [AUTO, _COMMON, *(system.name for system in SYSTEMS if system.task_variables is not None)]


def schema_of(kind: str) -> str:
    """What `auto` means in an allocation of that kind."""
    return _COMMON if system_of(kind).task_variables is None else kind


def openmpi_components() -> list[str]:
    """What Open MPI calls the systems, each once."""
    return list(dict.fromkeys(system.openmpi_component for system in SYSTEMS if system.openmpi_component))


def rank_variables() -> re.Pattern[bytes]:
    """Matches the names of variables by which a system has told the agents that they are ranks."""
    return _pattern(system.rank_variables for system in SYSTEMS)


def private_variables() -> re.Pattern[bytes]:
    """Matches the names of variables that a job submitted from a task must not inherit, whatever the system."""
    return _pattern(system.private_variables for system in SYSTEMS)


def submit_commands() -> list[str]:
    """The commands of all systems that send their environment along with a new job, each once."""
    return list(dict.fromkeys(command for system in SYSTEMS for command in system.submit_commands))


def script_suffixes() -> frozenset[str]:
    """How the job scripts of all systems are named."""
    return frozenset(suffix for system in SYSTEMS for suffix in system.script_suffixes)


def step_processes() -> list[StepProcesses]:
    return [system.step_processes for system in SYSTEMS if system.step_processes is not None]


def step_variables(kind: str) -> re.Pattern[bytes]:
    """Matches the names of variables that tell of the agents' own step in an allocation of that kind."""
    return _pattern([system_of(kind).step_variables])


def _pattern(patterns: Iterable[str]) -> re.Pattern[bytes]:
    """One pattern of all that are not empty; it matches nothing when all are."""
    parts = [f"(?:{pattern})" for pattern in patterns if pattern]
    return re.compile(" | ".join(parts).encode() or rb"(?!)", re.VERBOSE)
