"""The keys of machines, resources, tasks and submissions, as trees of dargs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ...description import arguments, schema
from ...description.resources import Resources
from ...description.submission import parse_submission
from ...description.task import Task
from ...submission.machine import Machine

resources_dargs = Resources.arginfo
machine_dargs = Machine.arginfo
task_dargs = Task.arginfo


def submission_args() -> Any:
    """The keys of a submission file."""
    made = arguments.tree(arguments.Branch("submission", schema.SUBMISSION), _checked)
    if hasattr(made, "sub_fields"):  # of dargs
        parts = {
            "machine": machine_dargs(),
            "resources": resources_dargs(detail_kwargs=False),
            "task_list": task_dargs(),
        }
        for name, part in parts.items():
            part.name = name
            made.sub_fields[name] = part
        parts["task_list"].repeat, parts["task_list"].dtype = True, (list,)
    return made


def _checked(mapping: Mapping[str, Any]) -> dict[str, Any]:
    parse_submission(mapping)
    return dict(mapping)
