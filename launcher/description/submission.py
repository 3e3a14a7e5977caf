"""A whole submission as a value: what is run, where, and with what."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from . import files, schema, systems
from .machine import MachineDescription, machine_to_dict, parse_machine
from .pilot import Pilot
from .resources import Resources
from .schema import DescriptionError, InconsistentError, context_kind
from .task import Task, check_path

_HASH = re.compile(r"[0-9a-f]{40}")


@dataclass(frozen=True)
class SubmissionDescription:
    """A whole submission: tasks, machine, resources. Nobody changes the objects in it.

    Raises DescriptionError for a path that leads out of its folder.
    """

    work_base: str
    machine: MachineDescription
    resources: Resources
    tasks: tuple[Task, ...]
    forward_common_files: tuple[str, ...] = ()
    backward_common_files: tuple[str, ...] = ()
    previous_submission_hash: str | None = None
    continue_on_failure: bool = False
    pilot: Pilot | None = None

    def __post_init__(self) -> None:
        check_names(
            self.work_base, self.forward_common_files, self.backward_common_files, self.previous_submission_hash
        )
        # Without a batch system beside them nobody has looked at the keys that only one has.
        schema.check_kwargs(
            systems.known().keys(self.machine.batch_type).keys, self.resources.kwargs, "resources.kwargs"
        )
        schema.check_pair(self.machine.batch_type, self.machine.context_type, "machine")
        if self.pilot is not None and context_kind(self.machine.context_type).staged:
            what, remedy = f"no pilot can be put in place through {self.machine.context_type}", "leave `pilot` out"
            raise InconsistentError(what, where="pilot", remedy=remedy)
        if self.pilot is not None and self.pilot.service and self.tasks:
            what, remedy = (
                "a pilot that serves clients has no tasks of its own",
                "leave `service` out, or submit them to it",
            )
            raise InconsistentError(what, where="task_list", remedy=remedy)
        # Where the work is done in the folder itself nothing is staged, and tasks may be beside each other.
        beside = context_kind(self.machine.context_type).in_place
        for number, task in enumerate(self.tasks):
            check_path(task.task_work_path, f"task_list[{number}]", "task_work_path", beside=beside)


def parse_submission(mapping: Any) -> SubmissionDescription:
    """Raises DescriptionError."""
    given = schema.check(schema.SUBMISSION, mapping, "")
    resources = dict(given["resources"])
    pilot = None if given["pilot"] is None else Pilot.deserialize(given["pilot"])
    if pilot is not None:
        resources.setdefault("group_size", 0)
    return SubmissionDescription(
        work_base=given["work_base"],
        machine=parse_machine(given["machine"]),
        resources=Resources.deserialize(resources),
        tasks=tuple(Task.at(f"task_list[{number}]", each) for number, each in enumerate(given["task_list"])),
        forward_common_files=tuple(given["forward_common_files"]),
        backward_common_files=tuple(given["backward_common_files"]),
        previous_submission_hash=given["previous_submission_hash"],
        continue_on_failure=given["continue_on_failure"],
        pilot=pilot,
    )


def check_names(work_base: str, forward: Sequence[str], backward: Sequence[str], previous: str | None) -> None:
    """Raises DescriptionError for paths that lead out of the submission's folder, and for what is no hash of a submission."""
    check_path(work_base, "", "work_base", globs=False, absolute=True)
    for name, patterns in (("forward_common_files", forward), ("backward_common_files", backward)):
        for number, pattern in enumerate(patterns):
            check_path(pattern, "", f"{name}[{number}]")
    if previous is not None and not (isinstance(previous, str) and _HASH.fullmatch(previous)):
        raise DescriptionError(f"{previous!r} is not 40 hex digits", where="previous_submission_hash")


def submission_to_dict(description: SubmissionDescription) -> dict[str, Any]:
    """As a file of DPDispatcher's form, without secrets."""
    written: dict[str, Any] = {
        "work_base": description.work_base,
        "machine": machine_to_dict(description.machine),
        "resources": description.resources.serialize(),
        "forward_common_files": list(description.forward_common_files),
        "backward_common_files": list(description.backward_common_files),
        "continue_on_failure": description.continue_on_failure,
        "task_list": [task.serialize() for task in description.tasks],
    }
    if description.pilot is not None:
        written["pilot"] = description.pilot.serialize()
    return written


def load_submission(path: str | Path, *, allow_ref: bool = False) -> SubmissionDescription:
    """A whole submission; `machine` may be the name of one of your machine files. Raises DescriptionError."""
    mapping = files.load(path, allow_ref=allow_ref)
    if isinstance(mapping, Mapping) and isinstance(mapping.get("machine"), str):
        mapping = {**mapping, "machine": files.machine_by_name(mapping["machine"], Path(path).parent)}
    return parse_submission(mapping)
