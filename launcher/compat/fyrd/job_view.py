"""Where a job of fyrd is, in fyrd's words: read from the job's record, and kept nowhere else."""

from __future__ import annotations

import getpass
import posixpath
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from ...job.states import Status
from ...submission.job_options import ClusterError, check_arguments
from ...submission.queues import BAD, GOOD
from ...submission.single import SingleJob
from .job_files import JobFiles
from .local_pilot import LocalJob
from .queue_job import QueueJob
from .submission_scripts import Function, Script
from .words import state_word


class JobView:
    """The part of a `Job` that only tells."""

    name: str
    qtype: str
    kind: str
    options: dict[str, Any]
    keywords: dict[str, Any]
    written: bool
    _place: SingleJob | LocalJob | None

    @property
    def _files(self) -> JobFiles:
        raise NotImplementedError

    @property
    def place(self) -> SingleJob | LocalJob | None:
        """The job itself, of which this is a view; None before there is any file of it."""
        return self._place

    @property
    def id(self) -> str | None:
        return (self._place.id or None) if self._place is not None else None

    @property
    def submitted(self) -> bool:
        return self._place is not None and self._place.submitted

    @property
    def state(self) -> str:
        return state_word(self._status) if self.submitted else "Not_Submitted"

    @property
    def _status(self) -> Status:
        assert self._place is not None
        return self._place.status

    @property
    def _end(self) -> Status | None:
        return self._status if self.submitted and self._status.state.ended else None

    @property
    def reason(self) -> str:
        return "" if self._end is None or self.state not in BAD else self._end.reason or self._end.native

    @property
    def exitcode(self) -> int | None:
        return None if self._end is None else self._end.exit_code

    @property
    def start(self) -> datetime | None:
        return None if self._end is None else _time(self._end.start_s)

    @property
    def end(self) -> datetime | None:
        return None if self._end is None else _time(self._end.end_s)

    @property
    def runtime(self) -> timedelta | None:
        return None if self.start is None or self.end is None else self.end - self.start

    @property
    def submit_time(self) -> datetime | None:
        return _time(self._place.submitted_s) if self._place is not None else None

    @property
    def done(self) -> bool:
        return self.state in (*GOOD, *BAD)

    @property
    def running(self) -> bool:
        return self.state == "running"

    # --- its files --------------------------------------------------------------------------------------------------------

    @property
    def outfile(self) -> str:
        return self._files.out

    @property
    def errfile(self) -> str:
        return self._files.err

    @property
    def poutfile(self) -> str:
        """What a function returned."""
        return self._files.result

    @property
    def files(self) -> list[str]:
        """Its scripts."""
        return self._files.scripts

    @property
    def submission(self) -> Script:
        """What is run: the command's script, or the program that calls the function."""
        files = self._files
        kind = Script if self.kind == "script" else Function
        context = None if self._place is None else self._place.context
        return kind(files.scripts[0], files.texts()[files.scripts[0]].decode(), context)

    @property
    def exec_script(self) -> str:
        return self.files[0]

    @property
    def runpath(self) -> str:
        """The folder in which it runs."""
        return self._files.folder

    @property
    def scriptpath(self) -> str:
        return posixpath.dirname(self.files[0])

    @property
    def outpath(self) -> str:
        return posixpath.dirname(self.outfile)

    def __fspath__(self) -> str:
        return self.files[0]

    @property
    def queue_info(self) -> QueueJob | None:
        """The job as a row of a queue, as far as it is known; None before it is submitted. `Queue` asks the batch system."""
        if not self.submitted or self.id is None:
            return None
        queue, nodes = str(self.options.get("partition", "")), self._status.nodes
        me, cores = getpass.getuser(), self.cores * self.nodes
        return QueueJob(self.id, self.name, me, queue, self.state, nodes, cores, self.exitcode)

    # --- fyrd's other names for the same ----------------------------------------------------------------------------------

    @property
    def code(self) -> int | None:
        return self.exitcode

    def get_exitcode(self) -> int | None:
        return self.exitcode

    def get_times(self) -> tuple[datetime | None, datetime | None]:
        return self.start, self.end

    @property
    def disappeared(self) -> bool:
        return self.state == "vanished"

    @property
    def found(self) -> bool:
        return self.submitted and not self.disappeared

    @property
    def cores(self) -> int:
        return int(self.options.get("cores", 1))

    @property
    def nodes(self) -> int:
        return int(self.options.get("nodes", 1))

    @property
    def kwds(self) -> dict[str, Any]:
        """Its options."""
        return self.options

    @property
    def kwargs(self) -> dict[str, Any]:
        """Of its function."""
        return self.keywords

    @property
    def suffix(self) -> str:
        return str(self.options.get("suffix", "cluster"))

    def get_keywords(self) -> dict[str, Any]:
        return dict(self.options)

    def set_keywords(self, kwds: Mapping[str, Any], replace: bool = False) -> None:
        """Change its options, before it is written; with `replace` others are forgotten. Raises OptionsError."""
        if self.written or self.submitted:
            raise ClusterError("is written already", where=self.name, remedy="set its options before")
        self.options = {**({} if replace else self.options), **check_arguments(kwds)}


def _time(seconds: float | None) -> datetime | None:
    return None if seconds is None else datetime.fromtimestamp(seconds)
