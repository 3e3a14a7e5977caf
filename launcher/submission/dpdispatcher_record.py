"""DPDispatcher's record `<hash>.json`, without secrets."""

from __future__ import annotations

import json
from typing import Any

from ..description.machine import machine_to_dict
from ..job.states import JobState
from .batch_job import BatchJob
from .state import Progress
from .store import Record
from .work import Work


def text(record: Record, work: Work, progress: Progress) -> bytes:
    """The file."""
    return json.dumps(build(record, work, progress), indent=4).encode()


def build(record: Record, work: Work, progress: Progress) -> dict[str, Any]:
    """What stands in it."""
    description = record.description
    resources = description.resources.serialize()
    return {
        "work_base": description.work_base,
        "_abs_work_base": str(record.local_work),
        "machine": machine_to_dict(description.machine),
        "resources": resources,
        "forward_common_files": sorted(description.forward_common_files),
        "backward_common_files": sorted(description.backward_common_files),
        "continue_on_failure": description.continue_on_failure,
        "belonging_jobs": [
            {
                job.hash: {
                    "job_task_list": [work.tasks[name].serialize() for name in job.tasks],
                    "resources": resources,
                    "job_state": int(job.state),
                    "job_id": job.id,
                    "fail_count": job.failures,
                    "failure_reason": job.reason or None,
                    "task_states": [int(task_state(job, name)) for name in job.tasks],
                }
            }
            for job in progress.jobs.values()
        ],
        "previous_submission_hash": description.previous_submission_hash,
    } | ({} if description.pilot is None else {"pilot": description.pilot.serialize()})


def task_state(job: BatchJob, name: str) -> JobState:
    """A task's state: its own end when it is known, else its job's."""
    result = job.results.get(name)
    if result is None:
        return job.state
    return JobState.finished if result.exit_code == 0 else JobState.failed if job.phase.final else JobState.terminated
