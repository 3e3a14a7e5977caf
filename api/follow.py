"""Following a running pilot: events for programs; a bar with a table of the jobs for people."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import NamedTuple

import msgspec

from ..pilot.wire.replies import FINAL, JobInfo, TaskCounts
from .manager import Manager
from .outcome import MOST_FAILURES
from .progress import Progress

_LOOK_S = 0.5
_MOST_ROWS = 15
_MOST_LISTED = 5_000
"""With more jobs than this, listing them twice a second would be work for the pilot: then there is only the bar."""
_BAD = ("FAILED", "OMITTED")


class Row(NamedTuple):
    """One job: how many of its `total` tasks have ended, and how many of those badly."""

    name: str
    state: str
    done: int
    failed: int
    total: int


def until_idle(pilot: Manager) -> TaskCounts:
    """Show how it goes until nothing is queued or running; returns the counts of the tasks."""
    with Progress() as progress:
        while True:
            counts = pilot.client.task_counts()
            progress.update(counts)
            if progress.live:
                progress.show_jobs(rows(pilot))
            try:
                pilot.wait4all(_LOOK_S)
            except TimeoutError:
                continue
            counts = pilot.client.task_counts()
            progress.update(counts)
            return counts


def rows(pilot: Manager) -> list[Row]:
    """The jobs to look at: those that are not done, in order of submission, then the latest failures."""
    if pilot.client.status().jobs.total > _MOST_LISTED:
        return []
    states = {name: job.status for name, job in pilot.client.jobs().items()}
    open_ones = [name for name, state in states.items() if state not in FINAL]
    bad = [name for name, state in reversed(states.items()) if state in _BAD]
    names = (open_ones + bad)[:_MOST_ROWS]
    return [_row(name, info) for name, info in pilot.client.job_infos(names).items()] if names else []


def _row(name: str, info: JobInfo) -> Row:
    state, iterations = info.status, info.iterations
    if iterations is not None:
        return Row(name, state, iterations.finished, iterations.failed, iterations.total)
    return Row(name, state, int(state in FINAL), int(state in _BAD), 1)


def failures(pilot: Manager) -> Iterator[str]:
    """A line for each job that ended badly, up to MOST_FAILURES."""
    bad = [(name, job) for name, job in pilot.client.jobs().items() if job.status in _BAD]
    for name, job in bad[:MOST_FAILURES]:
        yield f"  {name}: {job.status} {job.messages or ''}".rstrip()
    if len(bad) > MOST_FAILURES:
        yield f"  ... and {len(bad) - MOST_FAILURES} more"


def stream_events(pilot: Manager, write: Callable[[str], None]) -> None:
    """All events the pilot still has, then those that follow, until it is idle: one JSON object each."""
    after = 0
    while True:
        page = pilot.client.events(after)
        for event in page.events:
            write(json.dumps(msgspec.to_builtins(event)))
            after = event.seq
        if after < page.last:
            continue
        try:
            pilot.wait4all(_LOOK_S)
        except TimeoutError:
            continue
        if pilot.client.events(after).last == after:
            return
