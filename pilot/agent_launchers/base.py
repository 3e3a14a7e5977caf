"""An agent launcher: a way to start agents on nodes, as a table of facts and one pure function.

Most batch systems start one command on one node at a time; some (`at_once`) start it on all nodes with one process of theirs,
which builds its own tree. The former are kept busy with a bounded number of starts in flight; docs/performance.md tells why
there is no tree of our own.

The launcher that a batch system brings along stands in the system's own file (pilot/systems/); this folder has those that
belong to none. docs/developing/agent-launchers.md shows how to add one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class AgentLauncher:
    """One way to start agents.

    Attributes:
        name: what `--agent-launcher` calls it.
        argv: (names of the nodes, command) to the command line that starts the command once on each node. It must stay in the
            foreground for as long as the agents live, and exit with 0 when they did.
        at_once: takes all nodes in one command line; else it gets exactly one.
        is_agent: the process that `argv` starts is the agent itself.
        joins_words: the other side puts the words together and lets a shell take them apart again.
        starts_again: one node of several can be given, so an agent that died there can be started again.
        node_variable: at_once only: a variable that holds the node's name there; without one the host's name counts.
        connect: how an agent can be told of its manager where it cannot read the manager's files.
    """

    name: str
    argv: Callable[[Sequence[str], Sequence[str]], list[str]]
    at_once: bool = False
    is_agent: bool = False
    joins_words: bool = False
    starts_again: bool = True
    node_variable: str = ""
    connect: Literal["environment", "stdin", "no way"] = "no way"
