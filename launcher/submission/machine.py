"""A batch system and the way to it, as scripts use it.

Its attributes are the keys of a machine file and may be assigned to; `description` is what they say, checked. What its methods
do with a job is written down in the record of the job's submission, so `run_submission` goes on from there.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, Protocol

from ..description import arguments, schema
from ..description.files import machine_by_name
from ..description.job_state import JobState
from ..description.machine import MachineDescription, machine_to_dict, parse_machine
from ..description.resources import Resources
from ..description.task import Task
from ..description.written import Written
from ..job import script
from ..job.script import FINISHED_TAG
from ..job.spec import JobToPlace
from ..machines import registry
from ..machines.base import BatchSystem, SubmitRefusedError
from ..machines.registry import build_machine
from .batch_job import ASKED_FOR, BatchJob, Phase
from .bound_context import BoundContext, Files
from .events import Intent, NotTaken, Submitted
from .own_classes import ACCESS, SCRIPT, OwnBatchSystem, PlacedJob, overridden
from .owner import Owner
from .work import template

_OURS = __name__.partition(".launcher.")[0]


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
    subclasses_dict: ClassVar[dict[str, type[Machine]]] = {}
    """Classes of somebody's own, by name: what `batch_type` may say in their program."""
    alias: ClassVar[tuple[str, ...]] = ()
    _like: ClassVar[str] = "Shell"
    """Of a class of somebody's own: the batch system that does what it has no method for."""

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        if not cls.__module__.startswith(_OURS):
            names = [cls.__name__, *cls.alias]
            Machine.subclasses_dict.update(dict.fromkeys([*names, *map(str.lower, names)], cls))

    def __new__(cls, batch_type: str | None = None, *args: Any, **keys: Any) -> Machine:
        """Of somebody's own class where `batch_type` names one."""
        return super().__new__(cls.subclasses_dict.get(str(batch_type), cls))

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
        self._own_type = ""
        if batch_type is None or str(batch_type) in self.subclasses_dict:
            self._own_type, batch_type = (
                str(batch_type or type(self).__name__),
                self._like if self._is_own else batch_type,
            )
        if context is None and (kind := BoundContext.subclasses_dict.get(str(context_type))):
            made: Any = kind
            context = made(local_root=local_root, remote_root=remote_root, remote_profile=dict(remote_profile or {}))
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
        written = machine_to_dict(self.description) | ({"batch_type": self._own_type} if self._own_type else {})
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

    @context.setter
    def context(self, context: BoundContext) -> None:
        self.bind_context(context)

    def bind_context(self, context: BoundContext) -> None:
        """Use this way to the machine."""
        way = machine_to_dict(context.description, secrets=True)
        self._take(parse_machine({**way, "batch_type": self.batch_type, "retry_count": self.retry_count}))
        self._context = context

    @property
    def _is_own(self) -> bool:
        return not type(self).__module__.startswith(_OURS)

    @property
    def batch(self) -> BatchSystem:
        """The batch system, as this class has it."""
        base = build_machine(self.description.batch_type)
        own = overridden(type(self), Machine, SCRIPT | ACCESS) if self._is_own else frozenset()
        return OwnBatchSystem(self, base, own) if own else base

    @property
    def _rendered(self) -> Callable[[JobToPlace], dict[str, str]]:
        """Scripts without what a class of somebody's own does to them."""
        return build_machine(self.description.batch_type).script

    @staticmethod
    def arginfo() -> Any:
        """The keys of a machine: as text, to check a mapping, or as a part of a `dargs` tree."""
        return arguments.tree(arguments.MACHINE, lambda mapping: Machine.load_from_dict(mapping).serialize())

    # --- scripts ------------------------------------------------------------------------------------------------------

    def gen_script(self, job: MachineJob) -> str:
        """The text that is handed to the batch system, put together from the parts that follow, but for the tasks."""
        head = f"{self.gen_script_header(job)}\n{self.gen_script_custom_flags_lines(job)}"
        run = self._parts(job).run.replace(self._reads_tasks(job), self.gen_script_run_command(job), 1)
        return f"{head}{self.gen_script_env(job)}{run}{self.gen_script_end(job)}"

    def gen_script_header(self, job: MachineJob) -> str:
        """The first lines of the script, with the batch system's directives."""
        lines = self._parts(job).header.splitlines()
        return "\n".join(lines[: len(lines) - len(job.resources.custom_flags)])

    def gen_script_custom_flags_lines(self, job: MachineJob) -> str:
        return "".join(f"{line}\n" for line in job.resources.custom_flags)

    def gen_script_env(self, job: MachineJob) -> str:
        """What goes before the tasks: the claim of the attempt, modules, sources, variables, `prepend_script`."""
        return self._parts(job).env

    def gen_script_command(self, job: MachineJob) -> str:
        """The part that runs the tasks; it is a file of its own, which the script reads."""
        placed = self._to_place(job)
        return self._rendered(placed)[placed.run_name]

    def gen_script_run_command(self, job: MachineJob) -> str:
        """The line that reads the tasks."""
        return self._reads_tasks(job)

    def gen_script_end(self, job: MachineJob) -> str:
        """What follows the tasks: `append_script`, the record of the job."""
        return self._parts(job).end

    def gen_script_wait(self, resources: Resources) -> str:
        """The line before each task that waits until one may run: `para_deg` of them do at a time, on each device."""
        return "pf_next\n"

    def gen_command_env_cuda_devices(self, resources: Resources) -> str:
        """The line before a task that gives it a device of its own; empty where tasks get none."""
        return 'export CUDA_VISIBLE_DEVICES="$pf_token"\n' if resources.device_per_task else ""

    def default_resources(self, resources: Resources) -> None:
        """Nothing is changed: what resources do not say has one default for all batch systems."""

    def sub_script_head(self, resources: Resources) -> str:
        """Empty: directives are in `gen_script_header`."""
        return ""

    def sub_script_cmd(self, resources: Resources) -> str:
        """Empty: tasks are in `gen_script_command`."""
        return ""

    def _parts(self, job: MachineJob) -> script.Parts:
        placed = self._to_place(job)
        return script.split(self._rendered(placed)[placed.script_name], placed)

    def _reads_tasks(self, job: MachineJob) -> str:
        return f"source ./{self._to_place(job).run_name}"

    def _to_place(self, job: MachineJob | PlacedJob) -> JobToPlace:
        if isinstance(job, PlacedJob) and job.to_place is not None:
            return job.to_place
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

    def do_submit(self, job: MachineJob | PlacedJob) -> str:
        """Hand one job to the batch system, unless it is there already; its id. The inputs must be there (`upload_jobs`).

        Raises SubmitRefusedError, QueueFullError or MachineBusyError.
        """
        if isinstance(job, PlacedJob):  # a class of somebody's own is just doing so
            return job.submit()
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

    def check_status(self, job: MachineJob | PlacedJob) -> JobState:
        """Ask the batch system about the jobs of the submission; where this one is."""
        if isinstance(job, PlacedJob):
            return job.ask()
        owner = job.of_submission()
        owner.update_submission_state()
        return owner.peek().jobs[job.job_hash].state

    def kill(self, job: MachineJob | PlacedJob) -> None:
        """End a job with all that runs in it; it is not placed again unless the submission is run anew."""
        if isinstance(job, PlacedJob):
            job.end()
            return
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
