"""The command that runs on a node and becomes its agent."""

from __future__ import annotations

import os
import shlex
from dataclasses import dataclass
from pathlib import Path

from .. import own_python, variable_names
from ..model.errors import SettingsError
from .base import AgentLauncher


@dataclass(frozen=True, slots=True)
class AgentCommand:
    """What is the same for all agents of a pilot.

    Attributes:
        python: the interpreter, as it is called on the nodes.
        connection: the connection file.
        prelude: shell commands that come first, e.g. `module load python`; empty for none.
        more: further options of the agents.
        by_variable: nodes do not share the connection file's folder, so the variable PILOTFISH_CONNECT says what is in it.
    """

    python: str
    connection: Path
    prelude: str = ""
    by_variable: bool = False
    more: tuple[str, ...] = ()

    def for_node(self, launcher: AgentLauncher, node: str, agent_id: str, replaces: str | None) -> list[str]:
        """The words for `launcher` that start one agent; `replaces` is the agent whose left-overs it has to clear away."""
        words = [*self._words(launcher), "--node", node, "--agent-id", agent_id]
        words += [] if replaces is None else ["--replaces", replaces]
        before = self._before(launcher)
        if before:
            words = ["/bin/sh", "-c", f"{before}exec {shlex.join(words)}"]
        return [shlex.quote(word) for word in words] if launcher.joins_words else words

    def for_all(self, launcher: AgentLauncher, token: str) -> list[str]:
        """The same words for every node: each finds out which it is. Its agent's id is NODE-`token`."""
        name = f"${{{launcher.node_variable}:-$(hostname)}}" if launcher.node_variable else "$(hostname)"
        log = self.connection.parent / "agent-"
        # Where the folder is shared each has a log of its own; elsewhere it writes to the launcher's.
        log_line = f'[ ! -d {shlex.quote(str(log.parent))} ] || exec >>{shlex.quote(str(log))}"$node".log 2>&1\n'
        become = f'exec {shlex.join(self._words(launcher))} --node "$node" --agent-id "$node-{token}"'
        return ["/bin/sh", "-c", f"node={name}\n{log_line}{self._before(launcher)}{become}"]

    def _words(self, launcher: AgentLauncher) -> list[str]:
        # Where the manager cannot see the agent's process somebody else has to (agent/watcher.py).
        watched = [] if launcher.is_agent else ["--watched"]
        return own_python.pilotfish(self.python, "agent", "--connect", str(self.connection), *watched, *self.more)

    def _before(self, launcher: AgentLauncher) -> str:
        read = ""
        if self.by_variable and launcher.connect == "stdin":
            read = f"IFS= read -r {variable_names.CONNECT}\nexport {variable_names.CONNECT}\n"
        return read + (f"{self.prelude}\n" if self.prelude else "")


def workers_for(launcher: AgentLauncher, nodes: int) -> tuple[str, ...]:
    """The option that tells the agents of `nodes` nodes, where all run on this host, how many workers each has.

    They share its processors: with one worker for each of them in every agent, a hundred virtual nodes would be a thousand
    processes.
    """
    if not launcher.is_agent:
        return ()
    return ("--workers", str(-(-len(os.sched_getaffinity(0)) // max(nodes, 1))))


def check(command: AgentCommand, launcher: AgentLauncher) -> None:
    """Raises SettingsError when the launcher cannot do what the command needs."""
    if command.by_variable and launcher.connect == "no way":
        raise SettingsError(
            f"{launcher.name} cannot carry a variable to the agents",
            where="--agent-connect variable",
            remedy="put --wd on a file system that all nodes share, or use --agent-launcher ssh",
        )
