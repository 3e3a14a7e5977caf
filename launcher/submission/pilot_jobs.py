"""The pilot as a submission: one batch job is a pilot over all its nodes, and each task becomes a job of the pilot.

With `pilots: N` N - 1 further batch jobs have no pilot of their own: their nodes join it (`pilotfish agent`) and leave with it,
so all share one queue.

The pilot's working folder is the submission's folder on the machine, so its journal is there: an allocation that ends with work
left is followed by another one, which goes on from it (`pilotfish run --continue`). What became of a task is read from the
pilot's own `jobs.report`; nothing is written per task but what the tasks write.
"""

from __future__ import annotations

import json
import posixpath
from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import datetime
from typing import Any

from ..contexts import shell
from ..contexts.base import CommandFailedError, Context, succeeded
from ..contexts.paths import printable
from ..contexts.registry import context_class
from ..contexts.shell import Text, sh
from ..description.digests import digest
from ..description.identity import job_hash
from ..description.schema import DescriptionError
from ..description.submission import SubmissionDescription
from ..description.task import Task
from ..job import record as result
from ..job.record import TaskResult
from ..job.spec import JobToPlace
from . import bootstrap
from .batch_job import BatchJob
from .work import Collected, Work, template

IS_OURS = sh(
    """\
is_ours() {
  [ -n "$(find "$1" -prune -type "$2" -user "$(id -u)" ! -perm -020 ! -perm -002 2>/dev/null)" ]
}"""
)
"""Shell function: whether a file ("f") or folder ("d") is ours and nobody else's to change, as pilot/wire/ownership.py has it.
Others may have put auxiliary folders beside ours, and what is in ours is believed."""

_MOST_TRIES = 1800
_START_S = 60
"""So long a login shell may take to read its start files."""
_ANSWER_S = 30
"""A pilot that is just ending may not answer."""
_COUNT_S = 3
_WORDS = {"EXECUTING": "running", "QUEUED": "waiting", "SCHEDULED": "waiting", "SUCCEED": "finished"}
_UNKNOWN_EXIT = 255
"""Exit code of a task that the pilot could not start, cancelled or left out."""


_FOUND = """\
{finder}
if [ -z "$pilotfish" ]; then
  echo "pilotfish is not here: $(uname -n), PATH=$PATH" | tee {words} >&2
  exit 1
fi"""
_PILOT = """
{found}
export PILOTFISH_NET=true
"${pilotfish[@]}" run {jobs} --wd "$REMOTE_ROOT" --continue --no-output --quiet {options}
pf_code=$?
[ $pf_code -eq 0 ] || echo 1 >{flag}
"""
_GUEST = """
{found}
for pf_try in $(seq {tries}); do
  "${pilotfish[@]}" agent --connect "$REMOTE_ROOT"
  [ $? -eq 3 ] || break
  sleep 2
done
"""
_ASK = '{finder}\ntimeout {seconds} "${pilotfish[@]}" {words} -c .'
_PUT_ASIDE = """\
{is_ours}
for folder in .qcgpjm-service-*; do ! is_ours "$folder" d || mv "$folder" ".before-$(date +%s)$folder"; done"""
_READ_REPORT = """\
{is_ours}
for folder in .qcgpjm-service-*; do
  ! is_ours "$folder" d || tail -c +{start} "$folder/jobs.report" 2>/dev/null
done
true"""


class PilotWork(Work):
    """All tasks in one job, which is a pilot; further jobs bring it nodes."""

    count_every_s = 15.0  # a program has to be started there, for people to read

    def __init__(self, description: SubmissionDescription, root: str) -> None:
        super().__init__(description, root)
        assert description.pilot is not None
        self._pilot = description.pilot
        self._template = template(description.resources)
        own = job_hash(description.tasks, description.resources)
        self._hash = digest({"job": own, "pilot": description.pilot.serialize()})
        self._names = _names(description.tasks)
        context = context_class(description.machine.context_type)
        self._local = context.local
        self._machine_root = (description.machine.remote_root or root) if context.in_place else posixpath.dirname(root)
        self._read_bytes = 0
        self._told: dict[str, TaskResult] = {}

    def jobs(self) -> list[tuple[str, tuple[str, ...]]]:
        guests = [digest({"of": self._hash, "guest": number}) for number in range(1, self._pilot.pilots)]
        return [(self._hash, tuple(self.tasks)), *((name, ()) for name in guests)]

    # --- the job --------------------------------------------------------------------------------------------------------

    def to_place(self, job: BatchJob) -> JobToPlace:
        return JobToPlace(
            hash=job.hash,
            name=f"{'pilot' if job.tasks else 'agents'}-{job.hash[:8]}",
            tasks=self.description.tasks if job.tasks else (),
            hashes=job.tasks,
            resources=self.description.resources,
            root=self.root,
            attempt=job.attempt,
            template=self._template,
            body=self._body(job) if job.tasks else self._guest_body(job),
        )

    def _guest_body(self, job: BatchJob) -> str:
        """Until there is a pilot nothing can be joined; when there will be none any more, the launcher cancels this job."""
        return sh(_GUEST, found=self._found_or_failed(job), tries=_MOST_TRIES)

    def _found_or_failed(self, job: BatchJob) -> Text:
        return sh(_FOUND, finder=self._finder, words=shell.relative(f"{job.hash}_last_err_file"))

    @property
    def _finder(self) -> Text:
        return bootstrap.finder(self._pilot, self._machine_root, local=self._local)

    def _body(self, job: BatchJob) -> str:
        """`--net` lets whoever can read the connection file (you) talk to the pilot from the login node, with its keys."""
        return sh(
            _PILOT,
            found=self._found_or_failed(job),
            jobs=shell.relative(_file(job)),
            options=shell.words(self._pilot.options),
            flag=shell.relative(f"{job.hash}_flag_if_job_task_fail"),
        )

    def files(self, job: BatchJob) -> dict[str, bytes]:
        """The tasks without a result; a pilot that goes on knows which of them it has already."""
        if not job.tasks:
            return {}
        left = {name: task for name, task in self.tasks.items() if name not in job.results}
        names = {self._names[name] for name in left}
        return {
            _file(job): json.dumps([self._job(name, task, names) for name, task in left.items()], indent=1).encode()
        }

    def _job(self, name: str, task: Task, left: Collection[str]) -> dict[str, Any]:
        """One task as a job description of the pilot. What it depends on and has succeeded is not in the pilot any more."""
        execution: dict[str, Any] = {"script": task.command, "wd": task.folder}
        if task.outlog is not None:
            execution["stdout"] = task.outlog
        if task.errlog is not None:
            execution["stderr"] = task.errlog
        found: dict[str, Any] = {"name": self._names[name], "execution": execution}
        found["resources"] = _resources(task.resources or {})
        after = [other for other in task.dependencies if other in left]
        if after:
            found["dependencies"] = {"after": after}
        if task.iteration is not None:
            found["iteration"] = task.iteration
        if task.retries:
            found["retries"] = task.retries
        return found

    def prepare(self, context: Context, tell: Callable[[str], None]) -> None:
        bootstrap.ensure(context, self._pilot, self._machine_root, self.description.resources.prepend_script, tell)

    def forget(self, context: Context, job: BatchJob, tasks: Sequence[str]) -> None:
        """The pilot's folder is put aside: what it knows of the other tasks is known here."""
        self._read_bytes = 0
        self._told.clear()
        context.check(sh(_PUT_ASIDE, is_ours=IS_OURS), cwd=self.root)

    # --- its results ----------------------------------------------------------------------------------------------------

    def collect(self, context: Context, jobs: Sequence[BatchJob]) -> dict[str, Collected]:
        found = {}
        for job in jobs:
            placed = self.to_place(job)
            names = [f"{self.root}/{job.hash}_result.json", f"{self.root}/{placed.claim_file}"]
            read = context.read([*names, f"{self.root}/{job.hash}_last_err_file", f"{self.root}/{job.hash}.out"])
            record = result.parse(read.get(names[0], b""))
            words = read.get(f"{self.root}/{job.hash}_last_err_file", b"")
            found[job.hash] = Collected(
                recorded=record is not None and record.attempt == job.attempt,
                results=self._results(context, job),
                detail=words.decode(errors="replace").strip(),
                claimed_by=read.get(names[1], b"").decode(errors="replace").strip(),
            )
        return found

    def ask_pilot(self, context: Context, words: Sequence[str], within_s: int = _ANSWER_S) -> str:
        """On the machine, where the pilot's connection file and its keys are."""
        ask = sh(_ASK, finder=self._finder, seconds=within_s, words=shell.words(words))
        done = context.run_in_login_shell(
            ask, before=self.description.resources.prepend_script, cwd=self.root, timeout_s=within_s + _START_S
        )
        return succeeded(done, f"pilotfish {words[0]} on the machine")

    def running(self, context: Context, jobs: Sequence[BatchJob]) -> int:
        try:
            told = json.loads(self.ask_pilot(context, ["status", "--json"], _COUNT_S)) if jobs else {}
            return int(told.get("IterationStats", {}).get("ExecutingIterations", 0))
        except (CommandFailedError, ValueError):  # it has not begun to listen, or has just ended
            return 0

    def states(self, context: Context) -> dict[str, str]:
        try:
            told = json.loads(self.ask_pilot(context, ["jobs", "--json"]))
            jobs = told["jobs"] if isinstance(told.get("version"), int) else told  # as of an older Pilotfish there
        except (CommandFailedError, ValueError):  # it has not begun to listen, or has just ended
            return {}
        found = {name: _WORDS.get(job["status"], job["status"].lower()) for name, job in jobs.items()}
        return {name: found[called] for name, called in self._names.items() if called in found}

    def partial(self, context: Context, jobs: Sequence[BatchJob]) -> dict[str, dict[str, TaskResult]]:
        return {job.hash: self._results(context, job) for job in jobs}

    def _results(self, context: Context, job: BatchJob) -> dict[str, TaskResult]:
        """What the pilot has reported, old and new; only what was added since the last look is read."""
        if not job.tasks:
            return {}
        command = sh(_READ_REPORT, is_ours=IS_OURS, start=self._read_bytes + 1)
        text = context.run(command, cwd=self.root, timeout_s=600).out
        whole = text[: text.rfind("\n") + 1]
        self._read_bytes += len(whole.encode())
        tasks = {name: found for found, name in self._names.items()}
        for line in whole.splitlines():
            try:
                entry = json.loads(line)
                name = tasks.get(entry.get("name"))
                if name is not None and name not in self._told:
                    self._told[name] = job.results.get(name) or _task_result(name, entry, job.attempt)
            except (ValueError, KeyError, TypeError, AttributeError, OverflowError):  # not the pilot has written that
                continue
        return {**job.results, **self._told}


def _file(job: BatchJob) -> str:
    return f".{job.hash}.pilot.json"


def _names(tasks: Sequence[Task]) -> dict[str, str]:
    """What the pilot calls each task, by its hash: `task_name`, or `task-N`."""
    found: dict[str, str] = {}
    for number, task in enumerate(tasks):
        name = task.task_name or f"task-{number}"
        if name in found.values():
            raise DescriptionError(f"the name {name!r} is there twice", where=f"task_list[{number}].task_name")
        if task.task_hash in found:
            remedy = "give one of them another task_name"
            raise DescriptionError("the same task is there twice", where=f"task_list[{number}]", remedy=remedy)
        found[task.task_hash] = name
    for number, task in enumerate(tasks):
        for other in task.dependencies:
            if other not in found.values():
                raise DescriptionError(f"no task is named {other!r}", where=f"task_list[{number}].dependencies")
    return found


def _resources(given: Mapping[str, Any]) -> dict[str, Any]:
    """`cores`, `nodes`, `gpus`, `named`, `memory` (MiB), `wt` and `min_time` (seconds) in the pilot's words."""
    found: dict[str, Any] = {"numCores": given.get("cores", 1)}
    if "nodes" in given:
        found["numNodes"] = given["nodes"]
    if given.get("gpus"):
        found["nodeCrs"] = {"gpu": given["gpus"]}
        found.setdefault("numNodes", 1)
    found |= given.get("named", {})
    if "memory" in given:
        found["mem"] = f"{given['memory']}M"
    return found | {name: f"{given[name]:g}s" for name in ("wt", "min_time") if name in given}


def _task_result(name: str, entry: Mapping[str, Any], attempt: int) -> TaskResult:
    """One line of `jobs.report`: of a job with iterations it is the whole job's, without times of its own."""
    ran = entry.get("runtime", {})
    times = {each["state"]: _seconds(each["date"]) for each in entry.get("history", [])}
    code = ran.get("exit_code", "0" if entry["state"] == "SUCCEED" else str(_UNKNOWN_EXIT))
    peak = ran.get("max_rss_kib")
    return TaskResult(
        hash=name,
        exit_code=int(code) if entry["state"] == "SUCCEED" or int(code) else _UNKNOWN_EXIT,
        start_s=times.get("EXECUTING") or times.get("QUEUED"),
        end_s=times.get(entry["state"]),
        node=printable(str(ran.get("node", ""))),
        attempt=attempt,
        peak_bytes=None if peak is None else int(peak) * 1024,
        starts=int(ran.get("attempts", 1)),
        message=printable(str(entry.get("messages", ""))),
    )


def _seconds(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()
