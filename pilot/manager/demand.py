"""The `demand` request: what waits for nodes, and what the nodes do, gathered in slices like `overview`.

The cost follows from shapes, pools and nodes, and for shapes of single jobs from their number, up to `_MOST_COUNTED`: who asks
for nodes needs to know no more of very many tasks than that they are very many.

How long a node has been idle is known as well as somebody asks: from when it was first seen idle, unless something was sent to
it since. To note the moment in which its last core was given back would cost every task a little, for a number that is asked
for a few times a minute.
"""

from __future__ import annotations

import sys
from itertools import islice
from typing import Any

from ..model.ids import NodeNo
from ..model.job_spec import Need, Want
from ..model.jobs import Entry, LeasePool, Shape
from ..model.resources import PARTS, is_condition
from ..model.states import NodeState, State
from ..model.steps import Pause, Steps
from ..wire import demand as wire
from .parts import Parts
from .shutdown import Shutdown

_SLICE = 1000
_MOST_COUNTED = 200_000


class DemandView:
    """Tells it, and remembers what was idle."""

    def __init__(self, parts: Parts, shutdown: Shutdown) -> None:
        self._parts = parts
        self._shutdown = shutdown
        self._scheduler = parts.scheduler
        self._idle: dict[NodeNo, tuple[float, float]] = {}
        """By node since when it has been seen idle, and when something had last been sent there."""

    def describe(self) -> Steps[wire.Demand]:
        dispatch, now = self._scheduler.dispatch, self._parts.now()
        at_node: dict[NodeNo, list[LeasePool]] = {}
        running: dict[int, int] = {}
        for number, pool in enumerate(list(dispatch.pools.values()), 1):
            at_node.setdefault(pool.node, []).append(pool)
            shape = id(pool.shape)
            running[shape] = running.get(shape, 0) + pool.grants
            if not number % _SLICE:
                yield Pause.MORE
        shapes, waiting = [], 0
        for _, _, head in sorted(self._scheduler.queue.heads()):
            tasks, shape_running = (yield from _count(head.shape)), running.get(id(head.shape), 0)
            waiting += tasks
            tasks = min(tasks, self._most_at_once(head.shape.need) - shape_running)
            if tasks > 0:
                shapes.append(self._shape(head, tasks, shape_running))
        nodes = yield from self._nodes(at_node, now)
        left_s = None if dispatch.ends_s is None else max(0.0, dispatch.ends_s - dispatch.margin_s - now)
        return wire.Demand(
            version=wire.VERSION,
            at_s=now,
            shapes=shapes,
            nodes=nodes,
            blocked=max(0, self._scheduler.jobs.tasks_in[State.QUEUED] - waiting),
            closing=self._shutdown.closing,
            ending=self._shutdown.stopping or left_s == 0,
            margin_s=self._parts.settings.end_margin_s,
            left_s=left_s,
        )

    def _nodes(self, at_node: dict[NodeNo, list[LeasePool]], now: float) -> Steps[list[wire.NodeUse]]:
        uses = []
        here = list(self._scheduler.nodes.here)
        idle = self._idle
        self._idle = {}
        for number, node in enumerate(here, 1):
            use = self._use(node, at_node.get(node, []), now)
            if use.state == NodeState.READY.name and use.cores_free == use.cores:
                sent_s = self._scheduler.dispatch.sent_s.get(node, 0.0)
                since_s, before_s = idle.get(node, (now, sent_s))
                self._idle[node] = (since_s, sent_s) if before_s == sent_s else (now, sent_s)
                use.idle_s = now - self._idle[node][0]
            uses.append(use)
            if not number % _SLICE:
                yield Pause.MORE
        return uses

    def _most_at_once(self, need: Need) -> int:
        """How many such tasks can run at a time, however many nodes there are: the pool has no more of what it has itself."""
        stocks = self._scheduler.nodes.stocks
        shares = ((stocks.pool[want.name].resource.total, _share(want)) for want in stocks.of_pool(need))
        return min((int(total / share) for total, share in shares), default=sys.maxsize)

    def _shape(self, head: Entry, tasks: int, running: int) -> wire.ShapeDemand:
        shape, need = head.shape, head.shape.need
        means = [pool.pace.mean_s for pool in shape.pools.values() if pool.pace.mean_s is not None]
        pos = head.job.tasks.first_queued() if head.job.is_iteration else None
        return wire.ShapeDemand(
            **self._needs(need),
            tasks=tasks,
            wt_s=shape.wt_s or None,
            least_s=shape.least_s,
            mean_s=sum(means) / len(means) if means else shape.mean_s,
            running=running,
            first=head.job.spec.name if pos is None else head.job.spec.task_name(pos),
            alternatives=[
                wire.ShapeDemand(0, **self._needs(other), wt_s=shape.wt_s or None, least_s=shape.least_s)
                for other in head.job.spec.resources.alternatives
            ],
        )

    def _needs(self, need: Need) -> dict[str, Any]:
        """What one task needs, as members of a ShapeDemand."""
        wants = self._scheduler.nodes.stocks.of_node(need)
        return {
            "cores": None if need.cores is None else (need.cores.min, need.cores.max),
            "nodes": None if need.nodes is None else (need.nodes.min, need.nodes.max),
            "gpus": need.gpus,
            "mem_bytes": need.mem_bytes,
            "tags": list(need.tags),
            "named": {want.name: _share(want) for want in wants if not is_condition(want.name)},
            "one_per_node": any(is_condition(want.name) for want in wants),
        }

    def _use(self, node: NodeNo, pools: list[LeasePool], now: float) -> wire.NodeUse:
        nodes = self._scheduler.nodes
        spec, until_s = nodes.specs[node], nodes.times[node]
        return wire.NodeUse(
            name=spec.name,
            state=nodes[node].state.name,
            cores=nodes.all_cores[node].bit_count(),
            cores_free=nodes.free_cores[node].bit_count(),
            gpus=len(spec.gpu_ids),
            gpus_free=nodes.stocks.gpus[node].free,
            mem_bytes=spec.mem_bytes,
            mem_free_bytes=nodes.free_mem[node] if spec.mem_bytes else 0,
            tags=list(spec.tags),
            named={stock.resource.name: stock.resource.total for stock in nodes.stocks.named(node)},
            allocation=spec.allocation,
            left_s=None if until_s is None else max(0.0, until_s - now),
            busy_for_s=_busy_for(pools, now),
        )


def _busy_for(pools: list[LeasePool], now: float) -> float | None:
    """In how long all that these have must have ended; None: nothing, or something without a limit."""
    busy = [pool for pool in pools if not pool.is_empty]
    if not busy or not all(pool.shape.wt_s for pool in busy):
        return None
    rounds = [1 + len(pool.unstarted) // max(1, pool.grants) for pool in busy]
    return max(
        0.0, max(pool.latest_s + pool.shape.wt_s * count for pool, count in zip(busy, rounds, strict=True)) - now
    )


def _count(shape: Shape) -> Steps[int]:
    """How many tasks wait in this shape, as far as that is counted."""
    listed, _ = shape.first(_MOST_COUNTED)
    tasks = 0
    rest = iter(listed)
    while portion := list(islice(rest, _SLICE)):
        tasks += sum(pending.live for pending in portion)
        yield Pause.MORE
    return tasks


def _share(want: Want) -> float:
    """How much of the resource one task has: less than 1 of a thing of which it has a part."""
    return want.parts / PARTS if want.parts else float(want.amount)
