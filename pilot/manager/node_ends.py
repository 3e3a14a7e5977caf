"""Nodes that leave before the pilot ends: their own allocation is nearly over, or it was released.

The end of such an allocation is treated as the pilot treats its own (ending.py): nothing starts that may not be over in time,
from the margin on the node drains and leaves, and what still runs shortly before the end is stopped politely and waits again.
The margin is that of the pilot (`--end-margin`), or less for a short allocation.

A release is not recorded: who asked for it sees the nodes again when the manager has been started anew, and asks again.
"""

from __future__ import annotations

import logging
import math

from ..model.ids import NodeNo
from ..model.states import NodeState
from ..wire import frames
from .agents import Agents
from .end_margin import margin_for
from .ending import LAST_WRITES_S
from .parts import Parts

log = logging.getLogger(__name__)


class NodeEnds:
    """Lets nodes leave in order."""

    def __init__(self, parts: Parts, agents: Agents) -> None:
        self._parts = parts
        self._scheduler = parts.scheduler
        self._nodes = parts.scheduler.nodes
        self._agents = agents
        self._released: set[str] = set()
        """Allocations whose nodes are not wanted any more."""
        agents.on_hello = self._on_hello

    def watch_all(self) -> None:
        """Those that the journal knows."""
        for node in self._nodes.here:
            self._watch(node)

    def release(self, allocation: str) -> int:
        """Let the nodes of this allocation end what runs there and leave; returns how many are here.

        Those that come later are sent away.
        """
        self._released.add(allocation)
        theirs = [node for node in self._nodes.here if self._nodes.specs[node].allocation == allocation]
        log.info("allocation.released", extra={"allocation": allocation, "nodes": len(theirs)})
        for node in theirs:
            self._drain(node)
        return len(theirs)

    def _on_hello(self, node: NodeNo) -> None:
        until_s = self._nodes.times[node]
        if until_s is None:
            self._watch(node)
        if self._nodes.specs[node].allocation in self._released or (until_s and until_s <= self._parts.now()):
            self._drain(node)

    def _watch(self, node: NodeNo) -> None:
        ends_s = self._nodes.specs[node].ends_s
        if ends_s is None:
            return
        settings, now = self._parts.settings, self._parts.now()
        margin_s, _ = margin_for(settings.end_margin_s, ends_s - now)
        self._nodes.times.set(node, float(math.floor(ends_s - margin_s)))  # the same for all of an allocation
        log.info("node.end_known", extra={"node": self._nodes.specs[node].name, "left_s": ends_s - now})
        self._parts.loop.call_after(max(0.0, ends_s - margin_s - now), lambda: self._drain(node))
        latest_s = min(settings.kill_grace_s + LAST_WRITES_S, margin_s)
        self._parts.loop.call_after(max(0.0, ends_s - latest_s - now), lambda: self._stop(node))

    def _drain(self, node: NodeNo) -> None:
        """An agent that is not heard now is told when it says Hello."""
        link = self._agents.links.get(node)
        if link is not None:
            log.info("node.leaves", extra={"node": self._nodes.specs[node].name})
            self._agents.links.send(link, [frames.Drain()])
            if self._nodes[node].state is NodeState.READY:
                self._scheduler.on_node_draining(node)

    def _stop(self, node: NodeNo) -> None:
        link = self._agents.links.get(node)
        if link is not None:
            self._agents.links.send(link, [frames.Stop(kill=True)])
