"""Execution model `flux`: `flux run` inside a Flux instance, on the nodes that the pilot chose.

Flux would choose the cores anew, and knows nothing of other tasks of the pilot: so it binds nothing, and a shell line does. It
spreads ranks evenly over nodes. No Flux was at hand when this was written; the command line is by its manual.
"""

from __future__ import annotations

from collections.abc import Sequence

from ..model.resources import host_of
from .base import LaunchError, Place, Wrapped, by_rank


def wrap(words: Sequence[str], place: Place) -> Wrapped:
    if place.batch != "flux":
        raise LaunchError(
            f"execution model 'flux' needs the nodes of a Flux instance, these are of kind '{place.batch}'; "
            "use openmpi, intelmpi or mpich"
        )
    if len({len(node.core_ids) for node in place.nodes}) > 1:
        raise LaunchError(
            "execution model 'flux' needs as many cores on each node; "
            'say {"numNodes": N, "numCores": {"exact": M}} in resources'
        )
    argv = [
        "flux",
        "run",
        f"--nodes={len(place.nodes)}",
        f"--ntasks={len(place.cores)}",
        f"--requires=hosts:{','.join(host_of(node.name) for node in place.nodes)}",
        "--setopt=cpu-affinity=off",
        "--setopt=gpu-affinity=off",
        *place.options.get("flux_args", []),
    ]
    return Wrapped([*argv, *by_rank(words, place, "FLUX_TASK_RANK", bind=True)])
