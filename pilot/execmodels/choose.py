"""The execution models by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from . import default, flux, intelmpi, mpich, openmpi, srunmpi
from .base import LaunchError, Place, Wrapped

Wrap = Callable[[Sequence[str], Place], Wrapped]

WRAPS: Mapping[str, Wrap] = {
    "default": default.wrap,
    "threads": default.wrap,
    "openmpi": openmpi.wrap,
    "intelmpi": intelmpi.wrap,
    "mpich": mpich.wrap,
    "srunmpi": srunmpi.wrap,
    "flux": flux.wrap,
}


def wrap_of(model: str | None) -> Wrap:
    """How the model starts a program. Raises LaunchError for one there is not."""
    wrap = WRAPS.get((model or "default").lower())
    if wrap is None:
        raise LaunchError(f"unknown job execution model '{model}'; known are {', '.join(WRAPS)}")
    return wrap
