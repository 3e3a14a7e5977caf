"""The ends of tasks as a report has them: what is equal is said once for many, what differs stands in columns.

Nearly every task of a large job ends with 0, has no message and leaves its grant to the next one. An agent finds these
among what has ended, so that encoding and reading them costs a few functions that work on whole columns.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from operator import itemgetter
from typing import Any

from ..model.states import Cause
from .frames import Finished, Report, Succeeded

_how = itemgetter(7, 8, 11, 12)
_WELL = (0, Cause.EXITED, "", False)
"""Exit code, cause, message, returns_grant of an end that nothing distinguishes."""


def together(ends: Sequence[Finished]) -> tuple[list[Succeeded], list[Finished]]:
    """These ends as columns, as far as that is worth it, and the others in their order."""
    if len(ends) < 2:
        return [], list(ends)
    keys = [(end[0], end[2]) if _how(end) == _WELL and end[4] > 0 else None for end in ends]
    counts = Counter(keys)
    groups: dict[tuple[int, int], list[Finished]] = {}
    others: list[Finished] = []
    for key, end in zip(keys, ends, strict=True):
        if key is None or counts[key] == 1:
            others.append(end)
        else:
            groups.setdefault(key, []).append(end)
    return list(map(_columns, groups.values())), others


def _columns(ends: Sequence[Finished]) -> Succeeded:
    columns: Iterator[list[Any]] = map(list, zip(*ends, strict=True))
    _, pos, _, grant_ids, pids, started_s, ended_s, _, _, cpu_s, max_rss_kib, _, _ = columns
    return Succeeded(ends[0].job_no, ends[0].run, pos, grant_ids, pids, started_s, ended_s, cpu_s, max_rss_kib)


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
        returns_grant=False,
    )


def ends_of(report: Report) -> Iterator[Finished]:
    """All ends in a report, one by one, in the order in which they are to be taken in."""
    for ends in report.succeeded:
        for place in range(len(ends.pos)):
            yield one_of(ends, place)
    yield from report.finished
