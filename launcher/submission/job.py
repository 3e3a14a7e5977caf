"""One batch job of a submission as scripts see it: its tasks, and how far it is.

What is known of it stands in the submission's journal (state.BatchJob); this copies it, when it is asked to look.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from ..description.identity import job_hash
from ..description.job_state import JobState
from ..description.resources import Resources
from ..description.schema import DescriptionError, InconsistentError
from ..description.task import Task
from ..description.written import Serialized
from ..machines.directives import job_name
from .batch_job import BatchJob
from .machine import Machine
from .owner import Owner


class Job(Serialized):
    """One batch job, as far as it has come.

    Attributes:
        job_hash: of its tasks and what it asks for; the same in every submission.
        submission: that it is part of; None when it stands alone.
        job_state: None while nothing is known.
        fail_count: attempts that count against the retries.
        failure_reason: why the last attempt has ended badly.
    """

    def __init__(
        self,
        job_task_list: Iterable[Task],
        *,
        resources: Resources,
        machine: Machine | None = None,
        submission: Owner | None = None,
    ) -> None:
        self.job_task_list = list(job_task_list)
        self.resources = resources
        self.machine = machine
        self.submission = submission
        self.job_state: JobState | None = None
        self.job_id = ""
        self.fail_count = 0
        self.failure_reason: str | None = None
        self.job_hash = self.get_hash()

    def get_hash(self) -> str:
        return job_hash(self.job_task_list, self.resources)

    def serialize(self, if_static: bool = False) -> dict[str, Any]:
        """A mapping with one entry, whose key is the hash; `if_static`: without how far it has come."""
        static = {
            "job_task_list": [task.serialize() for task in self.job_task_list],
            "resources": self.resources.serialize(),
        }
        if if_static:
            return {self.job_hash: static}
        now = {"job_state": self.job_state, "job_id": self.job_id, "fail_count": self.fail_count}
        return {self.job_hash: {**static, **now, "failure_reason": self.failure_reason}}

    @classmethod
    def deserialize(cls, job_dict: Mapping[str, Any], machine: Machine | None = None) -> Job:
        """From `serialize`. Raises DescriptionError."""
        if len(job_dict) != 1:
            raise InconsistentError(f"expected one job, not {len(job_dict)}", where="job")
        (entry,) = job_dict.values()
        tasks = [Task.load_from_dict(task) for task in entry["job_task_list"]]
        job = cls(job_task_list=tasks, resources=Resources.load_from_dict(entry["resources"]), machine=machine)
        state = entry.get("job_state")
        job.job_state = None if state is None else JobState(state)
        job.job_id, job.fail_count = entry.get("job_id", ""), entry.get("fail_count", 0)
        job.failure_reason = entry.get("failure_reason")
        return job

    @property
    def script_file_name(self) -> str:
        return f".{self.job_hash}.sub"

    def of_submission(self) -> Owner:
        """The submission that has this job. RuntimeError when there is none."""
        bound = self.submission or (self.machine.context.submission if self.machine is not None else None)
        if not isinstance(bound, Owner) or not bound.has_job(self.job_hash):
            raise RuntimeError(f"job {self.job_hash} is of no submission; `Submission.generate_jobs` makes jobs")
        return bound

    def _bound_machine(self) -> Machine:
        if self.machine is None:
            remedy = "bind one: submission.bind_machine(machine)"
            raise DescriptionError("needs a machine", where=f"job {self.job_hash}", remedy=remedy)
        self.machine.context.bind_submission(self.of_submission())
        return self.machine

    def submit_job(self) -> None:
        """Hand the job over, unless it is placed already. Raises SubmitRefusedError, QueueFullError, MachineBusyError."""
        self._bound_machine().do_submit(self)

    def get_job_state(self) -> None:
        """Ask the batch system where the job is."""
        self._bound_machine().check_status(self)

    def handle_unexpected_job_state(self, *, continue_on_failure: bool = False) -> None:
        """Place the job again when it ended badly and has retries left; RuntimeError when it has failed for good."""
        if self.job_state is JobState.failed and not continue_on_failure:
            raise RuntimeError(
                f"job {self.job_hash} {self.job_id} failed {self.fail_count} times: {self.failure_reason}"
            )
        if self.job_state in (None, JobState.unsubmitted, JobState.terminated):
            self.submit_job()

    def register_job_id(self, job_id: str | int) -> None:
        """Note the id here; `submit_job` does it by itself."""
        self.job_id = str(job_id)

    def get_last_error_message(self) -> str | None:
        """The last words of the task that failed."""
        return self._bound_machine().get_job_error(self)

    def get_scheduler_name(self, max_length: int, *, require_alpha_prefix: bool = False) -> str | None:
        """What the batch system shows: of a job with one task that has a `task_name`."""
        name = self.job_task_list[0].task_name if len(self.job_task_list) == 1 else None
        return job_name(name, self.job_hash, max_length, "j-" if require_alpha_prefix else "") or None

    def job_to_json(self) -> None:
        """Write the job as `<hash>_job.json` into the submission's folder on the machine."""
        context = self._bound_machine().context
        context.write_file(f"{self.job_hash}_job.json", json.dumps(self.serialize(), indent=2))

    def follow(self, job: BatchJob) -> None:
        """Take over what is known of the job."""
        self.job_state = job.state
        self.job_id = job.id
        self.fail_count = job.failures
        self.failure_reason = job.reason or None

    def _compared(self) -> Any:
        return self.serialize(if_static=True)
