"""Execution model `intelmpi`: Intel MPI's mpirun, with one section for each node that says which processors its ranks get."""

from __future__ import annotations

from collections.abc import Sequence

from .base import Place, Wrapped, by_rank, mask_of


def wrap(words: Sequence[str], place: Place) -> Wrapped:
    argv = [place.options.get("mpirun", "mpirun"), *place.options.get("mpirun_args", [])]
    env = {"I_MPI_PIN": "1" if place.bound else "0"}
    if place.is_local:
        env["I_MPI_HYDRA_BOOTSTRAP"] = "fork"
    else:
        env |= place.system.model_variables.get("intelmpi", {})
    program = by_rank(words, place, "PMI_RANK")
    cores = place.cores
    for host, ranks in place.hosts:
        pinned, cores = cores[:ranks], cores[ranks:]
        argv += ["-host", host, "-n", str(ranks)]
        if place.bound:
            # Masks, because a list of processors can give a rank only one of the hardware threads of its core.
            argv += ["-env", "I_MPI_PIN_DOMAIN", f"[{','.join(map(mask_of, pinned))}]"]
        argv += [*program, ":"]
    return Wrapped(argv[:-1], env)
