"""Following a running pilot to its end of work: events for programs; a bar with tables for people."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec

from ..pilot.exit_codes import ExitCode
from ..pilot.model.errors import PilotfishError
from ..pilot.model.states import State
from ..pilot.wire.replies import FINAL, JobInfo, TaskCounts
from .errors import ConnectionError, RequestRefusedError
from .manager import Manager
from .outcome import MOST_FAILURES, final_status
from .progress import Progress, Row

EVENTS_VERSION = 1
MISSED = "MISSED"
"""State of a line that stands for events which the pilot has no more."""
_LOOK_S = 0.5
_MOST_ROWS = 15
_MOST_RUNNING = 10
_MOST_LISTED = 5_000
"""With more jobs than this, listing them twice a second would be work for the pilot: then there are only those that run."""
_BAD = (State.FAILED.name, State.OMITTED.name)


def until_idle(pilot: Manager) -> TaskCounts:
    """Show how it goes until nothing is queued or running; returns the counts of the tasks.

    A pilot that ends meanwhile tells what it did by its folder.
    """
    counts = None
    with Progress() as progress:
        try:
            while True:
                counts = pilot.client.task_counts()
                progress.update(counts)
                if progress.live:
                    _show(pilot, progress)
                try:
                    pilot.wait4all(_LOOK_S)
                except TimeoutError:
                    continue
                counts = pilot.client.task_counts()
                progress.update(counts)
                return counts
        except ConnectionError:
            last = last_counts(pilot)
            if last is None:
                raise
            return last


def last_counts(pilot: Manager) -> TaskCounts | None:
    """The counts with which the pilot has ended; None when it has not, or that cannot be seen from here."""
    status = final_status(Path(pilot.where).parent)
    return None if status is None else status.tasks


def _show(pilot: Manager, progress: Progress) -> None:
    with suppress(RequestRefusedError):  # an original service has no overview
        seen = pilot.client.overview(_MOST_RUNNING)
        progress.show(rows(pilot), seen.running, seen.pilot.now_s)


def rows(pilot: Manager, good: bool = False) -> list[Row]:
    """The jobs to look at: those that are not done, in order of submission, then the latest failures, then the `good` ones."""
    if pilot.client.status().jobs.total > _MOST_LISTED:
        return []
    states = {name: job.status for name, job in pilot.client.jobs().items()}
    open_ones = [name for name, state in states.items() if state not in FINAL]
    bad = [name for name, state in reversed(states.items()) if state in _BAD]
    rest = [name for name, state in states.items() if state in FINAL and state not in _BAD] if good else []
    names = (open_ones + bad + rest)[:_MOST_ROWS]
    return [_row(name, info) for name, info in pilot.client.job_infos(names).items()] if names else []


def _row(name: str, info: JobInfo) -> Row:
    state, iterations = info.state, info.iterations
    if iterations is not None:
        return Row(name, state, iterations.finished, iterations.failed, iterations.running, iterations.total)
    return Row(name, state, int(state in FINAL), int(state in _BAD), int(state == State.EXECUTING.name), 1)


def failures(pilot: Manager) -> Iterator[str]:
    """A line for each job that ended badly, up to MOST_FAILURES; none of a pilot that is gone."""
    with suppress(ConnectionError):
        bad = [(name, job) for name, job in pilot.client.jobs().items() if job.status in _BAD]
        for name, job in bad[:MOST_FAILURES]:
            yield f"  {name}: {job.status} {job.messages or ''}".rstrip()
        if len(bad) > MOST_FAILURES:
            yield f"  ... and {len(bad) - MOST_FAILURES} more"


def exit_code(pilot: Manager, counts: TaskCounts) -> ExitCode:
    """As that of `run`: whether all tasks have succeeded. In `counts` cancelled ones have finished, so they are asked for."""
    canceled = 0
    with suppress(PilotfishError):
        tasks = pilot.client.overview(0).tasks
        canceled = tasks.canceled + tasks.omitted
    if counts.ended < counts.total:
        return ExitCode.WORK_LEFT
    return ExitCode.FAILED if counts.failed or canceled else ExitCode.DONE


def stream_events(pilot: Manager, write: Callable[[str], None]) -> TaskCounts:
    """All events the pilot still has, then those that follow, until it is idle: one JSON object each; returns the counts.

    A pilot that ends meanwhile tells what it did by its folder.
    """
    after = 0
    try:
        while True:
            events, after, are_more = next_events(pilot, after)
            for event in events:
                write(json.dumps(event))
            if are_more:
                continue
            try:
                pilot.wait4all(_LOOK_S)
            except TimeoutError:
                continue
            if pilot.client.events(after).last == after:
                return pilot.client.task_counts()
    except ConnectionError:
        counts = last_counts(pilot)
        if counts is None:
            raise
        return counts


def next_events(pilot: Manager, after: int) -> tuple[list[dict[str, Any]], int, bool]:
    """The events after that number, as many as come at once; the number of the last of them, and whether there are more."""
    page = pilot.client.events(after)
    events: list[dict[str, Any]] = []
    if page.missed:
        events.append({"version": EVENTS_VERSION, "seq": after, "state": MISSED})
    events += [{"version": EVENTS_VERSION, **msgspec.to_builtins(event)} for event in page.events]
    last = page.events[-1].seq if page.events else page.last
    return events, last, last < page.last
