"""The running manager: sockets and timers around the core, nothing clever.

Each turn of the loop ends in `_end_of_turn`, which is where the promise *record, act, tell* is kept: what the core has
decided goes to the journal, then to the agents, then to subscribers and the report. When the disk is full, the turn waits,
whole, and nothing new is decided or accepted.

What has been written to the file survives a kill of the manager, so work continues from there. Only promises to others wait
until the journal is on disk: replies that something was accepted, and acknowledgements to agents, which keep their reports
until then. The sync is done beside the loop (store.py), so a slow disk holds up nothing else.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from datetime import datetime
from functools import partial
from pathlib import Path

from ..console import echo
from ..exit_codes import ExitCode
from ..model import invariants
from ..model.decisions import Change, Decisions, each_change
from ..model.errors import SettingsError, TransientError
from ..wire import records
from . import request_file
from .agent_processes import Recipe
from .agent_watch import AgentWatch
from .auxdir import leave_socket_folder
from .compacting import WORTH_BYTES, Compacting
from .ending import Ending
from .garbage import Garbage
from .handlers import Handlers
from .metrics import Metrics
from .notices import Notices
from .parts import Parts
from .request_file import RequestFile
from .request_server import RequestServer
from .shutdown import Shutdown

log = logging.getLogger(__name__)

_TICK_S = 0.5
_SYNC_S = 0.2
_RETRY_S = 1.0
_LAST_SYNC_S = 1.0
"""How long the end waits for the disk: what is written survives us, and no more promises are made."""
_CONSEQUENCES = 200
"""How many jobs a turn releases or omits because others have ended: each is recorded, reported and published."""

_STARTS = 2000
"""How many tasks a turn starts on cores that are free: each is a grant, a record and part of a frame."""


class Service:
    """One life of a manager. Built by app.py, which also does the start-up; `run` returns the exit code."""

    def __init__(self, parts: Parts, recipe: Recipe, epoch: str) -> None:
        self.parts = parts
        self.shutdown = Shutdown()
        self.shutdown.on_stop(self._stop)
        self.held = False
        """Nothing is started yet (`--hold-fd`)."""
        self.ending = Ending(parts, self.shutdown)
        self.watch = AgentWatch(parts, self.shutdown, recipe, epoch)
        self.handlers = Handlers(parts, self.shutdown, self.ending, self.watch.ends.release)
        self._request_server = RequestServer(
            parts.endpoints.requests,
            parts.loop,
            self.handlers.answer,
            parts.settings.max_message_mib << 20,
            lambda: parts.store.next_sync,
        )
        self._scheduler = parts.scheduler
        self._store = parts.store
        self.metrics = Metrics(parts)
        self._notices = Notices(parts)
        self._garbage = Garbage()
        self._compacting = Compacting(parts.store, parts.reporter, parts.scheduler.jobs, parts.loop)
        self._stuck: list[Decisions] = []
        """Turns that could not be written yet; only while the disk is full."""
        self._retry_at = 0.0

    def read_requests(self, path: Path) -> RequestFile:
        """The requests of `--file`. Raises SettingsError."""
        requests = request_file.read(path)
        return RequestFile(requests, self.parts.loop, self.handlers.answer_value, self._end_of_file, self._refuse_file)

    def _refuse_file(self, error: SettingsError) -> None:
        """As app.py does with what it knows before it starts."""
        log.error("service.file_refused", extra={"reason": error})
        echo(f"Error: {error}", err=True)
        self.parts.status.problem = str(error)
        self.shutdown.stop(ExitCode.BAD_INPUT)

    def _end_of_file(self) -> None:
        if not self.parts.settings.net and not self.shutdown.closing:
            self.ending.finish_when_idle()

    # --- running --------------------------------------------------------------------------------------------------------

    def run(self) -> int:
        """Serve until everything asked for is done, or a signal; returns the exit code."""
        loop, endpoints = self.parts.loop, self.parts.endpoints
        for socket in endpoints.agents:  # first, so that a dead agent's last report is read before its end is seen
            loop.on_readable(socket, partial(self.watch.read, socket))
        self._request_server.start()
        loop.on_readable(self._store.sync_ended, self._end_sync)
        for socket in endpoints.events:
            loop.on_readable(socket, self.parts.publisher.read_subscriptions)
        if endpoints.authenticator is not None:
            loop.on_readable(endpoints.authenticator.socket, endpoints.authenticator.answer)
        loop.call_every(_TICK_S, self._tick)
        loop.call_every(_SYNC_S, self._sync_results)
        self.watch.start()
        self._scheduler.most_per_turn = _CONSEQUENCES
        self._scheduler.dispatch.most_starts = _STARTS
        loop.run(self._end_of_turn)
        self._close()
        return self.shutdown.exit_code

    def _end_of_turn(self) -> None:
        self._record_act_tell()
        self._request_server.send()  # with a full disk too: clients then ask what is wrong
        self.watch.end_of_turn()
        self._garbage.end_of_turn()
        if self.shutdown.stopping and not self._stuck and self.watch.all_gone:
            self.parts.loop.stop()

    def _record_act_tell(self) -> None:
        if self._stuck and self.parts.loop.clock() < self._retry_at:
            return
        if not (self.shutdown.stopping or self.held or self._stuck):
            self._scheduler.plan(self.parts.now())
        if self.parts.settings.debug_checks:
            invariants.require(self._scheduler)
        self._note(self._scheduler.take_decisions())
        if not self._written():
            return
        self.watch.agents.links.mark_written()
        done, self._stuck = self._stuck, []
        for decisions in done:
            if not self.shutdown.stopping:
                self.watch.agents.send(decisions.orders)
        self._report(done)
        self.parts.recent.note([decisions.changes for decisions in done])
        for decisions in done:
            self._tell(decisions)
        if self.parts.outboxes.has_news:
            self.parts.outboxes.has_news = False
            self._request_server.call_idle()
        if self._request_server.holds_replies:
            self._request_server.written()
            self._begin_sync()
        is_done = self._scheduler.settled and self._scheduler.planned
        if not (is_done or self.shutdown.stopping or self.held):
            self.parts.loop.call_after(0, lambda: None)
        if is_done and not self.shutdown.stopping:
            self._compact_if_worth_it()

    def _compact_if_worth_it(self) -> None:
        """Called where the report has all that follows from the journal: what has no record would be missing in it."""
        if self._store.size > WORTH_BYTES and self._compacting.is_due and not self._scheduler.jobs.entering:
            self._compacting.begin()

    def _note(self, decisions: Decisions) -> None:
        """Put the facts of a turn into the journal's buffer, in the order in which a replay needs them."""
        store, now = self._store, self.parts.now()
        for fact in self.watch.facts:
            store.append(fact)
        self.watch.facts.clear()
        for job_no, pos in decisions.canceled:
            store.append(records.Canceled(job_no, pos, now))
        if decisions.taken:
            store.append(records.Taken(decisions.taken))
        for ends in records.of_results(decisions.results):
            store.append(ends)
        for node, keys in decisions.sent.items():
            store.append(records.Sent(node, now, keys))
        if decisions.removed:
            store.append(records.Removed(decisions.removed))
        self._stuck.append(decisions)

    def _written(self) -> bool:
        try:
            self._store.write()
        except TransientError as error:
            if not self._retry_at:
                log.error("journal.stuck", extra={"error": error})
            self._retry_at = self.parts.loop.clock() + _RETRY_S
            self.parts.loop.call_at(self._retry_at, lambda: None)
            return False
        if self._retry_at:
            log.warning("journal.recovered")
            self._retry_at = 0.0
        return True

    def _begin_sync(self) -> None:
        """Begin a sync, unless one is under way. What it allows us to promise follows in `_end_sync`."""
        if self._store.begin_sync():
            self.watch.agents.links.mark_syncing()
            if self._request_server.holds_replies and self._store.ends_at_once():
                self._end_sync()
        elif not (self._store.is_syncing or self._store.needs_sync):
            self.watch.agents.links.mark_syncing()
            self._promise(self._store.next_sync)

    def _end_sync(self) -> None:
        try:
            done = self._store.end_sync()
        except TransientError as error:  # tried again with the next results, or the next reply that waits
            log.error("journal.unsynced", extra={"error": error})
        else:
            self._promise(done)

    def _promise(self, sync: int) -> None:
        """What was in the journal when this sync began is on disk."""
        self.watch.agents.links.acknowledge()
        self._request_server.release(sync)

    def _sync_results(self) -> None:
        if not self._stuck:
            self._begin_sync()

    def _tick(self) -> None:
        self._request_server.call_idle()
        self.parts.patience.look()
        self.parts.recent.look(self.parts.loop.clock())
        self.metrics.look()
        self._notices.look()
        self._scheduler.on_time(self.parts.now())
        self.watch.processes.look_around()

    # --- notifying ------------------------------------------------------------------------------------------------------

    def _report(self, turns: Iterable[Decisions]) -> None:
        """Bring the endings into the report before anyone is notified of them and may look there."""
        reporter = self.parts.reporter
        if reporter is None:
            return
        for decisions in turns:
            reporter.add_ended(decisions.changes, self.parts.views)
        reporter.write()

    def _tell(self, decisions: Decisions) -> None:
        """Publish the changes of a turn."""
        self.parts.publisher.changed(decisions.changes)
        self.parts.outboxes.changed(decisions.changes)
        if self.parts.settings.show_progress:
            for change in each_change(decisions.changes):
                _show(change)
        ended = [change.job.no for change in decisions.changes if isinstance(change, Change) and change.ends_job]
        if ended:
            self.watch.agents.forget_jobs(ended)
        if decisions.idle:
            self.parts.publisher.all_done(self.parts.now())

    # --- the end --------------------------------------------------------------------------------------------------------

    def _stop(self) -> None:
        self._scheduler.on_stopping()
        log.info("service.stopping", extra={"unfinished": self._scheduler.jobs.unfinished})

    def _close(self) -> None:
        self.watch.facts.append(records.Closed(self.parts.now(), self._scheduler.unfinished))
        self.watch.processes.clear_left_overs()
        self._retry_at = 0.0
        self._end_of_turn()
        self._last_sync()
        self._request_server.send()
        if self.parts.reporter is not None:
            self.parts.reporter.close()
        self.parts.status.write_final()
        self.metrics.close()
        self.parts.endpoints.close()
        leave_socket_folder(self.parts.aux, self.parts.endpoints.folder)
        self.parts.aux.forget_keys()
        self.parts.outboxes.folder.remove()
        self._store.close()
        self.parts.loop.close()
        self._notices.end(self.shutdown.exit_code)  # last, so that the command sees a run that is over

    def _last_sync(self) -> None:
        try:
            if self._store.sync(_LAST_SYNC_S):
                self._promise(self._store.next_sync)
                self.watch.agents.links.tell()
            else:
                log.warning("journal.unsynced", extra={"error": "the disk is too slow"})
        except TransientError as error:
            log.error("journal.unsynced", extra={"error": error})


def _show(change: Change) -> None:
    spec, pos = change.job.spec, change.pos
    name = spec.name if pos is None else spec.task_name(pos)
    echo(f"{datetime.now().isoformat(sep=' ', timespec='seconds')} {name} {change.state.name}")
