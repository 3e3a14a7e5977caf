"""What of a need is too much for these nodes: each thing by itself, with the most there is of it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from .job_spec import Need
from .resources import NodeSpec

_MIB = 1 << 20


def shortage(need: Need, nodes: Sequence[tuple[int, NodeSpec]]) -> str:
    """Why too few of `nodes` can ever give what `need` asks of each; `nodes`: (cores that tasks can get, the rest)."""
    count = 1 if need.nodes is None else need.nodes.min
    if len(nodes) < count:
        return f"{_many(count, 'node')} are needed, the pilot has {len(nodes)}"
    tagged = [node for node in nodes if set(need.tags) <= set(node[1].tags)]
    words = f" tagged {', '.join(need.tags)}" if need.tags else ""
    if len(tagged) < count:
        return f"{_many(count, 'node')}{words} {'is' if count == 1 else 'are'} needed, the pilot has {len(tagged)}"
    each = f"a node{words}" if count == 1 else f"each of {count} nodes{words}"
    parts = [
        f"{_many(amount, unit)} on {each} {'is' if amount == 1 else 'are'} needed, {_most(amount, unit, found)}"
        for amount, unit, found in _amounts(need, tagged)
        if sum(amount <= there for there in found) < count
    ]
    if parts:
        return "; ".join(parts)
    both = " and ".join(_many(amount, unit) for amount, unit, _ in _amounts(need, tagged))
    return f"{both} on {each} are needed, and too few nodes have them together"


def _amounts(need: Need, nodes: Sequence[tuple[int, NodeSpec]]) -> Iterator[tuple[int, str, list[int]]]:
    """(how much of it, of what, how much each node has)."""
    yield max(1, need.cores.min) if need.cores is not None else 1, "core", [cores for cores, _ in nodes]
    if need.gpus:
        yield need.gpus, "GPU", [len(spec.gpu_ids) for _, spec in nodes]
    if need.mem_bytes:
        # A node that does not tell its memory takes any need for it.
        yield need.mem_bytes, "byte", [spec.mem_bytes or need.mem_bytes for _, spec in nodes]


def _most(amount: int, unit: str, found: Sequence[int]) -> str:
    able = sum(amount <= there for there in found)
    if able:
        return f"and only {able} of {len(found)} {'has' if able == 1 else 'have'} as much"
    if not max(found):
        return f"no node has a {unit}"
    in_all = f" ({_many(sum(found), unit)} in all)" if len(found) > 1 else ""
    return f"no node has more than {_many(max(found), unit)}{in_all}"


def _many(amount: int, unit: str) -> str:
    if unit == "byte":
        return f"{amount / _MIB:.0f} MiB of memory"
    return f"{amount} {unit}" if amount == 1 else f"{amount} {unit}s"
