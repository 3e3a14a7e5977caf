"""Following a running pilot: events for programs; a bar with a table of the jobs for people."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

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


def until_idle(pilot: Manager) -> Mapping[str, int]:
    """Show how it goes until nothing is queued or running; returns the counts of the tasks."""
    with Progress() as progress:
        while True:
            counts: Mapping[str, int] = pilot.system_status()["IterationStats"]
            progress.update(counts)
            if progress.live:
                progress.show_jobs(rows(pilot))
            try:
                pilot.wait4all(_LOOK_S)
            except TimeoutError:
                continue
            counts = pilot.system_status()["IterationStats"]
            progress.update(counts)
            return counts


def rows(pilot: Manager) -> list[Row]:
    """The jobs to look at: those that are not done, in order of submission, then the latest failures."""
    if pilot.system_status()["JobStats"]["TotalJobs"] > _MOST_LISTED:
        return []
    states = {name: entry["status"] for name, entry in pilot.list().items()}
    open_ones = [name for name, state in states.items() if not pilot.is_status_finished(state)]
    bad = [name for name, state in reversed(states.items()) if state in _BAD]
    names = (open_ones + bad)[:_MOST_ROWS]
    if not names:
        return []
    return [_row(name, entry["data"]) for name, entry in pilot.info(names)["jobs"].items() if "data" in entry]


def _row(name: str, data: Mapping[str, Any]) -> Row:
    state = data["status"]
    iterations = data.get("iterations")
    if iterations is not None:
        return Row(name, state, iterations["finished"], iterations["failed"], iterations["total"])
    return Row(name, state, int(Manager.is_status_finished(state)), int(state in _BAD), 1)


def failures(pilot: Manager) -> Iterator[str]:
    """A line for each job that ended badly, up to MOST_FAILURES."""
    bad = [(name, entry) for name, entry in pilot.list().items() if entry["status"] in _BAD]
    for name, entry in bad[:MOST_FAILURES]:
        yield f"  {name}: {entry['status']} {entry.get('messages', '')}".rstrip()
    if len(bad) > MOST_FAILURES:
        yield f"  ... and {len(bad) - MOST_FAILURES} more"


def stream_events(pilot: Manager, write: Callable[[str], None]) -> None:
    """All events the pilot still has, then those that follow, until it is idle: one JSON object each."""
    after = 0
    while True:
        data = pilot.send_request({"request": "events", "after": after})["data"]
        for event in data["events"]:
            write(json.dumps(event))
            after = event["seq"]
        if after < data["last"]:
            continue
        try:
            pilot.wait4all(_LOOK_S)
        except TimeoutError:
            continue
        if pilot.send_request({"request": "events", "after": after})["data"]["last"] == after:
            return
