"""Hashes that name tasks, jobs and submissions. Those of tasks and jobs are DPDispatcher's, bit for bit."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from typing import Any

from . import schema
from .parse import SubmissionDescription, machine_to_dict, pilot_to_dict, resources_to_dict, task_to_dict
from .resources import Resources
from .task import Task


def digest(value: Any) -> str:
    """sha1 of the value's JSON as Python writes it, keys in their order."""
    return hashlib.sha1(json.dumps(value).encode(), usedforsecurity=False).hexdigest()


def task_hash(task: Task) -> str:
    return digest(task_to_dict(task))


def job_hash(tasks: Sequence[Task], resources: Resources) -> str:
    """Of the tasks in the job's order and what the job asks for; independent of machine and submission."""
    return digest({"job_task_list": [task_to_dict(task) for task in tasks], "resources": resources_to_dict(resources)})


def submission_hash(submission: SubmissionDescription, local_work: str) -> str:
    """Of everything that decides where the work is and what it is: not of secrets, retries, or how one logs in.

    `local_work` is the absolute local folder of the tasks. DPDispatcher's own submission hash has passwords, the current
    folder and the retry policy in it, so a submission of it is gone on with by reading its record, not by equal hashes.
    """
    machine = machine_to_dict(submission.machine)
    profile = machine.pop("remote_profile")
    where = {name: profile[name] for name in ("hostname", "username", "port") if name in profile}
    for name in ("retry_count", "clean_asynchronously", "create_remote_root", "local_root"):
        machine.pop(name, None)
    written = {
        "local_work": local_work,
        "machine": machine | where,
        "resources": _sorted(resources_to_dict(submission.resources)),
        "forward_common_files": sorted(submission.forward_common_files),
        "backward_common_files": sorted(submission.backward_common_files),
        "tasks": [task_to_dict(task) for task in submission.tasks],
    }
    if submission.pilot is not None:
        written["pilot"] = {name: value for name, value in pilot_to_dict(submission.pilot).items() if name in _PILOT}
    return digest(written)


_PILOT = frozenset(key.name for key in schema.PILOT) - {"max_allocations", "bootstrap", "wheelhouse", "python"}


def _sorted(value: Any) -> Any:
    """The same with all keys in order: how a user sorts them does not make another submission."""
    return {name: _sorted(value[name]) for name in sorted(value)} if isinstance(value, dict) else value
