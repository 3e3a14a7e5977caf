"""ssh: for nodes without a batch system, or whose batch system lets users log in to their nodes.

The environment is not passed on; what agents need of it goes into `--agent-prelude`.
"""

from __future__ import annotations

from collections.abc import Sequence

from .base import AgentLauncher

_FLAGS = (
    "-T",
    "-o",
    "BatchMode=yes",  # a question would wait for ever
    "-o",
    "ConnectTimeout=15",
    "-o",
    "ServerAliveInterval=10",  # so that it ends when the host is gone
    "-o",
    "ServerAliveCountMax=3",
)


def _argv(nodes: Sequence[str], command: Sequence[str]) -> list[str]:
    return ["ssh", *_FLAGS, nodes[0], *command]


SSH = AgentLauncher("ssh", _argv, joins_words=True, connect="stdin")
