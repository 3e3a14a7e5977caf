"""`Run`: what a pilot did in one folder, to be asked while it runs and for ever after, from any host that sees the folder.

Nothing here talks to the pilot: the journal has what was accepted, the report what has ended. So a run that was killed tells as
much as one that ended well.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from .html import facts, table
from .ledger import LedgerOfJobs
from .run_folder import LAST, RunFolder, find_run, runs_in
from .run_overview import Overview, Summary, overview_of
from .run_tables import as_arrow, as_pandas
from .task_output import output_of, outputs_of
from .task_records import NOT_ENDED as NOT_ENDED
from .task_records import SUCCEEDED as SUCCEEDED
from .task_records import Batch, TaskRecords, TaskRow

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

_MOST_SHOWN = 10


class Run:
    """A run by its name, `last`, its id or its folder; `wd`: the working folder in which names are looked up.

    `jobs`: only the tasks of these jobs of it; None: all.

    Raises LostError when there is no such run, RefusedError when it is not ours.
    """

    def __init__(
        self, run: str | Path = LAST, wd: str | Path = ".", *, jobs: str | Iterable[str] | None = None
    ) -> None:
        self.folder: RunFolder = find_run(run, Path(wd))
        self._jobs = None if jobs is None else frozenset([jobs] if isinstance(jobs, str) else jobs)

    @classmethod
    def all(cls, wd: str | Path = ".") -> list[Run]:
        """The runs of a working folder, the latest last."""
        return [cls(folder.path, wd) for folder in runs_in(Path(wd))]

    @property
    def name(self) -> str:
        return self.folder.name

    @property
    def path(self) -> Path:
        """Its auxiliary folder."""
        return self.folder.path

    @property
    def state(self) -> str:
        """`running`, `ended` or `stopped` (killed)."""
        return self.folder.state

    def __repr__(self) -> str:
        return f"<Run {self.name} {self.state}>"

    def _repr_html_(self) -> str:
        """What a notebook shows of it."""
        seen = self.overview()
        counts = {"succeeded": seen.summary.succeeded, "failed": seen.summary.failed, "left": seen.summary.left}
        members = {"state": self.state, "folder": self.path, "began": self.began, "tasks": seen.summary.tasks, **counts}
        failures = ((row.task, row.state, row.reason) for row in seen.failures[:_MOST_SHOWN])
        return facts(f"Run {self.name}", members) + table(("failed", "state", "reason"), failures)

    @cached_property
    def records(self) -> TaskRecords:
        """What its folder tells of its tasks, with `batches()` for reading very many of them fast."""
        records = TaskRecords(self.path)
        if self._jobs is not None and not self._jobs.issuperset(records.jobs):  # else it is read as fast as the whole
            return TaskRecords(self.path, LedgerOfJobs(self._jobs))
        return records

    @property
    def began(self) -> datetime | None:
        return self.records.began

    def tasks(self) -> Iterator[TaskRow]:
        """All tasks that are part of the run: those that have ended first, in the order in which they did."""
        return self.records.rows()

    def batches(self) -> Iterator[Batch]:
        """The same in columns."""
        return self.records.batches()

    def task(self, name: str) -> TaskRow:
        """One task. Raises KeyError."""
        for row in self.tasks():
            if row.task == name:
                return row
        raise KeyError(name)

    def output(self, task: str, *, stderr: bool = False) -> str:
        """What a task has written, wherever that is; of one that has failed perhaps only the last lines of its stderr.

        Raises KeyError for a task that is not in the run, FileNotFoundError when nothing is there. For many tasks: `outputs`.
        """
        part = output_of(self.path, self.task(task), stderr)
        if part is None:
            raise FileNotFoundError(f"what {task} has written was not kept")
        return part.read().decode(errors="replace")

    def outputs(self, *, stderr: bool = False) -> Iterator[tuple[TaskRow, str]]:
        """Each task of which something is there, with what it has written."""
        for row, part in outputs_of(self.path, self.tasks(), stderr):
            yield row, part.read().decode(errors="replace")

    def summary(self) -> Summary:
        return self.overview().summary

    def overview(self) -> Overview:
        """Counts, the first failures, the slowest tasks, and how many ran on each node."""
        return overview_of(self.records)

    def frame(self, rows: Iterable[TaskRow] | None = None) -> pd.DataFrame:
        """A row for each task (of `rows`, if given): parameters, then the members of TaskRow, with types. Needs pandas."""
        return as_pandas(self.tasks() if rows is None else rows)

    def arrow(self, rows: Iterable[TaskRow] | None = None) -> pa.Table:
        """The same for other programs: `polars.from_arrow(run.arrow())`. Needs pyarrow."""
        return as_arrow(self.tasks() if rows is None else rows)
