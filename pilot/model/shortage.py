"""What of a need is too much for these nodes: each thing by itself, with the most there is of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from .job_spec import Need, Want
from .resources import APART, GPU, NamedResource, NodeSpec, fraction
from .stock import Stock
from .units import form_bytes

_MIB = 1 << 20


def shortage(need: Need, wants: Sequence[Want], nodes: Sequence[tuple[int, NodeSpec]]) -> str:
    """Why too few of `nodes` can ever give what `need` asks of each; `nodes`: (cores that tasks can get, the rest).

    `wants`: the named resources that are needed of each node.
    """
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
    parts += [short for want in wants if (short := _named_shortage(want, each, count, [spec for _, spec in tagged]))]
    if parts:
        return "; ".join(parts)
    of_names = map(wanted, wants)
    both = " and ".join([*(_many(amount, unit) for amount, unit, _ in _amounts(need, tagged)), *of_names])
    return f"{both} on {each} are needed, and too few nodes have them together"


def pool_shortage(need: Need, pool: Mapping[str, Stock]) -> str | None:
    """What of a need the pool can never give."""
    for want in need.named:
        stock = pool.get(want.name)
        if stock is not None and not stock.could_fit(want):
            return (
                f"{wanted(want)} is needed, the pilot has {_has(stock.resource)}{_whole_only(want, [stock.resource])}"
            )
    return None


def _named_shortage(want: Want, each: str, count: int, nodes: Sequence[NodeSpec]) -> str:
    """Empty when enough nodes have it."""
    if want.name.startswith(APART):
        return ""
    if want.name == GPU:
        have = [NamedResource(GPU, spec.gpu_ids) for spec in nodes if spec.gpu_ids]
    else:
        have = [resource for spec in nodes for resource in spec.named if resource.name == want.name]
    able = sum(Stock(resource).could_fit(want) for resource in have)
    if able >= count:
        return ""
    needed = f"{wanted(want)} on {each} is needed"
    if able:
        return f"{needed}, and only {able} of {len(nodes)} {'has' if able == 1 else 'have'} as much"
    if not have:
        return f"{needed}, no node has {'a GPU' if want.name == GPU else want.name}, nor has the pilot as a whole"
    most = max(have, key=lambda resource: resource.total)
    return f"{needed}, no node has more than {_has(most)}{_whole_only(want, have)}"


def _whole_only(want: Want, have: Sequence[NamedResource]) -> str:
    if want.parts and not any(resource.ids for resource in have):
        return f", without ids: only what has ids can be shared (--resource {want.name}=0-3)"
    return ""


def _has(resource: NamedResource) -> str:
    return f"{amount(resource.total, resource)} {resource.name}"


def amount(count: int, resource: NamedResource) -> str:
    """So much of a resource, in bytes as `400G`."""
    return form_bytes(count) if resource.in_bytes and count else str(count)


def wanted(want: Want) -> str:
    """In words: `2 nvme`, `1/4 gpu`, or `100G scratch` where an amount is plainly one of bytes."""
    if want.name.startswith(APART):
        return f"apart from others ({want.name.removeprefix(APART)})"
    if want.parts:
        return f"{fraction(want.parts)} {want.name}"
    text = form_bytes(want.amount)
    return f"{want.amount if text.endswith('B') or want.amount < _MIB else text} {want.name}"


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
