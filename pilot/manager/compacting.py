"""When the journal is worth rewriting without what clients have removed, and doing it."""

from __future__ import annotations

import logging
from itertools import chain

from ..model.errors import TransientError
from ..model.registry import Registry
from ..wire.compaction import Survey, without_others
from ..wire.records import Compacted
from .reporter import Reporter
from .store import Store

log = logging.getLogger(__name__)

WORTH_BYTES = 64 << 20
"""Below this a running manager does not care: rewriting stops it for a moment."""


def mostly_removed(jobs: Registry) -> bool:
    """Whether more tasks were removed since the last time than there are."""
    return jobs.removed_tasks > sum(jobs.tasks_in)


def compact(store: Store, reporter: Reporter | None, jobs: Registry) -> None:
    """Rewrite the journal without removed jobs. Everything must have been synced and reported.

    It is an economy: what goes wrong is logged, and tried again when as much has been removed once more.
    """
    jobs.removed_tasks = 0
    before = store.size
    report_bytes = None
    if reporter is not None:
        report_bytes = reporter.sync()
        if report_bytes is None:
            return
    survey = Survey()
    for record in store.records():
        survey.take(record)
    kept = survey.to_keep() | {job.no for job in jobs}  # also those whose removal was not believed
    rest = without_others(store.records(), kept)
    try:
        store.replace(chain(rest, [Compacted(survey.next_no, report_bytes)]))
    except TransientError as error:
        log.warning("journal.not_compacted", extra={"error": error})
    else:
        log.info("journal.compacted", extra={"bytes_before": before, "bytes": store.size})
