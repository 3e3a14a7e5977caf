"""Whether a need can ever be met on these nodes, and which to keep free for it: what they have, whatever is used now."""

# It is asked once for each job that is submitted, when somebody wants to know why something waits, and for a reservation;
# never for a task that starts. So it may look at each node, which `Nodes.find` must not. The exception are jobs that ask for
# cores anywhere, as most do: pilots are sent a million of these, and they are compared with one number.
#
# A node that is away counts: it may come back. One that has left does not.
#
# To hold nodes is a matter of capacity as well: which of them will have enough once nothing new starts there. Those with most
# free cores are taken, as less has to end on them. Rejected: those whose tasks end first. It is not known when they do.

from __future__ import annotations

from collections.abc import Sequence

from .job_spec import Need
from .nodes import Nodes
from .resources import bits
from .shortage import pool_shortage, shortage


def why_never(nodes: Nodes, need: Need) -> str | None:
    """Why `need` cannot be met even when everything is free; None when it can."""
    lacking = pool_shortage(need, nodes.stocks.pool)
    if lacking is not None:
        return lacking
    if need.nodes is None and not nodes.is_per_node(need):
        assert need.cores is not None
        cores = nodes.total_cores  # most jobs ask for no more, and that must not cost a look at each node
        if need.tags:
            cores = sum(nodes.size[node] for node in nodes.here if _able(nodes, node, need))
        if need.cores.min <= cores:
            return None
        return f"{need.cores.min} cores{_tagged(need)} are needed, the pilot has {cores}"
    if sum(_able(nodes, node, need) for node in nodes.here) >= _nodes_of(need):
        return None
    wants = nodes.stocks.of_node(need)
    return shortage(need, wants, [(nodes.size[node], nodes.specs[node]) for node in nodes.here])


def why_none(nodes: Nodes, needs: Sequence[Need]) -> str | None:
    """Why none of them can ever be met."""
    reasons = []
    for need in needs:
        reason = why_never(nodes, need)
        if reason is None:
            return None
        reasons.append(reason)
    return "; nor will the alternative do: ".join(reasons)


def _able(nodes: Nodes, node: int, need: Need) -> bool:
    if need.tags and not nodes.has_tags(node, need.tags):
        return False
    spec = nodes.specs[node]
    enough = nodes.size[node] >= (max(1, need.cores.min) if need.cores is not None else 1)
    if need.nodes is None and not nodes.is_per_node(need):
        return True
    enough = enough and len(spec.gpu_ids) >= need.gpus and (not spec.mem_bytes or spec.mem_bytes >= need.mem_bytes)
    return enough and (not need.named or nodes.stocks.node_could_fit(node, nodes.stocks.of_node(need)))


def choose_to_hold(nodes: Nodes, need: Need, without: int = 0) -> int:
    """The usable nodes on which `need` can be met soonest if nothing new starts there: those with most free cores.

    Empty when not enough usable nodes are able; `without` these.
    """
    able = [node for node in bits(nodes.usable & ~without) if _able(nodes, node, need)]
    able.sort(key=lambda node: (-nodes.free_cores[node].bit_count(), node))
    held = 0
    if need.nodes is None and not nodes.is_per_node(need):
        assert need.cores is not None
        left = need.cores.min
        for node in able:
            if left <= 0:
                break
            held |= 1 << node
            left -= nodes.size[node]
        return held if left <= 0 else 0
    count = _nodes_of(need)
    for node in able[:count]:
        held |= 1 << node
    return held if len(able) >= count else 0


def _nodes_of(need: Need) -> int:
    """On how many nodes it must be met at least."""
    return 1 if need.nodes is None else need.nodes.min


def _tagged(need: Need) -> str:
    return f" on nodes tagged {', '.join(need.tags)}" if need.tags else ""
