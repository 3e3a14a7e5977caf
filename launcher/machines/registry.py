"""Batch systems by the names that machine files have; each is loaded when it is used."""

from __future__ import annotations

from functools import reduce
from importlib import import_module
from typing import TYPE_CHECKING

from ..description.schema import KeysOfSystem
from ..job.spec import JobVariables

if TYPE_CHECKING:
    from .base import BatchSystem

HOMES = {
    "Slurm": ".slurm",
    "SlurmJobArray": ".slurm_array",
    "PBS": ".pbs",
    "Torque": ".torque",
    "LSF": ".lsf",
    "SGE": ".sge",
    "JH_UniScheduler": ".jh",
    "Shell": ".shell",
    "Fugaku": ".pjm",
    "DistributedShell": ".yarn",
    "Bohrium": ".bohrium",
    "OpenAPI": ".openapi",
}
"""Name -> the module with the class of that name. A new batch system has a line here."""
_own: dict[str, type[BatchSystem]] = {}
"""Those that the program has brought with it, by name."""


def register(system: type[BatchSystem]) -> None:
    """Make a class known under its `kind`, in this program only: another one cannot look at its jobs."""
    _own[system.kind] = system


def names() -> tuple[str, ...]:
    """Those that everybody has."""
    return tuple(HOMES)


def aliases() -> dict[str, str]:
    """Other names, in small letters -> the name; also of those that this program has brought with it."""
    found = {alias: name for name in names() for alias in system(name).aliases}
    return found | {name.lower(): name for name in _own}


def keys(name: str) -> KeysOfSystem:
    return system(name).keys


def system(name: str) -> type[BatchSystem]:
    """The class of the batch system of that name, which the description has checked."""
    if name in _own:
        return _own[name]
    found: type[BatchSystem] = getattr(import_module(HOMES[name], __package__), name)
    return found


def build_machine(batch_type: str) -> BatchSystem:
    return system(batch_type)()


def job_variables(name: str) -> JobVariables:
    """In which variables a job of that batch system is told about itself: its own, then those of all others.

    The latter count where one system is wrapped in the commands of another.
    """
    first = system(name).variables
    return reduce(JobVariables.followed_by, [first, *(system(other).variables for other in names() if other != name)])
