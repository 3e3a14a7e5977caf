"""`scontrol update JobId=…`: labels at any time; the rest while the job waits here and the pilot does not have it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from ....pilot.model.errors import UsageError
from ...machines import slurm_facts
from . import dependencies, moments
from .arrays import Array
from .desk import Answer, Desk
from .errors import Refusal
from .jobs import Job

_LABELS = {
    "jobname": "name",
    "name": "name",
    "comment": "comment",
    "account": "account",
    "qos": "qos",
    "wckey": "wckey",
}


def apply(desk: Desk, jobs: Sequence[Job], facts: Mapping[str, str]) -> Answer:
    """All of `facts` for all jobs, or none."""
    labels: dict[str, Any] = {_LABELS[name]: value for name, value in facts.items() if name in _LABELS}
    others = {name: value for name, value in facts.items() if name not in _LABELS}
    changes = _changes(desk, others)
    for job in jobs:
        if job.is_over:
            raise Refusal(f"Job has already finished for job {job.label}")
        if others and (job.pilot_name or job.state != "PENDING"):
            raise Refusal(f"Requested operation is presently disabled for job {job.label}")
    for job in jobs:
        changed = dict(changes)
        if "array" in changed:
            array = job.request.array
            changed["array"] = None if array is None else Array(array.indices, changed["array"])
        job.request = replace(job.request, **labels, **changed)
        job.dependency = job.request.dependency
    desk.queue.changed = True
    return Answer()


def _changes(desk: Desk, facts: Mapping[str, str]) -> dict[str, Any]:
    """By the names of Request. Raises Refusal for what a pilot does not change."""
    found: dict[str, Any] = {}
    for name, value in facts.items():
        try:
            if name == "timelimit":
                found["time_limit"] = slurm_facts.minutes(value)
            elif name == "starttime":
                found["begin"] = moments.parse(value, desk.now())
            elif name == "dependency":
                found["dependency"] = dependencies.parse(value) if value else dependencies.NONE
            elif name in ("nice", "priority"):
                found[name] = int(value)
            elif name == "arraytaskthrottle":
                found["array"] = int(value)
            else:
                raise Refusal(f"Update of this parameter is not supported: {name}={value}\nRequest aborted")
        except (UsageError, ValueError):
            raise Refusal(f"Invalid value: {name}={value}\nRequest aborted") from None
    return found
