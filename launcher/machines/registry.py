"""Batch systems by the names that machine files have; each is loaded when it is used."""

from __future__ import annotations

from importlib import import_module

from .base import Machine

_HOMES = {
    "Slurm": "slurm",
    "SlurmJobArray": "slurm_array",
    "PBS": "pbs",
    "Torque": "torque",
    "SGE": "sge",
    "LSF": "lsf",
    "JH_UniScheduler": "jh",
    "Fugaku": "pjm",
    "Shell": "shell",
}


def build_machine(batch_type: str) -> Machine:
    """The batch system of that name, which the description has checked."""
    module = import_module(f".{_HOMES[batch_type]}", __package__)
    machine: Machine = getattr(module, batch_type)()
    return machine
