"""Which agent may serve which node: one of the pilot's own that is expected there, or one that joins under a name that is free.

An agent that nobody expects is sent away and runs nothing: an earlier life of the manager may have started it, or somebody
who has the keys, and the node stays with the one that it has.
"""

from __future__ import annotations

from collections.abc import Container
from itertools import count
from typing import NamedTuple

from ..model.ids import NodeNo
from ..model.nodes import Nodes
from ..model.resources import SAME_HOST, host_of
from ..wire import frames


class Newcomer(NamedTuple):
    """An agent that says Hello. `node`: the one that has its name, `agent_id`: who serves that now; None for nobody."""

    hello: frames.Hello
    node: NodeNo | None
    agent_id: str | None
    is_ending: bool
    """The pilot is."""

    @property
    def is_served_by_another(self) -> bool:
        return self.agent_id is not None and self.agent_id != self.hello.agent_id


def why_not(newcomer: Newcomer, nodes: Nodes) -> str:
    """Why this agent is not wanted; empty when it is."""
    hello, node = newcomer.hello, newcomer.node
    if hello.version != frames.VERSION:
        return f"it speaks version {hello.version} of the protocol, the manager {frames.VERSION}"
    if hello.joins is None:
        return _why_not_expected(hello, node, nodes)
    ours = [resource.name for resource in hello.joins.named if resource.name in nodes.stocks.pool]
    if ours:
        return f"the pilot has {ours[0]} as a whole; leave --resource {ours[0]} out"
    if node is None:
        return "the pilot is ending" if newcomer.is_ending else ""
    if not nodes.specs[node].joined or newcomer.is_served_by_another:
        return f"the pilot has a node {hello.node} already; give another name with --nodes NAME:CORES"
    return ""


def _why_not_expected(hello: frames.Hello, node: NodeNo | None, nodes: Nodes) -> str:
    if node is None:
        return f"node {hello.node} is not part of the pilot"
    if hello.agent_id not in nodes[node].expected:
        return f"the pilot does not expect an agent {hello.agent_id} on node {hello.node}"
    return ""


def other_name_for(newcomer: Newcomer, nodes: Nodes, taken: Container[str]) -> str | None:
    """The name for a node that is about to join, when its own is taken: two allocations may share a host, and then each
    brings its part. None when there is nothing to rename: what is held already is known by the old name.
    """
    hello, node = newcomer.hello, newcomer.node
    if node is None or hello.joins is None or hello.grants or newcomer.is_ending:
        return None
    if hello.version != frames.VERSION or (nodes.specs[node].joined and not newcomer.is_served_by_another):
        return None
    names = (f"{host_of(hello.node)}{SAME_HOST}{number}" for number in count(2))
    return next(name for name in names if name not in taken)
