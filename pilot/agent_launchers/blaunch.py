"""LSF: `blaunch`, which passes the environment on."""

from __future__ import annotations

from collections.abc import Sequence

from .base import Starter


def _argv(nodes: Sequence[str], command: Sequence[str]) -> list[str]:
    return ["blaunch", "-no-shell", nodes[0], *command]


STARTER = Starter("blaunch", _argv, connect="environment")
