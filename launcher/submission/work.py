"""The work of a submission as batch jobs: which there are, how each is rendered, how its results are read."""

from __future__ import annotations

import posixpath
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from ..contexts.base import Context
from ..contexts.paths import printable
from ..description.resources import Resources
from ..description.schema import DescriptionError
from ..description.submission import SubmissionDescription
from ..job.record import TaskResult
from ..job.spec import JobToPlace
from .batch_job import BatchJob
from .events import Missing


@dataclass(frozen=True)
class Collected:
    """What a job has written about itself so far.

    Attributes:
        recorded: the shell of this attempt has come to its end.
        results: of its tasks, by hash.
        detail: the last words of what failed.
        claimed_by: the batch job that runs this attempt, when it is another than the one we know.
        reason: why it has ended badly, where that was not for one of its tasks.
    """

    recorded: bool
    results: Mapping[str, TaskResult]
    detail: str = ""
    claimed_by: str = ""
    reason: str = ""


class Work(ABC):
    """The batch jobs of one submission."""

    count_every_s: ClassVar[float] = 0.0
    """Shortest time between two calls of `running`, and before the first."""

    def __init__(self, description: SubmissionDescription, root: str) -> None:
        self.description = description
        self.root = root
        self.tasks = {task.task_hash: task for task in description.tasks}

    @abstractmethod
    def jobs(self) -> list[tuple[str, tuple[str, ...]]]:
        """(hash, hashes of tasks) of all jobs."""

    @abstractmethod
    def to_place(self, job: BatchJob) -> JobToPlace:
        """The job as the machine renders it; the same for the same attempt."""

    @abstractmethod
    def collect(self, context: Context, jobs: Sequence[BatchJob]) -> dict[str, Collected]:
        """What these jobs have written, by job hash, in a round trip or two for all of them."""

    def explained(self, missing: Missing) -> str:
        """A result that is not home, in words."""
        folder = self.tasks[missing.task].folder if missing.task in self.tasks else "."
        path = posixpath.normpath(posixpath.join(self.root, folder, missing.pattern))
        return printable(f"{path} {missing.why}" if missing.why else f"cannot find download file {path}")

    def files(self, job: BatchJob) -> dict[str, bytes]:
        """More files that the job needs, by name below the root."""
        return {}

    def prepare(self, context: Context, tell: Callable[[str], None]) -> None:  # noqa: B027 - most need nothing
        """See to it that the machine has what the jobs need besides their files; called before the first is submitted."""

    @abstractmethod
    def forget(self, context: Context, job: BatchJob, tasks: Sequence[str]) -> None:
        """See to it that these tasks of the job count as never run."""

    def ask_pilot(self, context: Context, words: Sequence[str]) -> str:
        """Run one of pilotfish's client commands for the pilot of this submission; what it prints.

        Raises DescriptionError when the submission has no pilot.
        """
        raise DescriptionError("this submission has no pilot", where=self.root, remedy='add "pilot": {} to it')

    @abstractmethod
    def running(self, context: Context, jobs: Sequence[BatchJob]) -> int:
        """How many tasks of these jobs, which the batch system runs, are running now."""

    def states(self, context: Context) -> dict[str, str]:
        """What tasks without a result are doing now, by hash, where more is known than of their job."""
        return {}

    def partial(self, context: Context, jobs: Sequence[BatchJob]) -> dict[str, dict[str, TaskResult]]:
        """Results of tasks of jobs that still run, by job hash; nothing when they are only told at the end."""
        return {}


def template(resources: Resources) -> str | None:
    """The text of the file that replaces the header of scripts; None without one. Raises DescriptionError."""
    path = resources.header_template
    if path is None:
        return None
    try:
        return Path(path).read_text()
    except OSError as error:
        where = "resources.strategy.customized_script_header_template_file"
        raise DescriptionError(f"{path!r} cannot be read: {error.strerror}", where=where) from error
