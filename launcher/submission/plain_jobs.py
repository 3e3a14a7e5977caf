"""The work of a submission as batch jobs: which there are, how each is rendered, how its results are read."""

from __future__ import annotations

import posixpath
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from secrets import token_hex
from typing import ClassVar

from ..contexts.base import Context
from ..contexts.paths import printable
from ..description.grouping import groups
from ..description.identity import job_hash, task_hash
from ..description.parse import SubmissionDescription
from ..description.schema import DescriptionError
from ..description.task import Task
from ..job import record as result
from ..job import script
from ..job.record import TaskResult
from ..job.spec import JobToPlace
from . import adopt as old_run
from . import state as progress
from .events import Missing

_READ_S = 600.0
# What has ended is told by names and inodes, not by times: a file is written before it gets its name, and clocks tick coarsely.
_FUNCTIONS = """\
export LC_ALL=C
listed() { while read -r folder; do for file in $folder/*; do [ ! -e $file ] || printf '%s\\0' $file; done; done |
  xargs -0 -r ls -i | sed 's/^ *//'; }
told() { cut -d' ' -f2 | xargs -r cat; }
"""
_ALL = f"{_FUNCTIONS}listed | told"
"""Results of all tasks that have ended; asks nothing of a full disk."""
_NEW = f"""\
{_FUNCTIONS}[ -e $seen ] || : >$seen
listed | sort >$seen.now; comm -13 $seen $seen.now | told; mv -f $seen.now $seen"""
"""Those that are not on the list in the file `$seen`, which is renewed."""


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
        self.tasks = {task_hash(task): task for task in description.tasks}

    @abstractmethod
    def jobs(self) -> list[tuple[str, tuple[str, ...]]]:
        """(hash, hashes of tasks) of all jobs."""

    @abstractmethod
    def to_place(self, job: progress.Job) -> JobToPlace:
        """The job as the machine renders it; the same for the same attempt."""

    @abstractmethod
    def collect(self, context: Context, jobs: Sequence[progress.Job]) -> dict[str, Collected]:
        """What these jobs have written, by job hash, in a round trip or two for all of them."""

    def explained(self, missing: Missing) -> str:
        """A result that is not home, in words."""
        folder = self.tasks[missing.task].folder if missing.task in self.tasks else "."
        path = posixpath.normpath(posixpath.join(self.root, folder, missing.pattern))
        return printable(f"{path} {missing.why}" if missing.why else f"cannot find download file {path}")

    def files(self, job: progress.Job) -> dict[str, bytes]:
        """More files that the job needs, by name below the root."""
        return {}

    def prepare(self, context: Context, tell: Callable[[str], None]) -> None:  # noqa: B027 - most need nothing
        """See to it that the machine has what the jobs need besides their files; called before the first is submitted."""

    @abstractmethod
    def forget(self, context: Context, job: progress.Job, tasks: Sequence[str]) -> None:
        """See to it that these tasks of the job count as never run."""

    def ask_pilot(self, context: Context, words: Sequence[str]) -> str:
        """Run one of pilotfish's client commands for the pilot of this submission; what it prints.

        Raises DescriptionError when the submission has no pilot.
        """
        raise DescriptionError("this submission has no pilot", where=self.root, remedy='add "pilot": {} to it')

    @abstractmethod
    def running(self, context: Context, jobs: Sequence[progress.Job]) -> int:
        """How many tasks of these jobs, which the batch system runs, are running now."""

    def states(self, context: Context) -> dict[str, str]:
        """What tasks without a result are doing now, by hash, where more is known than of their job."""
        return {}

    def partial(self, context: Context, jobs: Sequence[progress.Job]) -> dict[str, dict[str, TaskResult]]:
        """Results of tasks of jobs that still run, by job hash; nothing when they are only told at the end."""
        return {}


class PlainWork(Work):
    """Jobs that run their tasks from a shell script."""

    def __init__(self, description: SubmissionDescription, root: str) -> None:
        super().__init__(description, root)
        self._template = template(description)
        self._jobs: dict[str, tuple[Task, ...]] = {}
        self._looked = False
        self._seen = token_hex(4)
        """Part of a file's name: another launcher may look at the same jobs, and has a list of its own."""
        for group in groups(len(description.tasks), description.resources.group_size):
            tasks = tuple(description.tasks[position] for position in group)
            self._jobs[job_hash(tasks, description.resources)] = tasks

    def jobs(self) -> list[tuple[str, tuple[str, ...]]]:
        return [(name, tuple(task_hash(task) for task in tasks)) for name, tasks in self._jobs.items()]

    def to_place(self, job: progress.Job) -> JobToPlace:
        tasks = self._jobs[job.hash]
        left = tuple(
            position
            for position, name in enumerate(job.tasks)
            if name not in job.results or job.results[name].exit_code != 0
        )
        return JobToPlace(
            hash=job.hash,
            name=(tasks[0].task_name or "") if len(tasks) == 1 else "",
            tasks=tasks,
            hashes=job.tasks,
            resources=self.description.resources,
            root=self.root,
            attempt=job.attempt,
            pending=left if job.attempt else None,
            template=self._template,
        )

    def forget(self, context: Context, job: progress.Job, tasks: Sequence[str]) -> None:
        paths = [f"{script.tasks_folder(job.hash)}/{name}" for name in tasks]
        paths += [self.tasks[name].path(name + script.TASK_TAG) for name in tasks]
        context.delete(self.root, [*paths, job.hash + script.FINISHED_TAG])

    def collect(self, context: Context, jobs: Sequence[progress.Job]) -> dict[str, Collected]:
        placed = {job.hash: self.to_place(job) for job in jobs}
        results = self._read_results(context, _ALL, placed)
        results |= old_run.from_tags(context, self.root, jobs, self.tasks, results)
        names = [f"{self.root}/{job.claim_file}" for job in placed.values()]
        names += [f"{self.root}/{name}{end}" for name in placed for end in ("_result.json", "_last_err_file")]
        names += [f"{self.root}/{script.reason_file(name)}" for name in placed]
        read = context.read(names)
        found = {}
        for job in jobs:
            record = result.parse(read.get(f"{self.root}/{job.hash}_result.json", b""))
            claim = read.get(f"{self.root}/{placed[job.hash].claim_file}", b"").decode(errors="replace").strip()
            found[job.hash] = Collected(
                recorded=record is not None and record.attempt == job.attempt,
                results={name: results[name] for name in job.tasks if name in results},
                detail=read.get(f"{self.root}/{job.hash}_last_err_file", b"").decode(errors="replace").strip(),
                claimed_by=claim,
                reason=script.told_reason(read.get(f"{self.root}/{script.reason_file(job.hash)}", b"")),
            )
        return found

    def partial(self, context: Context, jobs: Sequence[progress.Job]) -> dict[str, dict[str, TaskResult]]:
        """What is new since the last look; in the first two looks of a launcher, all: one look writes nothing there."""
        new = f"seen=.{next(iter(self._jobs))}.seen-{self._seen}\n{_NEW}"
        command, self._looked = new if self._looked else _ALL, False  # an answer that gets lost is asked for again
        found = self._read_results(context, command, [job.hash for job in jobs])
        self._looked = True
        return {job.hash: {name: found[name] for name in job.tasks if name in found} for job in jobs}

    def running(self, context: Context, jobs: Sequence[progress.Job]) -> int:
        """As many as there are places in the jobs' pools, while tasks are left."""
        resources = self.description.resources
        places = resources.para_deg * (resources.gpu_per_node if resources.device_per_task else 1)
        return sum(min(places, sum(name not in job.results for name in job.tasks)) for job in jobs)

    def _read_results(self, context: Context, command: str, jobs: Collection[str]) -> dict[str, TaskResult]:
        if not jobs:
            return {}
        names = "".join(f"{script.tasks_folder(name)}\n" for name in jobs).encode()
        return result.parse_lines(context.run(command, cwd=self.root, stdin=names, timeout_s=_READ_S).out)


def template(description: SubmissionDescription) -> str | None:
    path = description.resources.header_template
    if path is None:
        return None
    try:
        return Path(path).read_text()
    except OSError as error:
        where = "resources.strategy.customized_script_header_template_file"
        raise DescriptionError(f"{path!r} cannot be read: {error.strerror}", where=where) from error
