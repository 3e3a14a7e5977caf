"""A task as DPDispatcher describes it: a shell command in a folder, with files that go there and come back."""

from __future__ import annotations

import os
import posixpath
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from . import arguments, schema
from .digests import digest
from .job_state import JobState
from .schema import DescriptionError
from .units import mebibytes, seconds
from .written import Written, listed

TASK_TAG = "_task_tag_finished"
"""End of the name of the file that a task leaves in its folder when it has ended well."""

_DRIVE = re.compile(r"[A-Za-z]:")


class FileLookup(Protocol):
    """Whatever can look for a file in a submission's folder on its machine."""

    def check_file_exists(self, fname: str) -> bool: ...


@dataclass(eq=False, repr=False, init=False)
class Task(Written):
    """One command to run in one folder.

    Its hash is DPDispatcher's, bit for bit: of its keys as they were written, in its order, ours only when they are set.

    Attributes:
        command: shell text, taken as it is.
        task_work_path: folder below `work_base`; made when it is missing.
        forward_files: patterns (recursive globs) below the folder that are brought to the machine.
        backward_files: patterns below the folder that are brought back.
        outlog, errlog: names for standard output and error below the folder; None: not kept.
        task_name: what the batch system shows when the job has this task only.
        resources: for a task of a pilot: `cores`, `nodes`, `gpus`, `memory`, `named`, `wt` (see docs); None elsewhere.
        dependencies: for a task of a pilot: names of tasks that must have succeeded before.
        iteration: for a task of a pilot: `{"start", "stop"}` or `{"values"}`.
        retries: for a task of a pilot: how often it is started again when it failed.
        task_state: where it is, as far as its submission has found out; no part of the description.
    """

    command: str
    task_work_path: str
    forward_files: list[str]
    backward_files: list[str]
    outlog: str | None
    errlog: str | None
    task_name: str | None
    resources: dict[str, Any] | None
    dependencies: list[str]
    iteration: dict[str, Any] | None
    retries: int

    def __init__(
        self,
        command: str,
        task_work_path: str | os.PathLike[str],
        forward_files: Iterable[str | os.PathLike[str]] | None = None,
        backward_files: Iterable[str | os.PathLike[str]] | None = None,
        outlog: str | os.PathLike[str] | None = "log",
        errlog: str | os.PathLike[str] | None = "err",
        task_name: str | None = None,
        *,
        resources: dict[str, Any] | None = None,
        dependencies: Iterable[str] | None = None,
        iteration: dict[str, Any] | None = None,
        retries: int = 0,
    ) -> None:
        self.command, self.task_name = command, task_name
        self.task_work_path = _text(task_work_path)
        self.forward_files, self.backward_files = listed(forward_files), listed(backward_files)
        self.outlog = None if outlog is None else _text(outlog)
        self.errlog = None if errlog is None else _text(errlog)
        self.resources, self.dependencies = resources, listed(dependencies)
        self.iteration, self.retries = iteration, retries
        self.task_state = JobState.unsubmitted
        self.check()

    def check(self, where: str = "task") -> None:
        """Raises DescriptionError for a key that has no allowed value; `where` is the place of the task."""
        schema.check_values(schema.TASK, vars(self), where)
        for key, patterns in (("forward_files", self.forward_files), ("backward_files", self.backward_files)):
            for number, pattern in enumerate(patterns):
                check_path(pattern, where, f"{key}[{number}]")
        for key, name in (("outlog", self.outlog), ("errlog", self.errlog)):
            if name is not None:
                check_path(name, where, key, globs=False)
        if self.resources is not None:
            self.resources = _pilot_resources(self.resources, f"{where}.resources")

    @classmethod
    def load_from_dict(cls, task_dict: Mapping[str, Any], allow_ref: bool = False) -> Task:
        """`allow_ref`: `$ref` may name other files. Raises DescriptionError."""
        return cls._load(task_dict, allow_ref)

    @classmethod
    def deserialize(cls, task_dict: Mapping[str, Any]) -> Task:
        """From `serialize`. Raises DescriptionError."""
        return cls._parse(task_dict)

    @classmethod
    def _parse(cls, mapping: Any) -> Task:
        return cls.at("task", mapping)

    @classmethod
    def at(cls, where: str, mapping: Any) -> Task:
        """The task that a mapping at the place `where` describes. Raises DescriptionError."""
        try:
            return cls(**schema.arguments(schema.TASK, mapping, "task"))
        except DescriptionError as error:
            raise error.below("task", where) from None

    def serialize(self) -> dict[str, Any]:
        """DPDispatcher's keys in its order; `task_name` and ours when set."""
        written: dict[str, Any] = {
            "command": self.command,
            "task_work_path": self.task_work_path,
            "forward_files": list(self.forward_files),
            "backward_files": list(self.backward_files),
            "outlog": self.outlog,
            "errlog": self.errlog,
        }
        if self.task_name is not None:
            written["task_name"] = self.task_name
        if self.resources is not None:
            written["resources"] = self.resources
        if self.dependencies:
            written["dependencies"] = list(self.dependencies)
        if self.iteration is not None:
            written["iteration"] = self.iteration
        if self.retries:
            written["retries"] = self.retries
        return written

    @staticmethod
    def arginfo() -> Any:
        """The keys of a task: as text, to check a mapping, or as a part of a `dargs` tree."""
        return arguments.tree(arguments.TASK, lambda mapping: Task.load_from_dict(mapping).serialize())

    # --- what it is known by ------------------------------------------------------------------------------------------

    @property
    def task_hash(self) -> str:
        return digest(self.serialize())

    def get_hash(self) -> str:
        return self.task_hash

    @property
    def folder(self) -> str:
        """`task_work_path` in its one spelling: `a/b`, and `.` for the root.

        Paths are made and compared with this; hashes are made of what was written.
        """
        return posixpath.normpath(self.task_work_path)

    def path(self, name: str) -> str:
        """A file of this task, below the root."""
        return posixpath.normpath(posixpath.join(self.folder, name))

    # --- how far it is ------------------------------------------------------------------------------------------------

    def has_finished_tag(self, context: FileLookup) -> bool:
        """Whether the task's tag is in its folder on the machine."""
        return context.check_file_exists(self.path(self.task_hash + TASK_TAG))

    def get_task_state(self, context: FileLookup) -> None:
        """Make `task_state` finished when the tag is there."""
        if self.has_finished_tag(context):
            self.task_state = JobState.finished


def _text(path: str | os.PathLike[str]) -> str:
    return os.fspath(path) if isinstance(path, os.PathLike) else path


def _pilot_resources(given: dict[str, Any], where: str) -> dict[str, Any]:
    """Only what was given; times in seconds, memory in MiB."""
    known = schema.check(schema.TASK_RESOURCES, given, where)
    known = {name: value for name, value in known.items() if name in given and value is not None}
    if "memory" in known:
        known["memory"] = mebibytes(known["memory"], f"{where}.memory")
    if known.get("gpus"):
        _check_amounts({"gpu": known["gpus"]}, f"{where}.gpus", "")
    if "named" in known:
        _check_amounts(known["named"], f"{where}.named", f"{where}.named.")
    for name in {"wt", "min_time"} & known.keys():
        known[name] = seconds(known[name], f"{where}.{name}")
    return known


def _check_amounts(amounts: dict[str, Any], where: str, below: str) -> None:
    """Whether a pilot would take them. Raises DescriptionError."""
    from ...pilot.model.errors import InvalidJobError
    from ...pilot.model.resources import GPU, is_resource_name
    from ...pilot.wire.describe_resources import describe_resources

    for name, amount in amounts.items():
        place = f"{below}{name}" if below else where
        if below and not is_resource_name(name):
            raise DescriptionError("this is not a named resource", where=place, remedy="small letters, digits and _")
        try:
            describe_resources({name if below else GPU: amount}, place)
        except InvalidJobError as error:
            raise DescriptionError(error.what, where=place, remedy=error.remedy) from None


def check_path(
    path: str, where: str, key: str, *, globs: bool = True, absolute: bool = False, beside: bool = False
) -> None:
    """Refuse a path that leads out of its folder, unless it may be `absolute`, or `beside` the folder.

    A backslash counts as a slash. `where` and `key` are the place that the error names.
    """
    if path.isalnum():
        return
    plain = path.replace("\\", "/")
    wrong = ""
    if "\0" in plain:
        wrong = "a NUL is not allowed"
    elif not absolute and (plain.startswith("/") or _DRIVE.match(plain)):
        wrong = "absolute paths are not allowed in staging entries"
    elif not beside and not (absolute and plain.startswith("/")) and ".." in plain.split("/"):
        wrong = "parent-directory traversal is not allowed"
    elif not globs and any(sign in plain for sign in "*?["):
        wrong = "glob patterns are not allowed here"
    if wrong:
        place = f"{where}.{key}" if where else key
        raise DescriptionError(f"{wrong}: {path}", where=place, remedy="write a path below the folder it belongs to")
