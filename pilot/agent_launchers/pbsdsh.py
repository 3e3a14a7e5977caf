"""Torque: `pbsdsh -h`."""

from __future__ import annotations

from collections.abc import Sequence

from .base import Starter


def _argv(nodes: Sequence[str], command: Sequence[str]) -> list[str]:
    return ["pbsdsh", "-h", nodes[0], *command]


STARTER = Starter("pbsdsh", _argv)
