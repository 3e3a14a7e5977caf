"""The tasks of a submission in jobs that run them from a shell script, as DPDispatcher does: `group_size` of them in each."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from secrets import token_hex

from ..contexts.base import Context
from ..contexts.shell import Text, sh, word
from ..description.grouping import groups
from ..description.identity import job_hash
from ..description.submission import SubmissionDescription
from ..description.task import Task
from ..job import record as result
from ..job import script
from ..job.record import TaskResult
from ..job.spec import JobToPlace
from .batch_job import BatchJob
from .work import Collected, Work, template

_READ_S = 600.0
# New results are recognised by names and inodes, not by times: a file is written before it is renamed, and clocks are coarse.
_FUNCTIONS = """\
export LC_ALL=C
listed() { while read -r folder; do for file in $folder/*; do [ ! -e $file ] || printf '%s\\0' $file; done; done |
  xargs -0 -r ls -i | sed 's/^ *//'; }
told() { cut -d' ' -f2 | xargs -r cat; }
"""
_ALL = sh("{functions}listed | told", functions=sh(_FUNCTIONS))
"""Results of all tasks that have ended; asks nothing of a full disk."""
_NEW = """\
seen={seen}
{functions}[ -e $seen ] || : >$seen
listed | sort >$seen.now; comm -13 $seen $seen.now | told; mv -f $seen.now $seen"""
"""Those that are not on the list in the file `$seen`, which is renewed."""


class PlainWork(Work):
    """Jobs that run their tasks from a shell script."""

    def __init__(self, description: SubmissionDescription, root: str) -> None:
        super().__init__(description, root)
        self._template = template(description.resources)
        self._jobs: dict[str, tuple[Task, ...]] = {}
        self._looked = False
        self._seen = token_hex(4)
        """Part of a file's name: another launcher may look at the same jobs, and has a list of its own."""
        for group in groups(len(description.tasks), description.resources.group_size):
            tasks = tuple(description.tasks[position] for position in group)
            self._jobs[job_hash(tasks, description.resources)] = tasks

    def jobs(self) -> list[tuple[str, tuple[str, ...]]]:
        return [(name, tuple(task.task_hash for task in tasks)) for name, tasks in self._jobs.items()]

    def to_place(self, job: BatchJob) -> JobToPlace:
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
            forward_common_files=self.description.forward_common_files,
            backward_common_files=self.description.backward_common_files,
        )

    def forget(self, context: Context, job: BatchJob, tasks: Sequence[str]) -> None:
        paths = [f"{script.tasks_folder(job.hash)}/{name}" for name in tasks]
        paths += [self.tasks[name].path(name + script.TASK_TAG) for name in tasks]
        context.delete(self.root, [*paths, job.hash + script.FINISHED_TAG])

    def collect(self, context: Context, jobs: Sequence[BatchJob]) -> dict[str, Collected]:
        placed = {job.hash: self.to_place(job) for job in jobs}
        results = self._read_results(context, _ALL, placed)
        results |= _from_tags(context, self.root, jobs, self.tasks, results)
        names = [f"{self.root}/{job.claim_file}" for job in placed.values()]
        names += [f"{self.root}/{name}{end}" for name in placed for end in ("_result.json", "_last_err_file")]
        names += [f"{self.root}/{script.reason_file(name)}" for name in placed]
        read = context.read(names)
        collected = {}
        for job in jobs:
            record = result.parse(read.get(f"{self.root}/{job.hash}_result.json", b""))
            claim = read.get(f"{self.root}/{placed[job.hash].claim_file}", b"").decode(errors="replace").strip()
            collected[job.hash] = Collected(
                recorded=record is not None and record.attempt == job.attempt,
                results={name: results[name] for name in job.tasks if name in results},
                detail=read.get(f"{self.root}/{job.hash}_last_err_file", b"").decode(errors="replace").strip(),
                claimed_by=claim,
                reason=script.told_reason(read.get(f"{self.root}/{script.reason_file(job.hash)}", b"")),
            )
        return collected

    def partial(self, context: Context, jobs: Sequence[BatchJob]) -> dict[str, dict[str, TaskResult]]:
        """What is new since the last poll.

        The first poll reads everything and writes no list, so that a launcher that only looks once leaves nothing on the
        machine; the second reads everything once more, and writes the list.
        """
        seen = word(f".{next(iter(self._jobs))}.seen-{self._seen}")
        new = sh(_NEW, functions=sh(_FUNCTIONS), seen=seen)
        command, self._looked = new if self._looked else _ALL, False  # an answer that gets lost is asked for again
        results = self._read_results(context, command, [job.hash for job in jobs])
        self._looked = True
        return {job.hash: {name: results[name] for name in job.tasks if name in results} for job in jobs}

    def running(self, context: Context, jobs: Sequence[BatchJob]) -> int:
        """At most as many as the jobs' pools have places, while tasks are left."""
        resources = self.description.resources
        places = resources.para_deg * (resources.gpu_per_node if resources.device_per_task else 1)
        return sum(min(places, sum(name not in job.results for name in job.tasks)) for job in jobs)

    def _read_results(self, context: Context, command: Text, jobs: Collection[str]) -> dict[str, TaskResult]:
        if not jobs:
            return {}
        names = "".join(f"{script.tasks_folder(name)}\n" for name in jobs).encode()
        return result.parse_lines(context.run(command, cwd=self.root, stdin=names, timeout_s=_READ_S).out)


def _from_tags(
    context: Context,
    root: str,
    jobs: Sequence[BatchJob],
    tasks: Mapping[str, Task],
    known: Mapping[str, TaskResult],
) -> dict[str, TaskResult]:
    """Results of tasks of ended jobs that have only a tag: their job's script was not ours."""
    missing = {name: job for job in jobs for name in job.tasks if name not in known and name not in job.results}
    if not missing:
        return {}
    paths = {tasks[name].path(name + script.TASK_TAG): name for name in missing}
    listing = context.list_files(root, {tasks[name].folder for name in missing})
    ended_s = {paths[file.path]: file.mtime_s for file in listing if file.path in paths}
    return {name: TaskResult(name, 0, end_s=at_s, attempt=missing[name].attempt) for name, at_s in ended_s.items()}
