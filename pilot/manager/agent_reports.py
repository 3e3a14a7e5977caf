"""What agents report of tasks (starts, ends, grants given back) goes to the scheduler, after the claims have been checked."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial

from ..model.attempts import End
from ..model.ids import NodeNo, TaskKey
from ..model.resources import Grant
from ..model.scheduler import Scheduler
from ..wire import frames
from ..wire.ends import one_of
from .agent_links import AgentLinks
from .claims import Claims


class AgentReports:
    """Takes the reports of all agents.

    Args:
        clock: seconds since the epoch.
        take_values: takes what calls have returned.
    """

    def __init__(
        self,
        scheduler: Scheduler,
        claims: Claims,
        links: AgentLinks,
        settings: frames.Settings,
        clock: Callable[[], float],
        take_values: Callable[[Iterable[frames.Values]], None],
    ) -> None:
        self._scheduler = scheduler
        self._claims = claims
        self._links = links
        self._settings = settings
        self._clock = clock
        self._take_values = take_values

    def take(self, node: NodeNo, reported: frames.Report) -> None:
        """What the agent of `node` reports, as far as it can be believed. Raises GarbageError."""
        report = self._claims.of_report(node, reported)
        scheduler, now = self._scheduler, self._clock()
        if report.values:
            self._take_values(self._claims.of_values(node, report.values))
        scheduler.on_all_started(node, report.started, partial(self._take_start, node))
        self._take_columns(node, report, returns_grants=False)
        scheduler.on_ended(node, report.finished, partial(self._take_end, node))
        self._take_columns(node, report, returns_grants=True)
        for key in report.revoked:
            scheduler.on_revoked(TaskKey(*key), now)
        for grant_id in report.returned:
            scheduler.on_returned(grant_id)
        self._claims.log_dropped(node)

    def _take_start(self, node: NodeNo, reported: frames.Started) -> None:
        """One that means more than that a task has started which was sent there."""
        start = self._claims.of_start(node, reported)
        if start is not None:
            key = TaskKey(start.job_no, start.pos, start.run)
            self._scheduler.on_started(key, start.grant_id, start.pid, start.started_s)

    def _take_end(self, node: NodeNo, reported: frames.Finished) -> None:
        """Take an end that is not plain: see PlainEnds."""
        end = self._claims.of_end(node, reported)
        if end is None:
            return
        key, grant = TaskKey(end.job_no, end.pos, end.run), self._scheduler.dispatch.grants.get(end.grant_id)
        if grant is not None and len(grant.shares) > 1:
            self.sweep(grant, key)
        how = End(
            end.pid, end.started_s, end.ended_s, end.exit_code, end.cause, end.cpu_s, end.max_rss_kib, end.message
        )
        self._scheduler.on_finished(key, end.grant_id, how, end.returns_grant, self._clock())

    def _take_columns(self, node: NodeNo, report: frames.Report, returns_grants: bool) -> None:
        for ends in report.succeeded:
            if ends.returns_grants is returns_grants:
                self._claims.check_columns(ends)
                self._scheduler.on_succeeded(node, ends, partial(self._take_end_at, node, ends))

    def _take_end_at(self, node: NodeNo, ends: frames.Succeeded, place: int) -> None:
        self._take_end(node, one_of(ends, place))

    def sweep(self, grant: Grant, ended: TaskKey) -> None:
        """Kill what this task has left on its other nodes before anything else starts there."""
        for share in grant.shares[1:]:
            link = self._links.get(share.node)
            if link is not None:
                self._links.send(link, [frames.Sweep([frames.spread_mark(self._settings, ended)])])
