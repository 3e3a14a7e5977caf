"""When the journal is worth rewriting without what clients have removed, and doing it.

At a resume that is done at once (`compact`), as nobody is served yet. A running manager does it beside everything else
(`Compacting`), in these steps:

1. At the end of a turn, when the report and the journal tell the same and nothing of what happened is still to be followed, the
   sizes of both are noted. All before that place in the journal is to be compacted, all behind it stays as it is.
2. When the disk has that much, it is read twice: to see what still counts, and to write that into a draft beside it. Reading is
   done in slices of the loop, writing and syncing by a thread, because a disk may take seconds for it.
3. The thread copies to the draft what has come since and is on the disk, until little is left.
4. The store (store.py) brings the rest over with its next sync, and gives the draft the name of the journal.

Until that last step nothing depends on the draft: what goes wrong is logged, and tried again when as much has been removed
once more.

Rejected: a process of its own, which takes the memory once more and a core from the tasks; a thread for all of it, as the loop
would have to wait for the interpreter's lock after each call of the system.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial
from itertools import chain

from ..loop import Loop
from ..model.errors import PilotfishError, TransientError
from ..model.registry import Registry
from ..model.steps import Pause, Steps, finish
from ..wire.compaction import Survey, without_others
from ..wire.records import Compacted
from .disk_sync import DiskSync
from .journal_draft import Draft
from .reporter import Reporter
from .store import Store

log = logging.getLogger(__name__)

WORTH_BYTES = 64 << 20
"""Below this a running manager does not care."""
_LITTLE_BYTES = 1 << 20
_MOST_COPIES = 10
"""Each copies what has come during the one before; a journal that grows as fast as that has to be waited for once."""
_SLICE_S, _PAUSE_S = 0.004, 0.004
_LOOK_S = 0.02
"""How often it is looked whether the disk is ready."""


def mostly_removed(jobs: Registry) -> bool:
    """Whether more tasks were removed since the last time than there are."""
    return jobs.removed_tasks > sum(jobs.tasks_in)


def compact(store: Store, reporter: Reporter | None, jobs: Registry) -> None:
    """Rewrite the journal without removed jobs, at once. Everything must have been synced and reported."""
    jobs.removed_tasks = 0
    before = store.size
    report_bytes = None
    if reporter is not None:
        report_bytes = reporter.sync()
        if report_bytes is None:
            return
    survey = Survey()
    for record in store.records():
        finish(survey.take(record))
    kept = finish(survey.to_keep(jobs.numbers()))  # also those whose removal was not believed
    rest = (record for record in without_others(store.records(), kept) if record is not None)
    try:
        store.replace(chain(rest, [Compacted(survey.next_no, report_bytes)]))
    except TransientError as error:
        log.warning("journal.not_compacted", extra={"error": error})
    else:
        log.info("journal.compacted", extra={"bytes_before": before, "bytes": store.size})


class Compacting:
    """Rewrites the journal of a running manager without removed jobs, as often as it is worth it."""

    def __init__(self, store: Store, reporter: Reporter | None, jobs: Registry, loop: Loop) -> None:
        self._store = store
        self._reporter = reporter
        self._jobs = jobs
        self._loop = loop
        self._steps: Steps[None] | None = None

    @property
    def is_idle(self) -> bool:
        """Whether it is not being done."""
        return self._steps is None

    @property
    def is_due(self) -> bool:
        """Whether most of the journal is about removed jobs, and nothing is being done about it."""
        return self.is_idle and mostly_removed(self._jobs)

    def begin(self) -> None:
        """At the end of a turn in which all is written and reported, and nothing is left to be followed."""
        report_bytes = None
        if self._reporter is not None:
            report_bytes = self._reporter.size
            if report_bytes is None:  # its disk is full
                return
        self._jobs.removed_tasks = 0
        self._steps = self._rewrite(self._store.size, report_bytes)
        self._work()

    def _work(self) -> None:
        """Go on for a slice."""
        steps = self._steps
        assert steps is not None
        until = self._loop.clock() + _SLICE_S
        wait_s = _PAUSE_S
        try:
            while self._loop.clock() < until:
                if next(steps) is Pause.WAITING:
                    wait_s = _LOOK_S
                    break
        except StopIteration:
            self._steps = None
        except (OSError, PilotfishError) as error:
            self._steps = None
            log.warning("journal.not_compacted", extra={"error": error})
        else:
            self._loop.call_after(wait_s, self._work)

    def _rewrite(self, size: int, report_bytes: int | None) -> Steps[None]:
        store = self._store
        numbers = self._jobs.numbers()
        while store.safe_size < size:
            yield Pause.WAITING
        survey = Survey()
        for record in store.records_until(size):
            if record is not None:
                yield from survey.take(record)
            yield Pause.MORE
        kept = yield from survey.to_keep(numbers)
        draft, disk = Draft(store.path), DiskSync()
        try:
            for record in without_others(store.records_until(size), kept):
                if record is not None:
                    draft.append(record)
                if draft.is_full:
                    yield from _beside(disk, draft.write)
                yield Pause.MORE
            draft.append(Compacted(survey.next_no, report_bytes))
            yield from _beside(disk, draft.write)
            if self._reporter is not None:
                yield from _beside(disk, self._reporter.sync_file)
            copied = yield from self._copy_what_has_come(draft, size, disk)
        except BaseException:
            draft.discard()
            raise
        finally:
            disk.close()
        yield from self._hand_over(draft, copied)

    def _copy_what_has_come(self, draft: Draft, copied: int, disk: DiskSync) -> Steps[int]:
        """Returns how much of the journal the draft has what it needs of."""
        descriptor = self._store.descriptor
        for _ in range(_MOST_COPIES):
            safe = self._store.safe_size
            yield from _beside(disk, partial(draft.copy, descriptor, copied, safe))
            copied = safe
            if self._store.safe_size - copied < _LITTLE_BYTES:
                break
        return copied

    def _hand_over(self, draft: Draft, copied: int) -> Steps[None]:
        before = self._store.size
        ends: list[OSError | None] = []
        self._store.replace_with(draft, copied, ends.append)
        while not ends:
            yield Pause.WAITING
        if ends[0] is not None:
            raise ends[0]
        log.info("journal.compacted", extra={"bytes_before": before, "bytes": self._store.size})


def _beside(disk: DiskSync, act: Callable[[], None]) -> Steps[None]:
    """Let the thread do this. Raises OSError as `act`, and when there can be no thread."""
    try:
        disk.begin(act)
    except RuntimeError as error:
        raise OSError(str(error)) from error
    while not disk.wait(0):
        yield Pause.WAITING
    failure = disk.end()
    if failure is not None:
        raise failure
