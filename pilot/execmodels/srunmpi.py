"""Execution model `srunmpi`: a Slurm step with one rank on each core. `srun_args` tells which PMI they need: `--mpi=pmix`."""

from __future__ import annotations

from collections.abc import Sequence

from .base import LaunchError, Place, Wrapped, by_rank
from .default import hostfile


def wrap(words: Sequence[str], place: Place) -> Wrapped:
    if place.batch != "slurm":
        raise LaunchError(
            f"execution model 'srunmpi' needs the nodes of a Slurm allocation, these are of kind '{place.batch}'; "
            "use openmpi, intelmpi or mpich"
        )
    path = f"{place.stem}.hostfile"
    argv = [
        "srun",
        f"--ntasks={len(place.cores)}",
        f"--nodes={len(place.nodes)}",
        "--distribution=arbitrary",
        "--cpu-bind=none",
        "--overcommit",
        f"--mem={-(-place.mem_bytes >> 20)}",  # MiB; Slurm holds the limit where it does so for jobs. 0: all the job has
        *place.options.get("srun_args", []),
    ]
    # A step sees all GPUs of the job, whatever the variable said before; and not every Slurm binds when it is asked to.
    program = by_rank(words, place, "SLURM_PROCID", bind=True, gpus=True)
    return Wrapped([*argv, *program], {"SLURM_OVERLAP": "1", "SLURM_HOSTFILE": path}, {path: hostfile(place)})
