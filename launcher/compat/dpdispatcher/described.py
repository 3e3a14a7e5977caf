"""DPDispatcher's public classes on top of ours: a script written for it runs after changing its import.

Machine, Resources, Task, Submission and Job keep their names, arguments and methods; docs/launcher.md tells what differs. One
failing job never ends the watch over the others, the caller's random generator is not touched, records hold no secrets.
"""

from __future__ import annotations

import json
import os
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

from ...description import files as loading
from ...description import parse as description
from ...description import schema
from ...description.identity import task_hash
from ...description.parse import PilotDescription
from ...description.resources import Resources as ResourceValues
from ...description.task import Task as TaskValues
from ...job.script import TASK_TAG
from ...job.states import JobState
from .arguments import Arguments

if TYPE_CHECKING:
    from .context import BoundContext

_Made = TypeVar("_Made", bound="Loadable")

JobStatus = JobState
"""Its name there."""


class Described(ABC):
    """What can be written as a mapping and compared; its keys may be assigned to."""

    _keys: ClassVar[frozenset[str]] = frozenset()

    @abstractmethod
    def serialize(self) -> dict[str, Any]:
        """As in a file."""

    def _changed(self, name: str, value: Any) -> None:
        """Take over a new value of one of `_keys`, checked as when it was loaded."""
        raise AttributeError(f"{type(self).__name__}.{name} cannot be assigned to")

    def __setattr__(self, name: str, value: Any) -> None:
        if name in self._keys:
            self._changed(name, value)
        else:
            object.__setattr__(self, name, value)

    def __getitem__(self, key: str) -> Any:
        return self.serialize()[key]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Described) and json.dumps(self.serialize()) == json.dumps(other.serialize())

    def __hash__(self) -> int:
        return hash(json.dumps(self.serialize()))

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.serialize()})"


class Loadable(Described):
    """What has a form in files."""

    @classmethod
    @abstractmethod
    def _load(cls: type[_Made], found: Mapping[str, Any], allow_ref: bool) -> _Made:
        """`allow_ref`: `$ref` may name other files."""

    # The manuals call one thing by several names: a file is `json_file` of one class and `json_path` of another.

    @classmethod
    def load_from_json(
        cls: type[_Made],
        json_file: str | Path | None = None,
        allow_ref: bool = False,
        *,
        json_path: str | Path | None = None,
    ) -> _Made:
        return cls._load(loading.load(_one("json_file", json_file, json_path), allow_ref=allow_ref), False)

    @classmethod
    def load_from_yaml(
        cls: type[_Made],
        yaml_file: str | Path | None = None,
        allow_ref: bool = False,
        *,
        yaml_path: str | Path | None = None,
    ) -> _Made:
        return cls._load(loading.load(_one("yaml_file", yaml_file, yaml_path), allow_ref=allow_ref), False)


def _one(name: str, first: str | Path | None, second: str | Path | None) -> str | Path:
    given = first if first is not None else second
    if given is None or (first is not None and second is not None):
        raise TypeError(f"expected one file; write {name}=...")
    return given


def referred(found: Mapping[str, Any], allow_ref: bool) -> dict[str, Any]:
    """With each `$ref` replaced; its file is looked for in the current folder."""
    given: dict[str, Any] = loading.refer(dict(found), Path(), allow_ref, "load_from_dict")
    return given


def _listed(names: Iterable[str]) -> Any:
    """A list; but not of the letters of a single name, which is refused later."""
    return names if isinstance(names, str) else list(names)


class Task(Loadable):
    """A shell command in a folder. Arguments as the keys of a task file."""

    _keys = frozenset(key.name for key in schema.TASK)
    task_state = JobState.unsubmitted

    def __init__(
        self,
        command: str,
        task_work_path: str | os.PathLike[str],
        forward_files: Iterable[str] = (),
        backward_files: Iterable[str] = (),
        outlog: str | None = "log",
        errlog: str | None = "err",
        task_name: str | None = None,
        **more: Any,
    ) -> None:
        given = {
            "command": command,
            "task_work_path": os.fspath(task_work_path) if isinstance(task_work_path, os.PathLike) else task_work_path,
            "forward_files": _listed(forward_files),
            "backward_files": _listed(backward_files),
            "outlog": outlog,
            "errlog": errlog,
            "task_name": task_name,
            **more,
        }
        self.values: TaskValues = description.parse_task(given)

    @classmethod
    def load_from_dict(cls, task_dict: Mapping[str, Any], allow_ref: bool = False) -> Task:
        """`allow_ref`: `$ref` may name other files."""
        return cls._load(task_dict, allow_ref)

    @classmethod
    def deserialize(cls, task_dict: Mapping[str, Any]) -> Task:
        return cls._load(task_dict, False)

    @classmethod
    def _load(cls, found: Mapping[str, Any], allow_ref: bool) -> Task:
        made = object.__new__(cls)
        made.values = description.parse_task(referred(found, allow_ref))
        return made

    def serialize(self) -> dict[str, Any]:
        return description.task_to_dict(self.values)

    def _changed(self, name: str, value: Any) -> None:
        self.values = description.parse_task(self.serialize() | {name: value})

    @staticmethod
    def arginfo() -> Arguments:
        return Arguments("task", schema.TASK, lambda given: Task.load_from_dict(given).serialize())

    def has_finished_tag(self, context: BoundContext) -> bool:
        """Whether the task's tag is in its folder on the machine."""
        return context.check_file_exists(self.values.path(self.task_hash + TASK_TAG))

    def get_task_state(self, context: BoundContext) -> None:
        """Make `task_state` finished when the tag is there."""
        if self.has_finished_tag(context):
            self.task_state = JobState.finished

    @property
    def task_hash(self) -> str:
        return task_hash(self.values)

    def get_hash(self) -> str:
        return self.task_hash

    def __getattr__(self, name: str) -> Any:
        """`task.command` and the like."""
        value = getattr(object.__getattribute__(self, "values"), name)
        return list(value) if isinstance(value, tuple) else value


class Pilot(Loadable):
    """How pilots run the tasks of a submission; ours. Arguments as the keys of `pilot` in a submission file, all optional."""

    def __init__(self, **given: Any) -> None:
        self.values: PilotDescription = description.parse_pilot(given)

    @classmethod
    def load_from_dict(cls, pilot_dict: Mapping[str, Any], allow_ref: bool = False) -> Pilot:
        return cls._load(pilot_dict, allow_ref)

    @classmethod
    def deserialize(cls, pilot_dict: Mapping[str, Any]) -> Pilot:
        return cls._load(pilot_dict, False)

    @classmethod
    def _load(cls, found: Mapping[str, Any], allow_ref: bool) -> Pilot:
        return cls(**referred(found, allow_ref))

    def serialize(self) -> dict[str, Any]:
        return description.pilot_to_dict(self.values)


class Resources(Loadable):
    """What one job asks for. Arguments as the keys of a resources file; others go into `kwargs`."""

    _keys = frozenset(key.name for key in schema.RESOURCES)

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
    def load_from_dict(cls, resources_dict: Mapping[str, Any], allow_ref: bool = False) -> Resources:
        """`allow_ref`: `$ref` may name other files."""
        return cls._load(resources_dict, allow_ref)

    @classmethod
    def deserialize(cls, resources_dict: Mapping[str, Any]) -> Resources:
        return cls._load(resources_dict, False)

    @classmethod
    def _load(cls, found: Mapping[str, Any], allow_ref: bool) -> Resources:
        made = cls()
        made.values = description.parse_resources(referred(found, allow_ref))
        return made

    def serialize(self) -> dict[str, Any]:
        return description.resources_to_dict(self.values)

    def _changed(self, name: str, value: Any) -> None:
        self.values = description.parse_resources(self.serialize() | {name: value})

    @staticmethod
    def arginfo(detail_kwargs: bool = True) -> Arguments:
        return Arguments("resources", schema.RESOURCES, lambda given: Resources.load_from_dict(given).serialize())

    def __getattr__(self, name: str) -> Any:
        value = getattr(object.__getattribute__(self, "values"), name)
        return list(value) if isinstance(value, tuple) else value
