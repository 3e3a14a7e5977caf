"""DPDispatcher's Job on top of ours; see described.py."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from ...description.identity import job_hash
from ...description.schema import DescriptionError
from ...job.states import JobState
from ...machines.dialect import job_name
from ...submission.state import Job as Placed
from .described import Described, Resources, Task
from .machine import Machine

if TYPE_CHECKING:
    from .submission import Submission


class Job(Described):
    """One batch job of a submission, as far as it has come."""

    def __init__(self, job_task_list: Iterable[Task], *, resources: Resources, machine: Machine | None = None) -> None:
        self.job_task_list = list(job_task_list)
        self.resources = resources
        self.machine = machine
        self.submission: Submission | None = None
        self.job_state: JobState | None = None
        self.job_id = ""
        self.fail_count = 0
        self.failure_reason: str | None = None
        self.job_hash = self.get_hash()

    def get_hash(self) -> str:
        return job_hash([task.values for task in self.job_task_list], self.resources.values)

    def serialize(self, if_static: bool = False) -> dict[str, Any]:
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
        """From `serialize`; the one entry of the mapping is the job's hash."""
        ((_, entry),) = job_dict.items()
        tasks = [Task.load_from_dict(task) for task in entry["job_task_list"]]
        made = cls(job_task_list=tasks, resources=Resources.load_from_dict(entry["resources"]), machine=machine)
        state = entry.get("job_state")
        made.job_state = None if state is None else JobState(state)
        made.job_id, made.fail_count = entry.get("job_id", ""), entry.get("fail_count", 0)
        made.failure_reason = entry.get("failure_reason")
        return made

    @property
    def script_file_name(self) -> str:
        return f".{self.job_hash}.sub"

    def of_submission(self) -> Submission:
        """The submission that has this job. RuntimeError when there is none."""
        bound = self.submission or (self.machine.context.submission if self.machine is not None else None)
        if bound is None or self.job_hash not in {job.job_hash for job in bound.belonging_jobs}:
            raise RuntimeError(f"job {self.job_hash} is of no submission; `Submission.generate_jobs` makes jobs")
        return bound

    def _at(self) -> Machine:
        machine = self.machine or self.of_submission().machine
        if machine is None:
            remedy = "bind one: submission.bind_machine(machine)"
            raise DescriptionError("needs a machine", where=f"job {self.job_hash}", remedy=remedy)
        machine.context.bind_submission(self.of_submission())
        return machine

    def submit_job(self) -> None:
        """Hand the job over, unless it is placed already."""
        self._at().do_submit(self)

    def get_job_state(self) -> None:
        """Ask the batch system where the job is."""
        self._at().check_status(self)

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
        return self._at().get_job_error(self)

    def get_scheduler_name(self, max_length: int, *, require_alpha_prefix: bool = False) -> str | None:
        """What the batch system shows: of a job with one task that has a `task_name`."""
        name = self.job_task_list[0].task_name if len(self.job_task_list) == 1 else None
        return job_name(name, self.job_hash, max_length, "j-" if require_alpha_prefix else "") or None

    def job_to_json(self) -> None:
        """Write the job as `<hash>_job.json` into the submission's folder on the machine."""
        self._at().context.write_file(f"{self.job_hash}_job.json", json.dumps(self.serialize(), indent=2))

    def follow(self, placed: Placed) -> None:
        """Take over what is known of the job."""
        self.job_state = placed.state
        self.job_id = placed.id
        self.fail_count = placed.failures
        self.failure_reason = placed.reason or None
