"""What one agent is ordered to start, in the words of a frame: definitions of jobs, grants with the ids of cores, tasks."""

from __future__ import annotations

from collections.abc import Callable
from itertools import groupby
from operator import attrgetter

from ..model.decisions import Orders
from ..model.ids import JobNo, NodeNo, PoolId
from ..model.jobs import Job
from ..model.resources import Grant, Share, Taken, bits, is_condition
from ..model.scheduler import Scheduler
from ..wire import frames

_job_of = attrgetter("job_no")


class WorkFrames:
    """Makes them.

    Args:
        bind: whether tasks are to be bound to their cores where these are known.
        inputs_of: what the calls have returned whose values a job of calls takes.
    """

    def __init__(self, scheduler: Scheduler, bind: bool, inputs_of: Callable[[Job], list[bytes]]) -> None:
        self._scheduler = scheduler
        self._inputs_of = inputs_of
        self._bind = bind
        self._core_ids: dict[tuple[NodeNo, int], list[str]] = {}
        """Remembered, because very many grants are of the same few cores."""

    def work(self, orders: Orders, defined: set[JobNo]) -> frames.Work:
        """`defined`: the jobs whose definition the agent has; those that it gets now are added."""
        jobs: list[frames.JobDef] = []
        starts: dict[PoolId, list[frames.TaskStart]] = {}
        for pool, keys in orders.starts.items():
            tasks = starts[pool] = []
            for job_no, of_job in groupby(keys, key=_job_of):
                job = self._scheduler.jobs.by_no(job_no)
                if job is None:
                    continue
                spec = job.spec
                if job_no not in defined:
                    defined.add(job_no)
                    wt_s = spec.resources.wt_s
                    has_params = spec.iteration is not None and bool(spec.iteration.params)
                    inputs = self._inputs_of(job) if spec.execution.calls is not None else []
                    is_iteration = job.is_iteration
                    jobs.append(
                        frames.JobDef(job_no, spec.name, spec.execution, wt_s, is_iteration, has_params, inputs)
                    )
                # A first run is a first attempt; a later one may follow some that came back without a start.
                begun = [(pos, run, 1 if run == 1 else job.attempts(pos)) for _, pos, run in of_job]
                if job.grown is not None:
                    tasks += [
                        frames.TaskStart(
                            job_no, pos, run, spec.index_of(pos), spec.value_of(pos), attempt, wt_s=job.wt_of(pos)
                        )
                        for pos, run, attempt in begun
                    ]
                elif spec.iteration is not None and spec.iteration.is_numbered:
                    tasks += frames.stretches(job_no, spec.iteration.start, begun)
                else:
                    tasks += [
                        frames.TaskStart(job_no, pos, run, spec.index_of(pos), spec.value_of(pos), attempt)
                        for pos, run, attempt in begun
                    ]
        return frames.Work(jobs, [self._new_grant(grant) for grant in orders.grants], starts)

    def _new_grant(self, grant: Grant) -> frames.NewGrant:
        specs = self._scheduler.nodes.specs
        first = grant.shares[0]
        nodes = [
            frames.NodeShare(
                specs[share.node].name,
                self._cores(share),
                [specs[share.node].gpu_ids[bit] for bit in bits(share.gpus)],
                [self._named_share(share.node, taken) for taken in share.named],
            )
            for share in grant.shares
        ]
        bind = self._bind and all(specs[share.node].bind for share in grant.shares)
        hide_gpus = bool(specs[first.node].gpu_ids) and not nodes[0].visible_gpus
        return frames.NewGrant(grant.grant_id, grant.pool, nodes, bind, first.mem_bytes, hide_gpus)

    def _named_share(self, node: NodeNo, taken: Taken) -> frames.NamedShare:
        if is_condition(taken.name):
            core_ids = self._scheduler.nodes.specs[node].core_ids
            return frames.NamedShare(taken.name, [core_ids[bit] for bit in bits(taken.slots)], taken.amount)
        ids = self._scheduler.nodes.stocks.of(node, taken).resource.ids
        return frames.NamedShare(taken.name, [ids[bit] for bit in bits(taken.slots)], taken.amount, taken.parts)

    def _cores(self, share: Share) -> list[str]:
        cores = share.used_cores if share.named else share.cores
        ids = self._core_ids.get((share.node, cores))
        if ids is None:
            all_ids = self._scheduler.nodes.specs[share.node].core_ids
            ids = self._core_ids[share.node, cores] = [all_ids[bit] for bit in bits(cores)]
        return ids

    def forget_cores(self, node: NodeNo) -> None:
        """The node has left, or its cores have other ids than we thought."""
        self._core_ids = {key: ids for key, ids in self._core_ids.items() if key[0] != node}
