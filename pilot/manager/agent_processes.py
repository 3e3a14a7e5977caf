"""The agents of our nodes: started by the allocation's agent launcher, watched, and started again when they die.

What is watched (process_watch.py) is the launcher's process. On this machine that is the agent itself. Elsewhere it is an
`srun` or `ssh`, whose end says little: an agent may outlive it, and one `srun` may stand for a thousand agents. There the
agents' own heartbeats count, and the end of the launcher only means that an agent which is silent will stay so.

Where a node stands is in the core (`NodeState`), and only there: this file starts an agent where a node is EXPECTED or LOST,
and tells the core when it has. What it keeps itself are processes, and the order in which nodes wait for their turn.
"""

from __future__ import annotations

import logging
import math
import os
import secrets
import signal
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from threading import Thread

from .. import leftover_processes
from ..agent_launchers import process
from ..agent_launchers.base import AgentLauncher
from ..agent_launchers.command import AgentCommand
from ..clock import Patience
from ..loop import Loop
from ..model.errors import TransientError
from ..model.ids import NodeNo
from ..model.nodes import Nodes
from ..model.states import NodeEvent, NodeState
from .auxdir import AuxDir
from .process_watch import ProcessWatch

log = logging.getLogger(__name__)

_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.05, 30.0
"""Pause before an agent that died is started again; doubled for each death in a row before it served."""
_MOST_FIRST_STARTS, _MOST_STARTS = 5, 12
"""Starts in a row without an agent that served, after which its node is given up: where none ever has, and where one has.

Reporting is not enough: an agent that dies of the answer, for example because its node's disk is full, would be started again
for ever.
"""
_FULL_DISK_PAUSE_S = 1.0
"""Pause before an agent is started that could not be recorded."""
_MOST_AT_A_TIME = 256
"""Starts under way where the launcher works node by node: enough for 1,000 nodes in seconds (docs/performance.md)."""

_TO_BE_STARTED = (NodeState.EXPECTED, NodeState.LOST)
_TAKEN = (NodeState.READY, NodeState.DRAINING, NodeState.SILENT)
"""An agent serves the node, and no other one is wanted."""


@dataclass(slots=True)
class _Process:
    """One process of the agent launcher, and the agents it stands for."""

    agents: dict[NodeNo, str]
    pid: int
    log: Path
    report_by_s: float
    """When its agents should have reported, in seconds of patience; infinite once those that have not have been named."""
    was_told_to_end: bool = False
    """Because another agent serves its node."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """How agents are started. `environ` is theirs; `stdin_text` is what the launcher is to read."""

    launcher: AgentLauncher
    command: AgentCommand
    environ: Mapping[str, str] = field(default_factory=dict)
    stdin_text: str = ""
    lifeline: int | None = None
    patience_s: float = 60.0
    """How long an agent may take to report before its node is named in the log."""


class AgentProcesses:
    """One agent for each node that is started.

    Args:
        expect: called with agents' ids by node before these are started; raises TransientError when it cannot record them.
        on_death: called with (node, agent's id, certain) when an agent is known (certain) or has to be assumed to be gone.
        on_given_up: called with a node whose agents have failed again and again.
        all_read: whether all that agents have sent has been read, including the last report of one whose process has ended.
    """

    def __init__(
        self,
        nodes: Nodes,
        aux: AuxDir,
        recipe: Recipe,
        loop: Loop,
        patience: Patience,
        expect: Callable[[Mapping[NodeNo, str]], None],
        on_death: Callable[[NodeNo, str, bool], None],
        on_given_up: Callable[[NodeNo], None],
        all_read: Callable[[], bool],
    ) -> None:
        self._nodes = nodes
        self._aux = aux
        self._recipe = recipe
        self._loop = loop
        self._patience = patience
        self._expect = expect
        self._on_death = on_death
        self._on_given_up = on_given_up
        self._all_read = all_read
        self._processes: dict[int, _Process] = {}
        """By their ids."""
        self._watches: dict[int, ProcessWatch] = {}
        """The same, until their end is taken note of."""
        self._to_start: deque[NodeNo] = deque()
        """Nodes in the order in which they get their agents; not all can at a time."""
        self._stopping = False

    @property
    def are_children(self) -> bool:
        """The agents themselves are processes of this host."""
        return self._recipe.launcher.is_agent

    # --- starting -------------------------------------------------------------------------------------------------------

    def start_all(self, nodes: Iterable[NodeNo]) -> None:
        """Start the first agents of these nodes."""
        new = list(nodes)
        if self._recipe.launcher.at_once and len(new) > 1:
            token = secrets.token_hex(6)
            agents = {node: f"{self._nodes.specs[node].name}-{token}" for node in new}
            self._launch(
                agents, self._recipe.command.for_all(self._recipe.launcher, token), self._aux.path / "agents.log"
            )
            return
        for node in new:
            self.start(node)

    def start(self, node: NodeNo) -> None:
        """Start the agent of `node`."""
        self._to_start.append(node)
        self.start_waiting()

    def start_waiting(self) -> None:
        """Start as many as there may be on their way at a time; call again when some have reported."""
        while self._to_start and self._under_way < _MOST_AT_A_TIME and not self._stopping:
            node = self._to_start.popleft()
            record = self._nodes[node]
            if record.state not in _TO_BE_STARTED:
                continue  # the old one is back, or another one has been started
            record.left_behind = ""
            name = self._nodes.specs[node].name
            agent_id = f"{name}-{secrets.token_hex(6)}"
            words = self._recipe.command.for_node(self._recipe.launcher, name, agent_id, record.agent or None)
            self._launch({node: agent_id}, words, self._aux.agent_log(name))

    @property
    def _under_way(self) -> int:
        """Agents that were started and have not reported."""
        return self._nodes.in_state[NodeState.STARTING] + self._nodes.in_state[NodeState.RESTARTING]

    def _launch(self, agents: dict[NodeNo, str], words: Sequence[str], log_file: Path) -> None:
        recipe = self._recipe
        argv = recipe.launcher.argv([self._nodes.specs[node].name for node in agents], words)
        try:
            self._expect(agents)
        except TransientError as error:
            log.error("agent.not_started", extra={"reason": error})
            self._loop.call_after(_FULL_DISK_PAUSE_S, lambda: None if self._stopping else self.start_all(agents))
            return
        try:
            pid = process.start(argv, log_file, recipe.environ, recipe.stdin_text, recipe.lifeline)
        except OSError as error:
            log.error("agent.not_started", extra={"program": argv[0], "reason": error.strerror})
            for node, agent_id in agents.items():
                self._gone(node, agent_id, f"{argv[0]}: {error.strerror}")
            return
        for node, agent_id in agents.items():
            self._nodes.move(node, NodeEvent.START)
            log.info("agent.started", extra={"node": self._nodes.specs[node].name, "agent": agent_id, "pid": pid})
        self._watch(agents, pid, log_file)

    def adopt(self, node: NodeNo, agent_id: str, pid: int, has_reported: bool, within_s: float) -> bool:
        """Watch an agent of this host that outlived an earlier manager, to which it had reported or not; False: it is gone.

        One that does not report within `within_s` seconds is killed.
        """
        try:
            self._watch({node: agent_id}, pid, self._aux.agent_log(self._nodes.specs[node].name))
        except OSError:
            return False
        if not has_reported:
            self._nodes.move(node, NodeEvent.START)
        self._patience.call_after(within_s, lambda: None if self._nodes.is_served(node) else self.kill(node, agent_id))
        log.info("agent.adopted", extra={"node": self._nodes.specs[node].name, "agent": agent_id, "pid": pid})
        return True

    def await_again(self, node: NodeNo, agent_id: str, within_s: float) -> None:
        """Another host's agent may have outlived an earlier manager: give it time to report before another one is tried."""

        def look() -> None:
            if not self._nodes.is_served(node) and not self._stopping:
                log.warning("agent.not_back", extra={"node": self._nodes.specs[node].name, "agent": agent_id})
                self._on_death(node, agent_id, False)
                self.start(node)

        self._patience.call_after(within_s, look)

    # --- reporting ------------------------------------------------------------------------------------------------------

    def look_around(self) -> None:
        """Note which agents are late, and which have come too late; call about twice a second."""
        now = self._patience.seconds
        for watched in list(self._processes.values()):
            if watched.report_by_s <= now:
                watched.report_by_s = math.inf
                for node in watched.agents:
                    if self._nodes[node].state in (NodeState.STARTING, NodeState.RESTARTING):
                        self._late(node)
            self._end_rival(watched)
        self.start_waiting()

    def _end_rival(self, rival: _Process) -> None:
        """An agent that had been given up has come back while this one was being started for its node."""
        if len(rival.agents) != 1 or rival.was_told_to_end:
            return
        ((node, agent_id),) = rival.agents.items()
        if self._nodes[node].state in _TAKEN and self._nodes[node].agent != agent_id:
            rival.was_told_to_end = True
            with suppress(ProcessLookupError):
                os.kill(rival.pid, signal.SIGTERM)

    def _late(self, node: NodeNo) -> None:
        self._nodes.move(node, NodeEvent.LATE)
        name, patience_s = self._nodes.specs[node].name, self._recipe.patience_s
        said = process.last_lines(self._aux.agent_log(name))
        log.error("agent.late", extra={"node": name, "waited_s": patience_s, "said": said or "nothing"})
        if self._recipe.launcher.at_once:  # the launcher's process stands for others too, so its end will not show this
            self._failed(node, f"has not reported within {patience_s:g} s")

    def silent(self, node: NodeNo) -> None:
        """The agent has been silent for too long, and its process is not ours to watch: another one is tried."""
        self._failed(node, "not heard of any more")

    def lives(self, node: NodeNo, agent_id: str) -> bool:
        """Whether the agent is known to live, silent or not: it is a process of this host that has not ended."""
        return self._process_of(node, agent_id) is not None

    def kill(self, node: NodeNo, agent_id: str) -> None:
        """Kill an agent of this host that lives but is not of use any more; `on_death` follows."""
        watched = self._process_of(node, agent_id)
        if watched is not None:
            log.error(
                "agent.killed", extra={"node": self._nodes.specs[node].name, "agent": agent_id, "pid": watched.pid}
            )
            if watched.pid in self._watches:  # else it has ended, and what it left is being cleared away
                self._watches[watched.pid].kill()

    def _process_of(self, node: NodeNo, agent_id: str) -> _Process | None:
        if not self._recipe.launcher.is_agent:
            return None
        return next((each for each in self._processes.values() if each.agents.get(node) == agent_id), None)

    # --- ending ---------------------------------------------------------------------------------------------------------

    def stop_restarting(self) -> None:
        self._stopping = True
        self._to_start.clear()

    @property
    def running(self) -> bool:
        return bool(self._processes)

    def end_all(self) -> None:
        """Kill the agents; launchers are told to end theirs."""
        is_agent = self._recipe.launcher.is_agent
        number = signal.SIGKILL if is_agent else signal.SIGTERM
        for running in self._processes.values():
            if is_agent:
                self._note_left_behind(running)
            with suppress(ProcessLookupError):
                os.kill(running.pid, number)

    def clear_left_overs(self) -> None:
        """At the end: stop the tasks of agents that were killed and will have no successor."""
        if self._recipe.launcher.is_agent:
            for node in self._nodes:
                if node.left_behind:
                    leftover_processes.clear_after(node.left_behind)

    def _note_left_behind(self, ended: _Process) -> None:
        for node, agent_id in ended.agents.items():
            self._nodes[node].left_behind = agent_id

    def _watch(self, agents: dict[NodeNo, str], pid: int, log_file: Path) -> None:
        watched = _Process(agents, pid, log_file, self._patience.seconds + self._recipe.patience_s)
        self._watches[pid] = ProcessWatch(self._loop, pid, lambda: self._ended(watched))
        self._processes[pid] = watched

    def _ended(self, ended: _Process) -> None:
        """An agent has died, and its tasks outlive it: others get its work only when nothing of it runs any more."""
        if not self._all_read():
            return  # this comes again in the next turn
        self._watches.pop(ended.pid).forget()
        if self._recipe.launcher.is_agent and not self._stopping and not _has_ended_well(ended.pid):
            self._clear_beside(ended)
        else:
            self._reap(ended)

    def _clear_beside(self, ended: _Process) -> None:
        """Beside the loop, as it reads all of /proc. Until then the process counts as living, and stays a zombie."""
        done = -1

        def clear() -> None:
            try:
                leftover_processes.clear_after(*ended.agents.values())
            finally:
                os.eventfd_write(done, 1)

        def reap() -> None:
            self._loop.forget(done)
            os.close(done)
            self._reap(ended)

        try:
            done = os.eventfd(0)
            Thread(target=clear, name="clear after an agent", daemon=True).start()
        except (OSError, RuntimeError):  # no descriptor or no thread is left: then in this turn
            if done >= 0:
                os.close(done)
            leftover_processes.clear_after(*ended.agents.values())
            self._reap(ended)
            return
        self._loop.on_readable(done, reap)

    def _reap(self, ended: _Process) -> None:
        del self._processes[ended.pid]
        status = -1
        with suppress(ChildProcessError):  # an adopted one is not our child
            status = os.waitpid(ended.pid, 0)[1]
        if self._recipe.launcher.is_agent:
            if status != 0:
                self._note_left_behind(ended)
            for node, agent_id in ended.agents.items():
                self._gone(node, agent_id, _reason(status, ended.log))
            return
        if not self._stopping:
            log.warning("launcher.ended", extra={"nodes": len(ended.agents), "status": status})
        for node, agent_id in ended.agents.items():
            if not self._nodes.is_served(node):
                own_log = self._aux.agent_log(self._nodes.specs[node].name)
                self._gone(node, agent_id, _reason(status, own_log if own_log.exists() else ended.log), certain=False)

    def _gone(self, node: NodeNo, agent_id: str, reason: str, certain: bool = True) -> None:
        self._on_death(node, agent_id, certain)
        self._failed(node, reason)

    def _failed(self, node: NodeNo, reason: str) -> None:
        """The node has no agent: start another one, unless that has failed too often."""
        if self._stopping or self._nodes.is_served(node):
            return
        name, record = self._nodes.specs[node].name, self._nodes[node]
        record.failures += 1
        record.reason = reason
        most = _MOST_STARTS if record.has_served else _MOST_FIRST_STARTS
        if record.failures >= most or not self._recipe.launcher.starts_again:
            log.error("agent.given_up", extra={"node": name, "reason": reason})
            self._on_given_up(node)
            return
        pause = min(_FIRST_PAUSE_S * 2 ** (record.failures - 1), _LONGEST_PAUSE_S)
        log.warning("agent.died", extra={"node": name, "again_in_s": pause, "reason": reason})
        self._loop.call_after(pause, lambda: None if self._stopping else self.start(node))


def _has_ended_well(pid: int) -> bool:
    """Always False of an adopted one: it is not our child, so its status is not known."""
    with suppress(ChildProcessError):
        status = os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        return status is not None and status.si_code == os.CLD_EXITED and status.si_status == 0
    return False


def _reason(status: int, log_file: Path) -> str:
    """Why an agent ended, as well as can be told from here."""
    if status in (0, -1):
        return "its process ended"
    code = os.waitstatus_to_exitcode(status)
    how = f"killed by signal {-code}" if code < 0 else f"exit code {code}"
    said = process.last_lines(log_file)
    return f"its process ended with {how}" + (f"; it said: {said}" if said and code > 0 else "")
