"""The ends of tasks as a report has them: what is equal is said once for many, what differs stands in columns.

Nearly every task of a large job ends with 0 and has no message. An agent finds these among what has ended, so that encoding
and reading them costs a few functions that work on whole columns.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from operator import itemgetter
from typing import Any

from ..model.states import Cause
from .frames import Finished, Report, Succeeded

_tuple = tuple.__new__
"""Makes a named tuple for half of what naming its fields costs."""
_kind = itemgetter(0, 2, 12, 7, 8, 11)
"""The job, the run and whether the grant goes back; then exit code, cause and message."""
_WELL = (0, Cause.EXITED, "")


def together(ends: Sequence[Finished]) -> tuple[list[Succeeded], list[Finished]]:
    """These ends as columns, as far as that is worth it, and the others in their order."""
    kinds = list(map(_kind, ends))
    alike: dict[tuple[object, ...], list[Finished]]
    alike = {kind: [] for kind, count in Counter(kinds).items() if count > 1 and kind[3:] == _WELL}
    others: list[Finished] = []
    for kind, end in zip(kinds, ends, strict=True):
        alike.get(kind, others).append(end)
    return list(map(_columns, alike.values())), others


def _columns(ends: Sequence[Finished]) -> Succeeded:
    columns: Iterator[list[Any]] = map(list, zip(*ends, strict=True))
    _, pos, _, grant_ids, pids, started_s, ended_s, _, _, cpu_s, max_rss_kib, _, _ = columns
    job_no, run, returns_grants, *_ = _kind(ends[0])
    return Succeeded(job_no, run, returns_grants, pos, grant_ids, pids, started_s, ended_s, cpu_s, max_rss_kib)


def one_of(ends: Succeeded, place: int) -> Finished:
    """The end at this place of the columns."""
    return Finished(
        ends.job_no,
        ends.pos[place],
        ends.run,
        ends.grant_ids[place],
        ends.pids[place],
        ends.started_s[place],
        ends.ended_s[place],
        0,
        Cause.EXITED,
        ends.cpu_s[place],
        ends.max_rss_kib[place],
        "",
        ends.returns_grants,
    )


def ends_of(report: Report) -> Iterator[Finished]:
    """All ends in a report, one by one, in the order in which they are to be taken in."""
    for ends in report.succeeded:
        if not ends.returns_grants:
            yield from _each(ends)
    yield from report.finished
    for ends in report.succeeded:
        if ends.returns_grants:
            yield from _each(ends)


def _each(ends: Succeeded) -> Iterator[Finished]:
    job_no, run, returns_grants, *columns = ends
    for pos, grant_id, pid, started_s, ended_s, cpu_s, max_rss_kib in zip(*columns, strict=True):
        times = started_s, ended_s
        end = job_no, pos, run, grant_id, pid, *times, 0, Cause.EXITED, cpu_s, max_rss_kib, "", returns_grants
        yield _tuple(Finished, end)
