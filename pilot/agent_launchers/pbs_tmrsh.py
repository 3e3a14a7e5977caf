"""PBS Pro, OpenPBS: `pbs_tmrsh`, which takes a host; `pbsdsh` would take the number of a chunk."""

from __future__ import annotations

from collections.abc import Sequence

from .base import Starter


def _argv(nodes: Sequence[str], command: Sequence[str]) -> list[str]:
    return ["pbs_tmrsh", nodes[0], *command]


STARTER = Starter("pbs_tmrsh", _argv)
