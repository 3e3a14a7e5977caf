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
}
"""Name -> the module with the class of that name. A new batch system has a line here."""


def names() -> tuple[str, ...]:
    return tuple(HOMES)


def aliases() -> dict[str, str]:
    """Other names, in small letters -> the name."""
    return {alias: name for name in HOMES for alias in system(name).aliases}


def keys(name: str) -> KeysOfSystem:
    return system(name).keys


def system(name: str) -> type[BatchSystem]:
    """The class of the batch system of that name, which the description has checked."""
    found: type[BatchSystem] = getattr(import_module(HOMES[name], __package__), name)
    return found


def build_machine(batch_type: str) -> BatchSystem:
    return system(batch_type)()


def job_variables(name: str) -> JobVariables:
    """In which variables a job of that batch system is told about itself: its own, then those of all others.

    The latter count where one system is wrapped in the commands of another.
    """
    first = system(name).variables
    return reduce(JobVariables.followed_by, [first, *(system(other).variables for other in HOMES if other != name)])
