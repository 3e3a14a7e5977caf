"""Grid Engine: `qrsh -inherit`. The parallel environment needs control_slaves TRUE, and a slot for it on each node."""

from __future__ import annotations

from collections.abc import Sequence

from .base import Starter


def _argv(nodes: Sequence[str], command: Sequence[str]) -> list[str]:
    return ["qrsh", "-inherit", "-nostdin", "-V", nodes[0], *command]


STARTER = Starter("qrsh", _argv, joins_words=True)
