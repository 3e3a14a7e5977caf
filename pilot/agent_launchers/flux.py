"""Flux: `flux exec` runs a command on each broker, and a broker is a node."""

from __future__ import annotations

from collections.abc import Sequence

from .base import Starter

_ONLY_HERE = '[ "$(hostname)" = "$1" ] || exit 0; shift; exec "$@"'
"""`flux exec` knows ranks, not hosts; so for one host it runs everywhere, and goes on there only."""


def _argv(nodes: Sequence[str], command: Sequence[str]) -> list[str]:
    everywhere = ["flux", "exec", "--noinput", "--rank=all"]
    if len(nodes) == 1:
        return [*everywhere, "/bin/sh", "-c", _ONLY_HERE, "sh", nodes[0], *command]
    return [*everywhere, *command]


STARTER = Starter("flux", _argv, at_once=True, connect="environment")
