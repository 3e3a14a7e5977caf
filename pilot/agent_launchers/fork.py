"""Agents on this machine: child processes, one for each (virtual) node."""

from __future__ import annotations

from collections.abc import Sequence

from .base import Starter


def _argv(nodes: Sequence[str], command: Sequence[str]) -> list[str]:
    return list(command)


STARTER = Starter("fork", _argv, is_agent=True, connect="environment")
