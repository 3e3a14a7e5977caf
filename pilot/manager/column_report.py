"""Endings as lines of the report in columns (wire/report_columns.py): a line for those of a job in one turn."""

from __future__ import annotations

from collections.abc import Iterable

from ..model.decisions import Change, Changes, Succeeded
from ..model.states import State
from ..wire import report_columns
from ..wire.report import encode_json
from ..wire.report_columns import EndedTask
from .job_info import Views


class ColumnReport:
    """Knows which places the file at hand has already."""

    def __init__(self) -> None:
        self._placed: set[int] = set()

    def begin(self) -> bytes:
        """A new file, or one of which this life of the manager has written nothing."""
        self._placed.clear()
        return report_columns.HEADER

    def lines(self, changes: Iterable[Changes], views: Views) -> bytes:
        """For all that has ended with these changes."""
        lines = bytearray()
        tasks: dict[str | None, list[EndedTask]] = {}
        for change in changes:
            if isinstance(change, Succeeded):
                lines += self._new_places(change.places, views)
                job = change.job.spec
                start = 0 if job.iteration is None else job.iteration.start
                lines += report_columns.of_successes(job.name, start, change.ends, change.places)
            elif isinstance(change, Change) and change.state >= State.SUCCEED:
                task = views.ended_task(change)
                if task is None:
                    lines += encode_json(views.report_entry(change))
                else:
                    lines += self._new_places((task.place,), views)
                    tasks.setdefault(None if task.of_job is None else change.job.spec.name, []).append(task)
        for job_name, ended in tasks.items():
            lines += report_columns.of_tasks(job_name, ended)
        return bytes(lines)

    def _new_places(self, places: Iterable[int], views: Views) -> bytes:
        lines = b""
        for number in places:
            if number not in self._placed:
                self._placed.add(number)
                place = views.place(number)
                lines += report_columns.of_place(number, place.nodes[0], place.text)
        return lines
