"""DPDispatcher's public classes on top of ours: a script written for it runs after changing its import.

Machine, Resources, Task, Submission and Job keep their names, arguments and methods; docs/launcher.md tells what differs. One
failing job never ends the watch over the others, the caller's random generator is not touched, records hold no secrets.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from . import description, loading, old_record, record, schema
from . import submission as inner
from .contexts.base import Context
from .contexts.build import build_context
from .description import MachineDescription, SubmissionDescription
from .identity import job_hash, task_hash
from .machines.base import Machine as BatchSystem
from .machines.names import build_machine
from .progress import Job as Placed
from .progress import Phase
from .resources import Resources as ResourceValues
from .schema import DescriptionError
from .states import JobState
from .task import Task as TaskValues

_Made = TypeVar("_Made", bound="_Described")


class _Described:
    """What can be loaded from a mapping or a file, compared and written back."""

    def serialize(self) -> dict[str, Any]:
        raise NotImplementedError

    @classmethod
    def load_from_dict(cls: type[_Made], found: Mapping[str, Any], allow_ref: bool = False) -> _Made:
        raise NotImplementedError

    @classmethod
    def load_from_json(cls: type[_Made], path: str | Path, allow_ref: bool = False) -> _Made:
        return cls.load_from_dict(loading.load(path, allow_ref=allow_ref))

    @classmethod
    def load_from_yaml(cls: type[_Made], path: str | Path, allow_ref: bool = False) -> _Made:
        return cls.load_from_dict(loading.load(path, allow_ref=allow_ref))

    @classmethod
    def deserialize(cls: type[_Made], found: Mapping[str, Any]) -> _Made:
        return cls.load_from_dict(found)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Described) and json.dumps(self.serialize()) == json.dumps(other.serialize())

    def __hash__(self) -> int:
        return hash(json.dumps(self.serialize()))

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.serialize()})"


class Task(_Described):
    """A shell command in a folder. Arguments as the keys of a task file."""

    def __init__(
        self,
        command: str,
        task_work_path: str,
        forward_files: Iterable[str] = (),
        backward_files: Iterable[str] = (),
        outlog: str | None = "log",
        errlog: str | None = "err",
        task_name: str | None = None,
        **more: Any,
    ) -> None:
        given = {
            "command": command,
            "task_work_path": task_work_path,
            "forward_files": list(forward_files),
            "backward_files": list(backward_files),
            "outlog": outlog,
            "errlog": errlog,
            "task_name": task_name,
            **more,
        }
        self.values: TaskValues = description.parse_task(given)

    @classmethod
    def load_from_dict(cls, found: Mapping[str, Any], allow_ref: bool = False) -> Task:
        return cls(**{name: value for name, value in found.items() if not name.startswith("_")})

    def serialize(self) -> dict[str, Any]:
        return description.task_to_dict(self.values)

    @property
    def task_hash(self) -> str:
        return task_hash(self.values)

    def get_hash(self) -> str:
        return self.task_hash

    def __getattr__(self, name: str) -> Any:
        """`task.command` and the like."""
        value = getattr(object.__getattribute__(self, "values"), name)
        return list(value) if isinstance(value, tuple) else value


class Resources(_Described):
    """What one job asks for. Arguments as the keys of a resources file; others go into `kwargs`."""

    def __init__(
        self,
        number_node: int = 1,
        cpu_per_node: int = 1,
        gpu_per_node: int = 0,
        queue_name: str = "",
        group_size: int = 1,
        **given: Any,
    ) -> None:
        first = {
            "number_node": number_node,
            "cpu_per_node": cpu_per_node,
            "gpu_per_node": gpu_per_node,
            "queue_name": queue_name,
            "group_size": group_size,
        }
        known = {key.name for key in schema.RESOURCES}
        more = {name: given.pop(name) for name in list(given) if name not in known}
        if more:
            given["kwargs"] = {**given.get("kwargs", {}), **more}
        self.values: ResourceValues = description.parse_resources({**first, **given})

    @classmethod
    def load_from_dict(cls, found: Mapping[str, Any], allow_ref: bool = False) -> Resources:
        made = cls()
        made.values = description.parse_resources(dict(found))
        return made

    def serialize(self) -> dict[str, Any]:
        return description.resources_to_dict(self.values)

    def __getattr__(self, name: str) -> Any:
        value = getattr(object.__getattribute__(self, "values"), name)
        return list(value) if isinstance(value, tuple) else value


class Machine(_Described):
    """A batch system and the way to it: `Machine(batch_type=..., context_type=..., local_root=..., ...)`."""

    options = set(description.MACHINES)
    _batch_type: str | None = None

    def __init__(
        self,
        *,
        batch_type: str | None = None,
        context_type: str | None = None,
        local_root: str | None = None,
        remote_root: str | None = None,
        remote_profile: Mapping[str, Any] | None = None,
        **more: Any,
    ) -> None:
        given = {
            "batch_type": batch_type or self._batch_type,
            "context_type": context_type,
            "local_root": local_root,
            "remote_root": remote_root,
            "remote_profile": dict(remote_profile or {}),
            **more,
        }
        self.values: MachineDescription = description.parse_machine(given)

    @classmethod
    def load_from_dict(cls, found: Mapping[str, Any], allow_ref: bool = False) -> Machine:
        made = object.__new__(cls)
        made.values = description.parse_machine(found)
        return made

    def serialize(self, if_empty_remote_profile: bool = False) -> dict[str, Any]:
        found = description.machine_to_dict(self.values)
        return found | ({"remote_profile": {}} if if_empty_remote_profile else {})

    @property
    def context(self) -> Context:
        return build_context(self.values)

    @property
    def batch(self) -> BatchSystem:
        return build_machine(self.values.batch_type)

    def __getattr__(self, name: str) -> Any:
        return getattr(object.__getattribute__(self, "values"), "profile" if name == "remote_profile" else name)


def _named(batch_type: str) -> type[Machine]:
    return type(
        batch_type, (Machine,), {"_batch_type": batch_type, "__doc__": f"A Machine with batch_type {batch_type}."}
    )


SUBCLASSES: dict[str, type[Machine]] = {name: _named(name) for name in description.MACHINES}
"""`Slurm(context_type=..., ...)` and the like."""


class Job(_Described):
    """One batch job of a submission, as far as it has come."""

    def __init__(self, *, job_task_list: Iterable[Task], resources: Resources, machine: Machine | None = None) -> None:
        self.job_task_list = list(job_task_list)
        self.resources = resources
        self.machine = machine
        self.job_state: JobState | None = None
        self.job_id = ""
        self.fail_count = 0
        self.failure_reason: str | None = None

    @property
    def job_hash(self) -> str:
        return job_hash([task.values for task in self.job_task_list], self.resources.values)

    def get_hash(self) -> str:
        return self.job_hash

    def serialize(self, if_static: bool = False) -> dict[str, Any]:
        static = {
            "job_task_list": [task.serialize() for task in self.job_task_list],
            "resources": self.resources.serialize(),
        }
        if if_static:
            return {self.job_hash: static}
        now = {"job_state": self.job_state, "job_id": self.job_id, "fail_count": self.fail_count}
        return {self.job_hash: {**static, **now, "failure_reason": self.failure_reason}}

    def follow(self, placed: Placed) -> None:
        """Take over what is known of the job."""
        self.job_state = placed.state
        self.job_id = placed.id
        self.fail_count = placed.failures
        self.failure_reason = placed.reason or None


class Submission:
    """Tasks on a machine. `pilot` (a mapping, may be empty) runs them in a pilot."""

    def __init__(
        self,
        work_base: str,
        machine: Machine | None = None,
        resources: Resources | None = None,
        forward_common_files: Iterable[str] = (),
        backward_common_files: Iterable[str] = (),
        *,
        task_list: Iterable[Task] = (),
        previous_submission_hash: str | None = None,
        continue_on_failure: bool = False,
        pilot: Mapping[str, Any] | None = None,
        tell: Callable[[str], None] = lambda text: None,
    ) -> None:
        self.work_base = work_base
        self.machine = machine
        self.resources = resources
        self.forward_common_files = list(forward_common_files)
        self.backward_common_files = list(backward_common_files)
        self.belonging_tasks = list(task_list)
        self.belonging_jobs: list[Job] = []
        self.previous_submission_hash = previous_submission_hash
        self.continue_on_failure = continue_on_failure
        self.pilot = pilot
        self._tell = tell

    # --- building -------------------------------------------------------------------------------------------------------

    def register_task(self, task: Task) -> None:
        self.register_task_list([task])

    def register_task_list(self, task_list: Iterable[Task]) -> None:
        if self.belonging_jobs:
            what = "Not allowed to register tasks after generating jobs."
            raise RuntimeError(f"{what} submission hash error {self.submission_hash}")
        self.belonging_tasks.extend(task_list)

    def bind_machine(self, machine: Machine) -> Submission:
        self.machine = machine
        return self

    def generate_jobs(self) -> None:
        """Group the tasks into jobs, in DPDispatcher's order."""
        if self.belonging_jobs:
            raise RuntimeError("Can not generate jobs when submission.belonging_jobs is not empty.")
        made = self._inner()
        work = made.work(made.context())
        by_hash = {task.task_hash: task for task in self.belonging_tasks}
        assert self.resources is not None
        for _, names in work.jobs():
            tasks = [by_hash[name] for name in names]
            self.belonging_jobs.append(Job(job_task_list=tasks, resources=self.resources, machine=self.machine))

    def _description(self) -> SubmissionDescription:
        if self.machine is None or self.resources is None:
            raise DescriptionError("needs a machine and resources", where="Submission")
        return SubmissionDescription(
            work_base=self.work_base,
            machine=self.machine.values,
            resources=self.resources.values,
            tasks=tuple(task.values for task in self.belonging_tasks),
            forward_common_files=tuple(self.forward_common_files),
            backward_common_files=tuple(self.backward_common_files),
            previous_submission_hash=self.previous_submission_hash,
            continue_on_failure=self.continue_on_failure,
            pilot=None if self.pilot is None else description.parse_pilot(self.pilot),
        )

    def _inner(self) -> inner.Submission:
        return inner.Submission(self._description(), tell=self._tell)

    @property
    def submission_hash(self) -> str:
        return self._inner().hash

    def get_hash(self) -> str:
        return self.submission_hash

    # --- running --------------------------------------------------------------------------------------------------------

    def run_submission(
        self,
        *,
        dry_run: bool = False,
        exit_on_submit: bool = False,
        clean: bool | str = True,
        check_interval: float = 30,
        continue_on_failure: bool | None = None,
        retry_failed: bool = False,
    ) -> dict[str, Any]:
        """Place the jobs, wait, bring results home; the submission as a mapping.

        With `dry_run` only the scripts are made: they stand under `scripts` in what is returned. Jobs that fail for good raise
        SubmissionFailedError (a RuntimeError) after all others have ended, whatever `continue_on_failure` says.
        """
        if continue_on_failure is not None:
            self.continue_on_failure = continue_on_failure
        made = self._inner()
        if not self.belonging_jobs:
            self.generate_jobs()
        if dry_run:
            return {**self.serialize(), "scripts": made.scripts()}
        try:
            made.run(detach=exit_on_submit, clean=clean, check_interval_s=check_interval, retry_failed=retry_failed)
        finally:
            self._follow(made)
        return self.serialize()

    async def async_run_submission(self, **options: Any) -> dict[str, Any]:
        """`run_submission` without blocking the event loop; keeps the folder on the machine unless told otherwise."""
        options.setdefault("clean", False)
        return await asyncio.get_running_loop().run_in_executor(None, partial(self.run_submission, **options))

    def _follow(self, made: inner.Submission) -> None:
        progress = made.last or made.peek()
        jobs = list(progress.jobs.values())
        for job, placed in zip(self.belonging_jobs, jobs, strict=False):
            job.follow(placed)

    def update_submission_state(self) -> None:
        """Ask the batch system where the jobs are."""
        made = self._inner()
        with made.opened() as opened:
            opened.runner.look()
            opened.runner.step_without_submitting()
            for job, placed in zip(self.belonging_jobs, opened.progress.jobs.values(), strict=False):
                job.follow(placed)

    def check_all_finished(self) -> bool:
        return bool(self.belonging_jobs) and all(job.job_state is JobState.finished for job in self.belonging_jobs)

    def check_ratio_unfinished(self, ratio_unfinished: float) -> bool:
        """Whether at least 1 - `ratio_unfinished` of the tasks have succeeded."""
        counts = self._inner().peek().counts()
        return counts["done"] >= (1 - ratio_unfinished) * counts["tasks"]

    def cancel(self) -> int:
        """End all jobs that are not over; how many there were."""
        return self._inner().cancel()

    def upload_jobs(self) -> None:
        with self._inner().opened() as opened:
            opened.runner.upload(opened.digests)

    def download_jobs(self, include_failed: bool = False) -> None:
        """Bring home what there is."""
        with self._inner().opened() as opened:
            for job in opened.progress.jobs.values():
                if include_failed or job.phase is not Phase.FAILED:
                    opened.runner.fetch_now(job)

    def clean_jobs(self) -> None:
        with self._inner().opened() as opened:
            opened.runner.clean()
        record.forget(opened.record)

    # --- writing --------------------------------------------------------------------------------------------------------

    def serialize(self, if_static: bool = False) -> dict[str, Any]:
        assert self.machine is not None
        assert self.resources is not None
        found: dict[str, Any] = {
            "work_base": self.work_base,
            "_abs_work_base": str(Path(self.work_base).absolute()),
            "machine": self.machine.serialize(),
            "resources": self.resources.serialize(),
            "forward_common_files": sorted(self.forward_common_files),
            "backward_common_files": sorted(self.backward_common_files),
        }
        if not self.belonging_jobs:
            found["belonging_tasks"] = [task.serialize() for task in self.belonging_tasks]
        else:
            found["belonging_jobs"] = [job.serialize(if_static) for job in self.belonging_jobs]
        if not if_static:
            found["continue_on_failure"] = self.continue_on_failure
            found["previous_submission_hash"] = self.previous_submission_hash
        return found

    @classmethod
    def deserialize(cls, found: Mapping[str, Any], machine: Machine | None = None) -> Submission:
        """From `serialize`, or a record of DPDispatcher or ours."""
        tasks = list(found.get("belonging_tasks", []))
        for entries in found.get("belonging_jobs", []):
            tasks += [task for entry in entries.values() for task in entry["job_task_list"]]
        return cls(
            found["work_base"],
            machine or Machine.load_from_dict(found["machine"]),
            Resources.load_from_dict(found["resources"]),
            found.get("forward_common_files", ()),
            found.get("backward_common_files", ()),
            task_list=[Task.load_from_dict(task) for task in tasks],
            continue_on_failure=found.get("continue_on_failure", False),
        )

    @classmethod
    def submission_from_json(cls, path: str | Path) -> Submission:
        return cls.deserialize(json.loads(Path(path).read_text()))

    def submission_to_json(self) -> Path:
        """Write DPDispatcher's record `<hash>.json` into the current folder; its path."""
        made = self._inner()
        work = made.work(made.context())
        found = record.Record(made.hash, record.home(), self._description(), made.local_work, work.root, 0.0)
        path = Path(f"{made.hash}.json")
        path.write_text(json.dumps(old_record.build(found, work, made.peek()), indent=4))
        return path

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Submission) and self.serialize(if_static=True) == other.serialize(if_static=True)

    def __hash__(self) -> int:
        return hash(self.submission_hash)
