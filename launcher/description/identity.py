"""Hashes that name tasks, jobs and submissions. Those of tasks and jobs are DPDispatcher's, bit for bit."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from . import schema
from .digests import digest
from .machine import machine_to_dict
from .resources import Resources
from .submission import SubmissionDescription
from .task import Task


def job_hash(tasks: Sequence[Task], resources: Resources) -> str:
    """Of the tasks in the job's order and what the job asks for; independent of machine and submission."""
    return digest({"job_task_list": [task.serialize() for task in tasks], "resources": resources.serialize()})


_WHERE = ("hostname", "username", "port", "email", "phone", "program_id", "project_id")
"""Keys of a profile that decide which machine it is, and who we are there."""


def submission_hash(submission: SubmissionDescription, local_work: str) -> str:
    """Of everything that decides where the work is and what it is: not of secrets, retries, or how one logs in.

    `local_work` is the absolute local folder of the tasks. DPDispatcher's own submission hash has passwords, the current
    folder and the retry policy in it, so a submission of DPDispatcher is continued by its record, not by equal hashes.
    """
    machine = machine_to_dict(submission.machine)
    profile = machine.pop("remote_profile")
    where = {name: profile[name] for name in _WHERE if profile.get(name) is not None}
    for name in ("retry_count", "clean_asynchronously", "create_remote_root", "local_root"):
        machine.pop(name, None)
    written = {
        "local_work": local_work,
        "machine": machine | where,
        "resources": _sorted(submission.resources.serialize()),
        "forward_common_files": sorted(submission.forward_common_files),
        "backward_common_files": sorted(submission.backward_common_files),
        "tasks": [task.serialize() for task in submission.tasks],
    }
    if submission.pilot is not None:
        written["pilot"] = {name: value for name, value in submission.pilot.serialize().items() if name in _PILOT}
    return digest(written)


_PILOT = frozenset(key.name for key in schema.PILOT) - {"max_allocations", "bootstrap", "wheelhouse", "python"}


def _sorted(value: Any) -> Any:
    """The same with all keys in order: how a user sorts them does not make another submission."""
    return {name: _sorted(value[name]) for name in sorted(value)} if isinstance(value, dict) else value
