"""Which starter for which allocation."""

from __future__ import annotations

from ..model.errors import SettingsError
from . import blaunch, flux, fork, mpiexec, pbs_tmrsh, pbsdsh, qrsh, srun, ssh
from .base import Starter

STARTERS = {
    starter.name: starter
    for starter in (
        fork.STARTER,
        srun.STARTER,
        pbs_tmrsh.STARTER,
        pbsdsh.STARTER,
        blaunch.STARTER,
        qrsh.STARTER,
        mpiexec.STARTER,
        mpiexec.HYDRA,
        mpiexec.FUJITSU,
        flux.STARTER,
        ssh.STARTER,
    )
}

BY_KIND = {
    "slurm": "srun",
    "pbs": "pbs_tmrsh",
    "torque": "pbsdsh",
    "lsf": "blaunch",
    "sge": "qrsh",
    "pjm": "pjm",
    "flux": "flux",
    "local": "fork",
    "given": "fork",
}
"""Kind of the allocation -> starter. `given` nodes are virtual ones of this machine unless another starter is asked for."""


def choose(kind: str, asked: str | None) -> Starter:
    """The starter asked for, else the one of the allocation's kind. Raises SettingsError for a name there is not."""
    name = asked or BY_KIND[kind]
    if name not in STARTERS:
        raise SettingsError(
            f'there is no way "{name}" to start agents', where="--placement", remedy=f"use {', '.join(STARTERS)}"
        )
    return STARTERS[name]
