"""A batch system and the way to it, as scripts use it.

Its attributes are the keys of a machine file and may be assigned to; `description` is what they say, checked. What its methods
do with a job is written down in the record of the job's submission, so `run_submission` goes on from there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from ..description import arguments, schema
from ..description.files import machine_by_name
from ..description.job_state import JobState
from ..description.machine import MachineDescription, machine_to_dict, parse_machine
from ..description.resources import Resources
from ..description.task import Task
from ..description.written import Written
from ..job.script import FINISHED_TAG
from ..job.spec import JobToPlace
from ..machines import registry
from ..machines.base import BatchSystem, SubmitRefusedError
from ..machines.registry import build_machine
from .batch_job import ASKED_FOR, BatchJob, Phase
from .bound_context import BoundContext, Files
from .events import Intent, NotTaken, Submitted
from .owner import Owner
from .work import template


class MachineJob(Protocol):
    """What a machine needs of a job."""

    job_hash: str
    job_task_list: list[Task]
    resources: Resources
    fail_count: int

    def of_submission(self) -> Owner: ...

    def follow(self, job: BatchJob) -> None: ...


class Machine(Written):
    """A batch system and the way to it: `Machine(batch_type=..., context_type=..., local_root=..., ...)`.

    With `context` the way is that one's. Raises DescriptionError.
    """

    options = set(registry.names())

    def __init__(
        self,
        batch_type: str | None = None,
        context_type: str | None = None,
        local_root: str | None = None,
        remote_root: str | None = None,
        remote_profile: Mapping[str, Any] | None = None,
        retry_count: int | None = None,
        *,
        context: BoundContext | None = None,
        **more: Any,
    ) -> None:
        given = {"batch_type": batch_type, **more}
        if context is None:
            given |= {"context_type": context_type, "local_root": local_root, "remote_root": remote_root}
            given["remote_profile"] = dict(remote_profile or {})
        else:
            given = {**machine_to_dict(context.description, secrets=True), "batch_type": batch_type or "Shell", **more}
        if retry_count is not None:
            given["retry_count"] = retry_count
        self._take(parse_machine(given))
        self._context = context

    def _take(self, description: MachineDescription) -> None:
        """Let the attributes say this."""
        self.batch_type, self.context_type = description.batch_type, description.context_type
        self.local_root, self.remote_root = description.local_root, description.remote_root
        self.remote_profile = dict(description.profile)
        self.retry_count = description.retry_count
        self.clean_asynchronously = description.clean_asynchronously
        self.create_remote_root = description.create_remote_root
        self._description, self._written = description, self._as_written()

    def _as_written(self) -> dict[str, Any]:
        return {
            "batch_type": self.batch_type,
            "context_type": self.context_type,
            "local_root": self.local_root,
            "remote_root": self.remote_root,
            "clean_asynchronously": self.clean_asynchronously,
            "create_remote_root": self.create_remote_root,
            "remote_profile": dict(self.remote_profile),
            "retry_count": self.retry_count,
        }

    @property
    def description(self) -> MachineDescription:
        """What the attributes say. Raises DescriptionError when they have been assigned something that is not allowed."""
        written = self._as_written()
        if written != self._written:
            self._description, self._written = parse_machine(written), written
        return self._description

    @classmethod
    def load_from_dict(cls, machine_dict: Mapping[str, Any], allow_ref: bool = False) -> Machine:
        """`allow_ref`: `$ref` may name other files. Raises DescriptionError."""
        return cls._load(machine_dict, allow_ref)

    @classmethod
    def deserialize(cls, machine_dict: Mapping[str, Any]) -> Machine:
        """From `serialize`. Raises DescriptionError."""
        return cls._parse(machine_dict)

    @classmethod
    def _parse(cls, mapping: Any) -> Machine:
        return cls(**schema.arguments(schema.MACHINE, mapping, "machine"))

    def serialize(self, if_empty_remote_profile: bool = False) -> dict[str, Any]:
        """As in a file, with all keys of DPDispatcher, but without secrets."""
        written = machine_to_dict(self.description)
        if if_empty_remote_profile:
            return written | {"remote_profile": {}}
        if self.context_type == "SSHContext":
            hidden = {key.name for key in schema.SSH_PROFILE if key.secret and self.remote_profile.get(key.name)}
            known = {key.name: key.default for key in schema.SSH_PROFILE if not key.ours and key.name not in hidden}
            written["remote_profile"] = {**known, **written["remote_profile"]}
        return written

    @property
    def context(self) -> BoundContext:
        """The way to the machine, bound to the submission that was made with this machine last."""
        description, before = self.description, self._context
        if before is None or _way(before.description) != _way(description):
            self._context = BoundContext(description)
            if before is not None and before.submission is not None:
                self._context.bind_submission(before.submission)
                before.close()
        assert self._context is not None
        return self._context

    def bind_context(self, context: BoundContext) -> None:
        """Use this way to the machine."""
        way = machine_to_dict(context.description, secrets=True)
        self._take(parse_machine({**way, "batch_type": self.batch_type, "retry_count": self.retry_count}))
        self._context = context

    @property
    def batch(self) -> BatchSystem:
        return build_machine(self.description.batch_type)

    @staticmethod
    def arginfo() -> Any:
        """The keys of a machine: as text, to check a mapping, or as a part of a `dargs` tree."""
        return arguments.tree(arguments.MACHINE, lambda mapping: Machine.load_from_dict(mapping).serialize())

    # --- scripts ------------------------------------------------------------------------------------------------------

    def gen_script(self, job: MachineJob) -> str:
        """The text that is handed to the batch system; the tasks are in `gen_script_command`."""
        placed = self._to_place(job)
        return self.batch.script(placed)[placed.script_name]

    def gen_script_header(self, job: MachineJob) -> str:
        """The first lines of the script, with the batch system's directives."""
        lines = self.gen_script(job).partition("\n\n")[0].splitlines()
        return "\n".join(lines[: len(lines) - len(job.resources.custom_flags)])

    def gen_script_custom_flags_lines(self, job: MachineJob) -> str:
        return "".join(f"{line}\n" for line in job.resources.custom_flags)

    def gen_script_command(self, job: MachineJob) -> str:
        """The part that runs the tasks; it is a file of its own, which the script reads."""
        placed = self._to_place(job)
        return self.batch.script(placed)[placed.run_name]

    def gen_script_run_command(self, job: MachineJob) -> str:
        return f"source ./{self._to_place(job).run_name}"

    def _to_place(self, job: MachineJob) -> JobToPlace:
        tasks: Sequence[Task] = job.job_task_list
        return JobToPlace(
            hash=job.job_hash,
            name=(tasks[0].task_name or "") if len(tasks) == 1 else "",
            tasks=tuple(tasks),
            hashes=tuple(task.task_hash for task in tasks),
            resources=job.resources,
            root=self.context.remote_root,
            attempt=job.fail_count,
            template=template(job.resources),
        )

    # --- jobs ---------------------------------------------------------------------------------------------------------

    def do_submit(self, job: MachineJob) -> str:
        """Hand one job to the batch system, unless it is there already; its id. The inputs must be there (`upload_jobs`).

        Raises SubmitRefusedError, QueueFullError or MachineBusyError.
        """
        with job.of_submission().opened() as opened:
            site, placed = opened.runner.site, opened.progress.jobs[job.job_hash]
            if placed.phase is not Phase.NEW:
                return placed.id
            to_place = site.work.to_place(placed)
            texts = {name: text.encode() for name, text in site.machine.script(to_place).items()}
            texts |= site.work.files(placed)
            site.context.write({f"{site.work.root}/{name}": text for name, text in texts.items()})
            site.note(Intent(placed.hash, placed.attempt))
            try:
                job_id = site.machine.submit(site.context, to_place)
            except SubmitRefusedError as error:
                site.note(NotTaken(placed.hash, placed.attempt, str(error), final=False))
                raise
            site.note(Submitted(placed.hash, placed.attempt, job_id))
            job.follow(placed)
            return job_id

    def check_status(self, job: MachineJob) -> JobState:
        """Ask the batch system about the jobs of the submission; where this one is."""
        owner = job.of_submission()
        owner.update_submission_state()
        return owner.peek().jobs[job.job_hash].state

    def kill(self, job: MachineJob) -> None:
        """End a job with all that runs in it; it is not placed again unless the submission is run anew."""
        with job.of_submission().opened() as opened:
            placed = opened.progress.jobs[job.job_hash]
            if not placed.phase.final:
                opened.runner.cancel([placed], ASKED_FOR)
            job.follow(placed)

    def get_exit_code(self, job: MachineJob) -> int:
        """0 when all its tasks have ended well, else the code of the first that has not. RuntimeError while it is not over."""
        placed = job.of_submission().peek().jobs[job.job_hash]
        if not placed.phase.final:
            raise RuntimeError(f"job {job.job_hash} is not over")
        codes = [placed.results[name].exit_code for name in placed.tasks if name in placed.results]
        return next((code for code in codes if code), 0 if placed.succeeded else 1)

    def get_job_error(self, job: MachineJob) -> str | None:
        """The last words of the task that failed."""
        name = f"{job.job_hash}_last_err_file"
        return self.context.read_file(name) if self.context.check_file_exists(name) else None

    def check_finish_tag(self, job: MachineJob) -> bool:
        return self.context.check_file_exists(job.job_hash + FINISHED_TAG)

    def check_if_recover(self, submission: Files) -> bool:
        """Whether the submission has a record on the machine."""
        self.context.bind_submission(submission)
        return self.context.check_file_exists(f"{submission.submission_hash}.json")


def _way(description: MachineDescription) -> dict[str, Any]:
    """What decides how the machine is reached."""
    written = machine_to_dict(description, secrets=True)
    return {name: value for name, value in written.items() if name not in ("batch_type", "retry_count")}


MachineLike = Machine | MachineDescription | str | Mapping[str, Any]
"""What people give where a machine is wanted: a `Machine`, the name or path of a machine file, or what stands in one."""


def described_machine(given: MachineLike) -> MachineDescription:
    """Raises DescriptionError."""
    if isinstance(given, MachineDescription):
        return given
    if isinstance(given, Machine):
        return given.description
    return parse_machine(machine_by_name(given) if isinstance(given, str) else given)
