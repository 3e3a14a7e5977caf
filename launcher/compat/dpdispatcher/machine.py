"""DPDispatcher's Machine on top of ours: see described.py.

What its methods do with a job is written down in the record of the job's submission, so `run_submission` goes on from there.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ...description import parse as description
from ...description import schema
from ...description.parse import MachineDescription
from ...job.script import FINISHED_TAG
from ...job.spec import JobToPlace
from ...job.states import JobState
from ...machines.base import Machine as BatchSystem
from ...machines.base import SubmitRefusedError
from ...machines.registry import build_machine
from ...submission.events import Intent, NotTaken, Submitted
from ...submission.plain_jobs import template
from ...submission.state import Phase
from ...submission.submission import ASKED_FOR
from .arguments import Arguments
from .context import BoundContext
from .described import Loadable, referred

if TYPE_CHECKING:
    from .job import Job
    from .submission import Submission


class Machine(Loadable):
    """A batch system and the way to it: `Machine(batch_type=..., context_type=..., local_root=..., ...)`.

    With `context` (as `context.LocalContext(...)`) the way is that one's.
    """

    options = set(description.MACHINES)
    _batch_type: str | None = None
    _keys = frozenset(key.name for key in schema.MACHINE)

    def __init__(
        self,
        *,
        batch_type: str | None = None,
        context_type: str | None = None,
        local_root: str | None = None,
        remote_root: str | None = None,
        remote_profile: Mapping[str, Any] | None = None,
        context: BoundContext | None = None,
        **more: Any,
    ) -> None:
        self._context = context
        self.values: MachineDescription
        if context is not None:
            found = context.with_machine(batch_type or self._batch_type or "Shell")
            self.values = replace(found, retry_count=more.get("retry_count", found.retry_count))
            return
        given = {
            "batch_type": batch_type or self._batch_type,
            "context_type": context_type,
            "local_root": local_root,
            "remote_root": remote_root,
            "remote_profile": dict(remote_profile or {}),
            **more,
        }
        self.values = description.parse_machine(given)

    @classmethod
    def load_from_dict(cls, machine_dict: Mapping[str, Any], allow_ref: bool = False) -> Machine:
        """`allow_ref`: `$ref` may name other files."""
        return cls._load(machine_dict, allow_ref)

    @classmethod
    def deserialize(cls, machine_dict: Mapping[str, Any]) -> Machine:
        return cls._load(machine_dict, False)

    @classmethod
    def _load(cls, found: Mapping[str, Any], allow_ref: bool) -> Machine:
        made = object.__new__(cls)
        made._context = None
        made.values = description.parse_machine(referred(found, allow_ref))
        return made

    def serialize(self, if_empty_remote_profile: bool = False) -> dict[str, Any]:
        found = description.machine_to_dict(self.values)
        return found | ({"remote_profile": {}} if if_empty_remote_profile else {})

    def _changed(self, name: str, value: Any) -> None:
        self.values = description.parse_machine(description.machine_to_dict(self.values, secrets=True) | {name: value})
        self._context = None

    def __getattr__(self, name: str) -> Any:
        return getattr(object.__getattribute__(self, "values"), "profile" if name == "remote_profile" else name)

    @property
    def context(self) -> BoundContext:
        if self._context is None:
            self._context = BoundContext.of(self.values)
        return self._context

    def bind_context(self, context: BoundContext) -> None:
        self.values, self._context = context.with_machine(self.values.batch_type), context

    @property
    def batch(self) -> BatchSystem:
        return build_machine(self.values.batch_type)

    @staticmethod
    def arginfo() -> Arguments:
        return Arguments("machine", schema.MACHINE, lambda given: Machine.load_from_dict(given).serialize())

    @classmethod
    def resources_arginfo(cls) -> Arguments:
        """Of `resources.kwargs`: the keys of this batch system."""
        table = schema.KWARGS.get(cls._batch_type or "", ())
        return Arguments("kwargs", table, lambda given: schema.check_kwargs(cls._batch_type or "", given, "kwargs"))

    @classmethod
    def resources_subfields(cls) -> list[Arguments]:
        return [cls.resources_arginfo()]

    # --- scripts ------------------------------------------------------------------------------------------------------

    def gen_script(self, job: Job) -> str:
        """The text that is handed to the batch system; the tasks are in `gen_script_command`."""
        placed = self._placed(job)
        return self.batch.script(placed)[placed.script_name]

    def gen_script_header(self, job: Job) -> str:
        """The first lines of the script, with the batch system's directives."""
        lines = self.gen_script(job).partition("\n\n")[0].splitlines()
        return "\n".join(lines[: len(lines) - len(job.resources.custom_flags)])

    def gen_script_custom_flags_lines(self, job: Job) -> str:
        return "".join(f"{line}\n" for line in job.resources.custom_flags)

    def gen_script_command(self, job: Job) -> str:
        """The part that runs the tasks; it is a file of its own, which the script reads."""
        placed = self._placed(job)
        return self.batch.script(placed)[placed.run_name]

    def gen_script_run_command(self, job: Job) -> str:
        return f"source ./{self._placed(job).run_name}"

    def _placed(self, job: Job) -> JobToPlace:
        tasks = tuple(task.values for task in job.job_task_list)
        header = template(job.of_submission().described())
        return JobToPlace(
            hash=job.job_hash,
            name=(tasks[0].task_name or "") if len(tasks) == 1 else "",
            tasks=tasks,
            hashes=tuple(task.task_hash for task in job.job_task_list),
            resources=job.resources.values,
            root=self.context.remote_root,
            attempt=job.fail_count,
            template=header,
        )

    # --- jobs ---------------------------------------------------------------------------------------------------------

    def do_submit(self, job: Job) -> str:
        """Hand one job to the batch system, unless it is there already; its id. The inputs must be there (`upload_jobs`).

        Raises SubmitRefusedError, QueueFullError or MachineBusyError.
        """
        with job.of_submission().opened() as opened:
            site, placed = opened.runner.site, opened.progress.jobs[job.job_hash]
            if placed.phase is not Phase.NEW:
                return placed.id
            to_place = site.work.to_place(placed)
            texts = {name: text.encode() for name, text in site.machine.script(to_place).items()} | site.work.files(
                placed
            )
            site.context.write({f"{site.work.root}/{name}": text for name, text in texts.items()})
            site.note(Intent(placed.hash, placed.attempt))
            try:
                found = site.machine.submit(site.context, to_place)
            except SubmitRefusedError as error:
                site.note(NotTaken(placed.hash, placed.attempt, str(error), final=False))
                raise
            site.note(Submitted(placed.hash, placed.attempt, found))
            job.follow(placed)
            return found

    def check_status(self, job: Job) -> JobState:
        """Ask the batch system about the jobs of the submission; where this one is."""
        job.of_submission().update_submission_state()
        return job.job_state or JobState.unsubmitted

    def kill(self, job: Job) -> None:
        """End a job with all that runs in it; it is not placed again unless the submission is run anew."""
        with job.of_submission().opened() as opened:
            placed = opened.progress.jobs[job.job_hash]
            if not placed.phase.final:
                opened.runner.cancel([placed], ASKED_FOR)
            job.follow(placed)

    def get_exit_code(self, job: Job) -> int:
        """0 when all its tasks have ended well, else the code of the first that has not. RuntimeError while it is not over."""
        placed = job.of_submission().peek().jobs[job.job_hash]
        if not placed.phase.final:
            raise RuntimeError(f"job {job.job_hash} is not over")
        codes = [placed.results[name].exit_code for name in placed.tasks if name in placed.results]
        return next((code for code in codes if code), 0 if placed.succeeded else 1)

    def get_job_error(self, job: Job) -> str | None:
        """The last words of the task that failed."""
        name = f"{job.job_hash}_last_err_file"
        return self.context.read_file(name) if self.context.check_file_exists(name) else None

    def check_finish_tag(self, job: Job) -> bool:
        return self.context.check_file_exists(job.job_hash + FINISHED_TAG)

    def check_if_recover(self, submission: Submission) -> bool:
        """Whether the submission has a record on the machine."""
        self.context.bind_submission(submission)
        return self.context.check_file_exists(f"{submission.submission_hash}.json")


def _named(batch_type: str) -> type[Machine]:
    return type(
        batch_type, (Machine,), {"_batch_type": batch_type, "__doc__": f"A Machine with batch_type {batch_type}."}
    )


SUBCLASSES: dict[str, type[Machine]] = {name: _named(name) for name in description.MACHINES}
"""`Slurm(context_type=..., ...)` and the like."""
