"""What an agent may report: the gate between its frames and the core.

The decoder has refused numbers that nothing here can hold (wire/frames.py). What is left to ask is whether the agent may say
it: a report counts only for what was sent to its own node, and what it holds must be what a manager can have given. An agent
with a fault, or one that means harm, costs what runs on its node and nothing else.

A frame that no agent of ours can have sent is a reason to dismiss the agent (`GarbageError`). Reports about things of another
node are dropped: it would help nobody to stop what runs on either.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Container, Iterable, Mapping, Sequence, Sized
from typing import NamedTuple, TypeVar

import msgspec

from ..model.holdings import END_OF_NUMBERS
from ..model.ids import GrantId, NodeNo, PoolId, TaskKey
from ..model.resources import (
    APART,
    GPU,
    PARTS,
    UNUSED,
    Grant,
    NamedResource,
    NodeSpec,
    Share,
    Taken,
    is_condition,
    is_tag,
)
from ..model.scheduler import Scheduler
from ..model.states import Cause
from ..model.stock import Stocks
from ..wire import frames
from ..wire.ranges import LATEST_S

log = logging.getLogger(__name__)

_NO_GRANT = GrantId(-1)
_MOST_MESSAGE = 8192
_MOST_NAME = 255
_MOST_CORES, _MOST_GPUS, _MOST_TAGS = 65_536, 4096, 256
_MOST_NAMED = 64
_MOST_BYTES = 1 << 60
_PROCESSORS = re.compile(r"\d{1,6}(&\d{1,6})*", re.ASCII)

_OfGrant = TypeVar("_OfGrant", frames.Started, frames.Finished)


class GarbageError(Exception):
    """No agent of ours can have sent this; the text says why."""


class Held(NamedTuple):
    """What an agent says it holds, as far as that is its own affair."""

    grants: list[Grant]
    running: list[frames.Started]
    waiting: dict[PoolId, list[TaskKey]]
    not_its_own: list[TaskKey]
    """Attempts that were sent to other nodes."""


class Claims:
    """Compares frames with what `scheduler` knows. `numbers`: the nodes that are here, by name."""

    def __init__(self, scheduler: Scheduler, numbers: Mapping[str, NodeNo]) -> None:
        self._scheduler = scheduler
        self._numbers = numbers
        self._of_pool = {name: stock.resource for name, stock in scheduler.nodes.stocks.pool.items()}
        self._dropped = 0
        """What has not been logged yet of that."""

    # --- reports --------------------------------------------------------------------------------------------------------

    def of_report(self, node: NodeNo, report: frames.Report) -> frames.Report:
        """What of the report of this node's agent counts, but for its starts and ends: see `of_start`, `of_end`."""
        if not (report.revoked or report.returned):
            return report
        revoked = [key for key in report.revoked if self._is_own(node, key)]
        self._dropped += len(report.revoked) - len(revoked)
        returned = [grant_id for grant_id in report.returned if self._is_own_grant(node, grant_id)]
        return msgspec.structs.replace(report, revoked=revoked, returned=returned)

    def of_start(self, node: NodeNo, start: frames.Started) -> frames.Started | None:
        """What counts of a start that the core has not found to be plain; None: nothing."""
        if not self._is_own(node, start):
            self._dropped += 1
            return None
        return self._with_own_grant(node, start)

    @staticmethod
    def check_columns(ends: frames.Succeeded) -> None:
        """Raises GarbageError."""
        columns: list[Sized] = list(ends[3:])
        distinct = ends.grant_ids if ends.returns_grants else ends.pos
        if len(set(map(len, columns))) > 1 or not len(set(ends.pos)) == len(set(distinct)) == len(ends.pos):
            raise GarbageError("it reports ends in columns that do not belong together")

    def of_end(self, node: NodeNo, end: frames.Finished) -> frames.Finished | None:
        """What counts of an end that the core has not found to be plain; None: nothing. Raises GarbageError."""
        if not self._is_own(node, end):
            self._dropped += 1
            return None
        return self._with_own_grant(node, _checked(end))

    def of_values(self, node: NodeNo, values: Iterable[frames.Values]) -> list[frames.Values]:
        """What of the values of calls counts: those of calls that were sent to this node. Raises GarbageError."""
        counting = []
        for of_job in values:
            job_no, run, positions, data = of_job
            counts = of_job
            if len(positions) != len(data):
                raise GarbageError("it reports values in columns that do not belong together")
            if self._scheduler.jobs.by_no(job_no) is None:  # removed since
                continue
            keep = [place for place, pos in enumerate(positions) if self._is_own(node, TaskKey(job_no, pos, run))]
            if len(keep) < len(positions):
                self._dropped += len(positions) - len(keep)
                counts = of_job._replace(pos=[positions[place] for place in keep], data=[data[place] for place in keep])
            counting.append(counts)
        return counting

    def log_dropped(self, node: NodeNo) -> None:
        """Log how much of this node's report was about others."""
        if self._dropped:
            name = self._scheduler.nodes.specs[node].name
            log.warning("agent.not_its_own", extra={"node": name, "tasks": self._dropped})
            self._dropped = 0

    def _is_own(self, node: NodeNo, attempt: frames.Started | frames.Finished | TaskKey) -> bool:
        """Whether the attempt was sent to this node, or is not known (any more): then the core ignores it.

        A joined node that has come again has another number, and may report what it ended meanwhile.
        """
        sent_to = self._scheduler.node_of(TaskKey(attempt[0], attempt[1], attempt[2]))
        if sent_to is None or sent_to == node:
            return True
        specs = self._scheduler.nodes.specs
        return specs[sent_to].name == specs[node].name

    def _is_own_grant(self, node: NodeNo, grant_id: GrantId) -> bool:
        grant = self._scheduler.dispatch.grants.get(grant_id)
        return grant is None or grant.shares[0].node == node

    def _with_own_grant(self, node: NodeNo, each: _OfGrant) -> _OfGrant:
        return each if self._is_own_grant(node, each.grant_id) else each._replace(grant_id=_NO_GRANT)

    # --- Hello ----------------------------------------------------------------------------------------------------------

    def check_hello(self, node: NodeNo | None, hello: frames.Hello, again: bool) -> None:
        """Raises GarbageError.

        `node` None: it is about to join with what `hello.joins` says. `again`: what we know of this node, we gave this agent.
        """
        if not all(map(_is_name, (hello.agent_id, hello.node, hello.host))):
            raise GarbageError("it has an impossible name")
        if hello.joins is not None:
            _check_spec(hello.node, hello.joins)
        for slots in hello.slots:
            if not _are_distinct(slots, _MOST_CORES) or not all(map(_PROCESSORS.fullmatch, slots)):
                raise GarbageError("it reports impossible processors")
        spec = hello.joins if node is None else self._scheduler.nodes.specs[node]
        assert spec is not None
        self._check_grants(node, spec, hello, again)

    def _check_grants(self, node: NodeNo | None, spec: NodeSpec, hello: frames.Hello, again: bool) -> None:
        known = self._scheduler.dispatch.grants if again else {}
        ours = [share for grant in known.values() for share in grant.shares if share.node == node]
        cores, stocks = _union(share.cores for share in ours), Stocks(())
        stocks.add_node(spec)
        for share in ours:
            stocks.take(0, _beside_cores(share, self._of_pool))
        seen: set[GrantId] = set()
        for grant in hello.grants:
            self._check_numbers(node, grant)
            if grant.grant_id in seen:
                raise GarbageError(f"it holds grant {grant.grant_id} twice")
            seen.add(grant.grant_id)
            if grant.grant_id in known:
                continue
            if not grant.nodes or grant.nodes[0].name != hello.node:
                raise GarbageError(f"it holds grant {grant.grant_id}, which is not of its node")
            if not 0 <= grant.mem_bytes <= (spec.mem_bytes or _MOST_BYTES):
                raise GarbageError(f"it holds grant {grant.grant_id} with memory that the node does not have")
            first = _share(NodeNo(0), spec, grant.nodes[0], self._of_pool)
            if first is None or first.cores & cores:
                raise GarbageError(f"it holds grant {grant.grant_id} with cores or GPUs that it cannot have")
            cores |= first.cores
            for taken in _beside_cores(first, self._of_pool):
                if not stocks.is_free(0, (taken,)):
                    raise GarbageError(f"it holds grant {grant.grant_id} with {taken.name} that it cannot have")
                stocks.take(0, (taken,))

    def _check_numbers(self, node: NodeNo | None, grant: frames.NewGrant) -> None:
        dispatch = self._scheduler.dispatch
        if not 0 < grant.grant_id < END_OF_NUMBERS or not 0 < grant.pool < END_OF_NUMBERS:
            raise GarbageError(f"it holds grant {grant.grant_id} of pool {grant.pool}, numbers that were never given")
        known, pool = dispatch.grants.get(grant.grant_id), dispatch.pools.get(grant.pool)
        if (known is not None and known.shares[0].node != node) or (pool is not None and pool.node != node):
            raise GarbageError(f"it holds grant {grant.grant_id} of pool {grant.pool}, which is another node's")

    def held(self, node: NodeNo, hello: frames.Hello) -> Held:
        """What of a checked Hello counts."""
        dispatch = self._scheduler.dispatch
        running = [self._with_own_grant(node, each) for each in hello.running if self._is_own(node, each)]
        waiting: dict[PoolId, list[TaskKey]] = {}
        for pool_id, keys in hello.waiting.items():
            pool = dispatch.pools.get(pool_id)
            if pool is None or pool.node == node:
                waiting[pool_id] = [TaskKey(*key) for key in keys if self._is_own(node, key)]
        new = [grant for grant in hello.grants if grant.grant_id not in dispatch.grants]
        grants = [self._grant(node, grant, running, waiting) for grant in new]
        return Held(grants, running, waiting, [key for key in named_in(hello) if not self._is_own(node, key)])

    def _grant(
        self,
        node: NodeNo,
        grant: frames.NewGrant,
        running: Sequence[frames.Started],
        waiting: Mapping[PoolId, Sequence[TaskKey]],
    ) -> Grant:
        """What it has of other nodes, or of the pool, counts only while a task may use it that was sent to this node."""
        specs, attempts = self._scheduler.nodes.specs, self._scheduler.dispatch.attempts
        first = _share(node, specs[node], grant.nodes[0], self._of_pool, grant.mem_bytes)
        assert first is not None
        shares = {node: first}
        users = [TaskKey(each.job_no, each.pos, each.run) for each in running if each.grant_id == grant.grant_id]
        if any(key in attempts for key in (*users, *waiting.get(grant.pool, ()))):
            for part in grant.nodes[1:]:
                other = self._numbers.get(part.name)
                share = None if other is None or other in shares else _share(other, specs[other], part, {})
                if share is not None:
                    shares[share.node] = share
        elif first.named:
            shares[node] = first._replace(named=tuple(each for each in first.named if each.name not in self._of_pool))
        return Grant(grant.grant_id, grant.pool, tuple(shares.values()))


def named_in(hello: frames.Hello) -> set[TaskKey]:
    """The attempts that an agent says it has, started or not."""
    running = {TaskKey(*started[:3]) for started in hello.running}
    return running.union(*([TaskKey(*key) for key in keys] for keys in hello.waiting.values()))


def _checked(each: frames.Finished) -> frames.Finished:
    if each.cause is Cause.LOST or (each.cause is Cause.EXITED and each.pid <= 0):
        raise GarbageError(f"it reports an impossible end: {each.cause.name} of process {each.pid}")
    return each if len(each.message) <= _MOST_MESSAGE else each._replace(message=f"{each.message[:_MOST_MESSAGE]}...")


def _share(
    node: NodeNo, spec: NodeSpec, part: frames.NodeShare, of_pool: Mapping[str, NamedResource], mem_bytes: int = 0
) -> Share | None:
    """Part of a grant in our numbers; None when the node, or the pool, has no such cores, GPUs or named resources."""
    cores, gpus = _mask(spec.core_ids, part.core_ids), _mask(spec.gpu_ids, part.gpu_ids)
    if cores is None or gpus is None:
        return None
    there = {GPU: NamedResource(GPU, spec.gpu_ids), **of_pool, **{each.name: each for each in spec.named}}
    named = [
        _condition(spec, each) if is_condition(each.name) else _taken(there.get(each.name), each) for each in part.named
    ]
    known = tuple(taken for taken in named if taken is not None)
    if len(known) < len(named) or len({taken.name for taken in known}) < len(known):
        return None
    unused = next((taken.slots for taken in known if taken.name == UNUSED), 0)
    return None if cores & unused else Share(node, cores | unused, gpus, mem_bytes, known)


def _condition(spec: NodeSpec, share: frames.NamedShare) -> Taken | None:
    """How a task is placed: cores that it keeps from others, or its label; None when there can be no such thing."""
    if share.name == UNUSED:
        slots = _mask(spec.core_ids, share.ids)
        return Taken(UNUSED, 0, slots) if slots and not (share.amount or share.parts) else None
    is_apart = share.name.startswith(APART) and _is_name(share.name) and (share.amount, share.parts) == (1, 0)
    return Taken(share.name, 1) if is_apart and not share.ids else None


def _taken(resource: NamedResource | None, share: frames.NamedShare) -> Taken | None:
    """None when there is no such thing."""
    slots = None if resource is None else _mask(resource.ids, share.ids)
    if resource is None or slots is None:
        return None
    if resource.ids:
        can_be = share.amount == 0 and slots and (not share.parts or len(share.ids) == 1) and 0 <= share.parts < PARTS
    else:
        can_be = 0 < share.amount <= resource.amount and not share.parts
    return Taken(share.name, share.amount, slots, share.parts) if can_be else None


def _beside_cores(share: Share, of_pool: Container[str]) -> list[Taken]:
    """What it has of the node's GPUs and named resources."""
    gpus = [Taken(GPU, 0, share.gpus)] if share.gpus else []
    return [*gpus, *(taken for taken in share.named if taken.name not in of_pool and taken.name != UNUSED)]


def _mask(names: Sequence[str], wanted: Sequence[str]) -> int | None:
    """The places of `wanted` in `names`; None when one of them is not there, or wanted twice."""
    places = {name: place for place, name in enumerate(names)}
    if len(set(wanted)) < len(wanted) or not all(name in places for name in wanted):
        return None
    return sum(1 << places[name] for name in wanted)


def _union(masks: Iterable[int]) -> int:
    union = 0
    for mask in masks:
        union |= mask
    return union


def _check_spec(name: str, spec: NodeSpec) -> None:
    """What a node that joins says of itself."""
    if not spec.joined or spec.name != name or not _is_name(name) or set(name) & set(" ,/"):
        raise GarbageError("it brings an impossible node")
    if not spec.core_ids or not _are_distinct(spec.core_ids, _MOST_CORES) or not all(map(_is_name, spec.core_ids)):
        raise GarbageError("it brings a node with impossible cores")
    if spec.bind and not all(map(_PROCESSORS.fullmatch, spec.core_ids)):
        raise GarbageError("it brings a node with cores that nothing can be bound to")
    if not _are_distinct(spec.gpu_ids, _MOST_GPUS) or not all(map(_is_name, spec.gpu_ids)):
        raise GarbageError("it brings a node with impossible GPUs")
    if not 0 <= spec.mem_bytes <= _MOST_BYTES:
        raise GarbageError("it brings a node with an impossible amount of memory")
    if spec.allocation and not _is_name(spec.allocation):
        raise GarbageError("it brings a node of an impossible allocation")
    if spec.ends_s is not None and not 0 < spec.ends_s <= LATEST_S:
        raise GarbageError("it brings a node with an impossible end")
    if len(spec.named) > _MOST_NAMED or len({each.name for each in spec.named}) < len(spec.named):
        raise GarbageError("it brings a node with too many named resources, or one twice")
    if not all(resource.is_possible and all(map(_is_name, resource.ids)) for resource in spec.named):
        raise GarbageError("it brings a node with an impossible named resource")
    if len(spec.tags) > _MOST_TAGS or not all(_is_name(tag) and is_tag(tag) for tag in spec.tags):
        raise GarbageError("it brings a node with impossible tags")


def _is_name(text: str) -> bool:
    return 0 < len(text) <= _MOST_NAME and text.isprintable()


def _are_distinct(names: Sequence[str], most: int) -> bool:
    return len(names) <= most and len(set(names)) == len(names)
