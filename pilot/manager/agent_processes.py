"""The agents' processes on this host: started, watched through a pidfd, started again when they die."""

from __future__ import annotations

import logging
import os
import secrets
import signal
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass

import psutil

from .. import strays
from ..loop import Loop
from ..model.ids import NodeNo
from ..model.resources import NodeSpec
from ..placement import fork
from .auxdir import AuxDir

log = logging.getLogger(__name__)

_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.05, 30.0
"""Pause before an agent that died is started again; doubled for each death in a row before it was ready."""


@dataclass(slots=True)
class _Process:
    agent_id: str
    pid: int
    pidfd: int


class AgentProcesses:
    """One agent for each node of `specs` that is started; `on_death` is told the node when its process has ended."""

    def __init__(
        self,
        specs: Sequence[NodeSpec],
        aux: AuxDir,
        python: str,
        lifeline: int | None,
        loop: Loop,
        on_death: Callable[[NodeNo], None],
    ) -> None:
        self._specs = specs
        self._aux = aux
        self._python = python
        self._lifeline = lifeline
        self._loop = loop
        self._on_death = on_death
        self._processes: dict[NodeNo, _Process] = {}
        self._pauses: dict[NodeNo, float] = {}
        self._unclean: dict[NodeNo, str] = {}
        """Agents that died with tasks perhaps still running, and have no successor yet to clear them away."""
        self._stopping = False

    def start(self, node: NodeNo, replaces: str | None = None) -> None:
        """Start the agent of `node`; `replaces` is the dead one whose tasks it has to clear away first."""
        self._unclean.pop(node, None)
        name = self._specs[node].name
        agent_id = f"{name}-{secrets.token_hex(6)}"
        command = fork.agent_command(self._python, self._aux.connection, name, agent_id, replaces)
        pid = fork.start(command, self._aux.agent_log(name), self._lifeline, dict(os.environ))
        log.info("agent.started", extra={"node": name, "agent": agent_id, "pid": pid})
        self._watch(node, agent_id, pid)

    def adopt(self, node: NodeNo, agent_id: str, pid: int) -> bool:
        """Watch an agent that outlived an earlier manager; False when it is gone."""
        try:
            if agent_id not in psutil.Process(pid).cmdline():
                return False
            self._watch(node, agent_id, pid)
        except (psutil.Error, OSError):
            return False
        log.info("agent.adopted", extra={"node": self._specs[node].name, "agent": agent_id, "pid": pid})
        return True

    def ready(self, node: NodeNo) -> None:
        """The agent has reported: its next death is not a failed start."""
        self._pauses.pop(node, None)

    def stop_restarting(self) -> None:
        self._stopping = True

    @property
    def running(self) -> bool:
        return bool(self._processes)

    def kill_all(self) -> None:
        for process in self._processes.values():
            with suppress(ProcessLookupError):
                os.kill(process.pid, signal.SIGKILL)

    def clear_left_overs(self) -> None:
        """At the end: stop the tasks of agents that were killed and will have no successor."""
        for agent_id in self._unclean.values():
            strays.clear_after(agent_id)

    def _watch(self, node: NodeNo, agent_id: str, pid: int) -> None:
        process = _Process(agent_id, pid, os.pidfd_open(pid))
        self._processes[node] = process
        self._loop.on_readable(process.pidfd, lambda: self._ended(node, process))

    def _ended(self, node: NodeNo, process: _Process) -> None:
        self._loop.forget(process.pidfd)
        os.close(process.pidfd)
        del self._processes[node]
        status = -1
        with suppress(ChildProcessError):  # an adopted one is not our child
            status = os.waitpid(process.pid, 0)[1]
        if status != 0:
            self._unclean[node] = process.agent_id
        self._on_death(node)
        if self._stopping:
            return
        pause = self._pauses.get(node, _FIRST_PAUSE_S)
        self._pauses[node] = min(2 * pause, _LONGEST_PAUSE_S)
        log.warning("agent.died", extra={"node": self._specs[node].name, "pid": process.pid, "again_in_s": pause})
        self._loop.call_after(pause, lambda: None if self._stopping else self.start(node, process.agent_id))
