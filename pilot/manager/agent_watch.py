"""Agents from their start to their end: who is heard, who is silent, who is started again, and when too few are left.

`Agents` is the link to them and `AgentProcesses` their processes; what follows from the one for the other is decided here.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence

import zmq

from .. import variable_names
from ..console import echo
from ..exit_codes import ExitCode
from ..model.errors import LostError
from ..model.ids import NodeNo
from ..model.states import NodeEvent, NodeState
from ..systems import registry
from ..wire import codec, frames, records
from .agent_processes import AgentProcesses, Recipe
from .agents import Agents
from .node_ends import NodeEnds
from .parts import Parts
from .shutdown import Shutdown

log = logging.getLogger(__name__)

_STOP_MARGIN_S = 5.0
_BEATS_BEFORE_LOST = 6
"""How many heartbeats an agent sends at least in the time after which it counts as lost."""
_WINDOW = 0.6
"""For what part of that time an agent that hears nothing from us continues to start tasks. It must stop before it counts as
lost here, and that is measured from its last frame, which may be older than our last by one heartbeat.
"""
_TOLD = 2000
"""Agents that a turn tells that we live, and how far their reports are on disk."""
_LOST = 200
"""Agents that a turn gives up for their silence."""


class AgentWatch:
    """All agents of one pilot. `facts`: what is to be recorded before anything follows from it."""

    def __init__(self, parts: Parts, shutdown: Shutdown, recipe: Recipe, epoch: str) -> None:
        self.facts: list[records.Record] = []
        settings, scheduler = parts.settings, parts.scheduler
        self._parts = parts
        self._shutdown = shutdown
        self._scheduler = scheduler
        self.heartbeat_s = min(settings.heartbeat_s, settings.node_lost_s / _BEATS_BEFORE_LOST)
        self.agents = Agents(
            parts.endpoints.agents,
            scheduler,
            self._agent_settings(recipe),
            epoch,
            self.facts.append,
            parts.now,
            parts.patience,
            parts.outboxes.take,
            parts.outboxes.inputs_of,
        )
        self.processes = AgentProcesses(
            scheduler.nodes,
            parts.aux,
            recipe,
            parts.loop,
            parts.patience,
            self._expect,
            self._agent_died,
            self._node_given_up,
            self.agents.inbox.all_read,
        )
        self.ends = NodeEnds(parts, self.agents)
        self._read_now: set[zmq.Socket[bytes]] = set()
        """Sockets that have had their share of this turn."""
        parts.patience.is_behind = lambda: self.agents.inbox.waits_unread
        shutdown.on_stop(self._stop)

    def _agent_settings(self, recipe: Recipe) -> frames.Settings:
        parts, settings = self._parts, self._parts.settings
        return frames.Settings(
            root_wd=codec.to_text(str(settings.wd)),
            aux_dir=codec.to_text(str(parts.aux.path)),
            kill_grace_s=settings.kill_grace_s,
            heartbeat_s=self.heartbeat_s,
            manager_wait_s=settings.manager_wait_s,
            env={
                variable_names.ADDRESS: codec.to_text(parts.endpoints.address),
                variable_names.CONNECTION: codec.to_text(str(parts.aux.connection)),
            },
            env_schemas=_schemas(settings.envschema, parts.allocation.kind),
            batch=parts.allocation.kind,
            here=recipe.launcher.is_agent,
            bind=settings.cpu_bind != "none",
            models=parts.uses_models,
            window_s=settings.node_lost_s * _WINDOW,
            rt_stats=settings.enable_rt_stats,
            proc_stats=settings.enable_proc_stats,
        )

    def start(self) -> None:
        """Begin to beat and to listen."""
        self.ends.watch_all()
        self._parts.loop.call_every(self.heartbeat_s, self._heartbeat)
        self._parts.patience.call_after(self._parts.settings.nl_init_timeout_s, self._check_start)

    @property
    def all_gone(self) -> bool:
        """No agent is there any more, and no process of one."""
        return not (self.processes.running or self.agents.links)

    def read(self, socket: zmq.Socket[bytes]) -> None:
        """Take in what the agents have sent."""
        self._read_now.add(socket)
        self.agents.inbox.read(socket)
        while self.agents.to_replace:
            self._replace(*self.agents.to_replace.pop())
        self.processes.start_waiting()  # agents that have reported make room for others to be started

    def end_of_turn(self) -> None:
        """Tell agents what is due; in the next turn go on with what is left, or with what one of them has said at length."""
        self._read_now.clear()
        self.agents.inbox.end_of_turn()
        if self.agents.links.tell(_TOLD) or self.agents.inbox.begun:
            self._parts.loop.call_after(0, self._read_on)

    def _read_on(self) -> None:
        for socket in self.agents.inbox.begun:
            if socket not in self._read_now:
                self.read(socket)

    def _expect(self, agents: Mapping[NodeNo, str]) -> None:
        """These are about to be started. They are recorded first, so that no later life meets agents it does not know.

        Raises TransientError when they cannot be recorded.
        """
        store = self._parts.store
        for node, agent_id in agents.items():
            store.append(records.AgentExpected(node, agent_id))
        store.write()
        for node, agent_id in agents.items():
            self._scheduler.nodes[node].expected.add(agent_id)

    def _replace(self, node: NodeNo, agent_id: str) -> None:
        """This agent was told to end, or has ended: then another one is tried."""
        if self._scheduler.nodes.specs[node].joined:
            return
        if self.processes.lives(node, agent_id):  # its end is seen, and what follows from it
            patience_s = self._parts.settings.kill_grace_s + _STOP_MARGIN_S
            self._parts.patience.call_after(patience_s, lambda: self.processes.kill(node, agent_id))
        elif not self._scheduler.nodes.is_served(
            node
        ):  # else its end will be reported, or it is given up for its silence
            self.processes.silent(node)

    def _agent_died(self, node: NodeNo, agent_id: str, certain: bool) -> None:
        link = self.agents.links.get(node)
        if link is None:  # one of an earlier life that has not come back, or that had been silent before
            self._scheduler.on_node_lost(node, self._parts.now(), silent=not certain)
        elif link.agent_id == agent_id:
            self.agents.lost(node, "its process ended")
        if certain:
            self.agents.gone(node, agent_id)
        if self._shutdown.stopping and not self._scheduler.nodes.is_served(node):
            self._scheduler.nodes.move(node, NodeEvent.EXPECT)  # it ends because we do: nothing is wrong with the node

    def _node_given_up(self, node: NodeNo) -> None:
        nodes = self._scheduler.nodes
        self._scheduler.on_node_given_up(node, self._parts.now())
        left = nodes.count - nodes.in_state[NodeState.GIVEN_UP]
        if left < self._fewest_nodes:
            self._too_few_nodes(left)

    @property
    def _fewest_nodes(self) -> int:
        """How many agents there must be for the pilot to go on (`--min-nodes`, `--nl-ready-threshold`); at least one, unless
        all of them come by themselves.
        """
        settings = self._parts.settings
        if settings.governor:
            return 0
        share = int(settings.nl_ready_threshold * self._scheduler.nodes.count)
        return max(1, settings.min_nodes, share)

    def _check_start(self) -> None:
        """All agents have had their time to report. One that has, and is gone now, is no failed start."""
        came = sum(self._scheduler.nodes[node].has_come for node in self._scheduler.nodes.here)
        if not self._shutdown.stopping and came < self._fewest_nodes:
            self._too_few_nodes(came)

    def _too_few_nodes(self, count: int) -> None:
        nodes = self._scheduler.nodes
        given_up = [each for each in nodes if each.state is NodeState.GIVEN_UP]
        names = {nodes.specs[each.number].name: each.reason for each in given_up}
        error = LostError(
            f"agents on {count} of {self._scheduler.nodes.count} nodes, {self._fewest_nodes} are needed"
            + "".join(f"; node {name}: {why}" for name, why in list(names.items())[:3]),
            remedy=f"see agent-*.log in {self._parts.aux.path}",
        )
        log.error("service.too_few_nodes", extra={"error": error})
        echo(f"Error: {error}", err=True)
        self._parts.status.problem = str(error)
        self._shutdown.stop(ExitCode.UNREACHABLE)

    def _heartbeat(self) -> None:
        settings = self._parts.settings
        self.agents.links.beat()
        self._lose_silent()
        for link in self.agents.silent_for(settings.node_lost_s + settings.manager_wait_s):
            self.processes.kill(link.node, link.agent_id)

    def _lose_silent(self) -> None:
        """Give up, a share in each turn, the nodes whose agents are not heard any more; a network may take all at once."""
        silent_s = self._parts.settings.node_lost_s
        lost = []
        for link in self.agents.silent_for(silent_s):
            if self.processes.lives(link.node, link.agent_id):
                self.agents.hold(link)
            else:
                lost.append(link)
        for link in lost[:_LOST]:
            joined = self._scheduler.nodes.specs[link.node].joined
            self.agents.lost(link.node, f"not heard of for {silent_s:g} s", silent=True)
            if not joined:
                self.processes.silent(link.node)
        if len(lost) > _LOST:
            self._parts.loop.call_after(0, self._lose_silent)

    def await_joined(self, node: NodeNo) -> None:
        """A joined node of an earlier life may still be there: it has as long to report as one that has fallen silent."""

        def look() -> None:
            left = self._scheduler.nodes[node].state is NodeState.LEFT
            if not left and not self._scheduler.nodes.is_served(node) and not self._shutdown.stopping:
                self._scheduler.on_node_lost(node, self._parts.now(), silent=True)
                self.agents.leave(node)

        self._parts.patience.call_after(self._parts.settings.node_lost_s, look)

    # --- the end --------------------------------------------------------------------------------------------------------

    def _stop(self) -> None:
        self.processes.stop_restarting()
        self.agents.stop(kill=True)
        self._parts.patience.call_after(self._parts.settings.kill_grace_s + _STOP_MARGIN_S, self._stop_hard)

    def hurry(self) -> None:
        """The stop has been asked for again: tasks get no time to end by themselves."""
        self.agents.stop(kill=True, at_once=True)

    def _stop_hard(self) -> None:
        log.error("service.agents_do_not_end")
        self.processes.end_all()
        self._parts.loop.stop()


def _schemas(asked: Sequence[str], kind: str) -> list[str]:
    """`auto` is what the allocation is: a task sees its own part in the variables of the batch system that gave it."""
    return sorted({registry.schema_of(kind) if word == registry.AUTO else word for word in asked})
