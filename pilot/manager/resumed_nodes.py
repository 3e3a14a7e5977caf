"""The nodes of a resumed pilot, and the agents of earlier lives of the manager that may still serve them.

The journal names the nodes as they were, and for each node the agents that were started and are not known to have ended. At
most one of them has reported; others were started later, by managers that were killed before they heard of them. What becomes
of such an agent depends on whether it can be seen from here:

* On this host it is a process, or has ended. If it has ended, what it ran is cleared away before the node gets another agent,
  and before any other node gets its tasks. Of several that live the one that has reported is kept, because only it has tasks.
* On another host nobody can tell. It has the time that a silent agent has (`--node-lost`) to report; then another is started.
* A joined node may come again by itself, in the same time.

So no task is started anew while an agent of an earlier life runs it, unless that agent was given up.
"""

from __future__ import annotations

import logging
import socket
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace

from .. import clock, leftover_processes
from ..model.ids import NodeNo
from ..model.resources import NodeSpec
from ..model.scheduler import Scheduler
from ..model.states import NodeEvent, NodeState
from ..wire import records
from .agent_watch import AgentWatch
from .parts import Parts
from .store import Store

log = logging.getLogger(__name__)

Agent = records.AgentExpected | records.AgentUp


def settle_nodes(present: Collection[NodeSpec], scheduler: Scheduler, store: Store) -> None:
    """From the nodes that the journal knows to those that are present: a resumed pilot may have others than before."""
    new = {spec.name: spec for spec in present}
    for node in list(scheduler.nodes.here):
        spec = scheduler.nodes.specs[node]
        if spec.joined:
            scheduler.nodes.elastic = True  # it may come again
        elif spec.name in new and _is_same(spec, new[spec.name]):
            del new[spec.name]
        else:
            now = clock.now()
            log.warning("node.left", extra={"node": spec.name})
            scheduler.on_node_left(node, now)
            store.append(records.NodeLeft(node, now))
    for spec in new.values():
        scheduler.on_node_joined(spec)
        store.append(records.NodeJoined(spec))


def _is_same(known: NodeSpec, present: NodeSpec) -> bool:
    """Whether a node is as it was. The cores may have names from its agent, which is going to tell them again."""
    if len(known.core_ids) == len(present.core_ids) and not present.bind:
        known = replace(known, core_ids=present.core_ids, bind=False)
    return known == present


class ResumedNodes:
    """Gives each node one agent. `known`: by node the agents of earlier lives that may live, by their ids."""

    def __init__(self, parts: Parts, watch: AgentWatch, known: Mapping[NodeNo, Mapping[str, Agent]]) -> None:
        self._parts = parts
        self._watch = watch
        self._nodes = parts.scheduler.nodes
        self._known = {node: list(agents.values()) for node, agents in known.items()}
        self._pids: dict[str, int] = {}
        """The agents that live on this host."""

    def start_agents(self) -> None:
        """The agent that has outlived an earlier manager, else a new one, which clears away after it."""
        for node, agents in self._known.items():
            if self._nodes[node].state is NodeState.LEFT:
                self._dismiss(node, agents)
        own = [node for node in self._nodes.here if not self._nodes.specs[node].joined]
        self._look_for_agents_here(own)
        without_agent = [node for node in own if not self._continue_with_one(node, self._known.get(node, []))]
        for node in self._nodes.here:
            if self._nodes.specs[node].joined:
                self._watch.await_joined(node)
        self._watch.processes.start_all(without_agent)

    def _dismiss(self, node: NodeNo, agents: Sequence[Agent]) -> None:
        """The node is no longer part of the pilot, and nobody expects its agents."""
        for agent in agents:
            if self._was_here(agent):
                leftover_processes.clear_after(agent.agent_id)
            self._watch.agents.gone(node, agent.agent_id)

    def _look_for_agents_here(self, own: Sequence[NodeNo]) -> None:
        if not self._watch.processes.are_children:
            return
        ids = {agent.agent_id for node in own for agent in self._known.get(node, []) if self._was_here(agent)}
        self._pids = leftover_processes.living(ids)
        ended = ids - self._pids.keys()
        if ended:  # what they ran is given to any node, and not while it still runs
            leftover_processes.clear_after(*ended)

    def _continue_with_one(self, node: NodeNo, agents: Sequence[Agent]) -> bool:
        """Whether one of these agents of the node lives, or may live, so that no other is started now."""
        if not agents:
            return False
        self._nodes[node].expected = {agent.agent_id for agent in agents}
        if not self._watch.processes.are_children or not self._was_here(agents[0]):
            self._watch.processes.await_again(node, agents[0].agent_id, self._parts.settings.node_lost_s)
            return True
        is_adopted = False
        for agent in agents:
            pid = self._pids.get(agent.agent_id) if self._was_here(agent) else None
            if pid is not None and not is_adopted and self._adopt(node, agent, pid):
                is_adopted = True
                continue
            if pid is not None:  # another agent was kept, and this one has no tasks
                leftover_processes.clear_after(agent.agent_id)
            self._watch.agents.gone(node, agent.agent_id)
        if not is_adopted:
            self._parts.scheduler.on_node_lost(node, self._parts.now())
            self._nodes.move(node, NodeEvent.EXPECT)
        return is_adopted

    def _adopt(self, node: NodeNo, agent: Agent, pid: int) -> bool:
        """Watch it as one that we have started; False: it has just ended."""
        has_reported = isinstance(agent, records.AgentUp)
        within_s = self._parts.settings.manager_wait_s
        if not self._watch.processes.adopt(node, agent.agent_id, pid, has_reported, within_s):
            return False
        if has_reported:
            self._nodes[node].has_come = True
        return True

    def _was_here(self, agent: Agent) -> bool:
        """Whether this agent, if it lives, is a process of this host."""
        if isinstance(agent, records.AgentUp):
            return agent.host == socket.gethostname()
        return self._watch.processes.are_children
