"""DPDispatcher's public classes on top of ours: a script written for it runs after changing its import.

Machine, Resources, Task, Submission and Job keep their names, arguments and methods; docs/launcher.md tells what differs. One
failing job never ends the watch over the others, the caller's random generator is not touched, records hold no secrets.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from . import description, loading, schema
from .contexts.base import Context
from .contexts.build import build_context
from .description import MachineDescription
from .identity import task_hash
from .machines.base import Machine as BatchSystem
from .machines.names import build_machine
from .resources import Resources as ResourceValues
from .task import Task as TaskValues

_Made = TypeVar("_Made", bound="Described")


class Described:
    """What can be loaded from a mapping or a file, compared and written back."""

    def serialize(self) -> dict[str, Any]:
        raise NotImplementedError

    @classmethod
    def load_from_dict(cls: type[_Made], found: Mapping[str, Any], allow_ref: bool = False) -> _Made:
        raise NotImplementedError

    @classmethod
    def load_from_json(cls: type[_Made], path: str | Path, allow_ref: bool = False) -> _Made:
        return cls.load_from_dict(loading.load(path, allow_ref=allow_ref))

    @classmethod
    def load_from_yaml(cls: type[_Made], path: str | Path, allow_ref: bool = False) -> _Made:
        return cls.load_from_dict(loading.load(path, allow_ref=allow_ref))

    @classmethod
    def deserialize(cls: type[_Made], found: Mapping[str, Any]) -> _Made:
        return cls.load_from_dict(found)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Described) and json.dumps(self.serialize()) == json.dumps(other.serialize())

    def __hash__(self) -> int:
        return hash(json.dumps(self.serialize()))

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.serialize()})"


def _referred(found: Mapping[str, Any], allow_ref: bool) -> dict[str, Any]:
    """With each `$ref` replaced; its file is looked for in the current folder."""
    given: dict[str, Any] = loading.refer(dict(found), Path(), allow_ref, "load_from_dict")
    return given


def _listed(names: Iterable[str]) -> Any:
    """A list; but not of the letters of a single name, which is refused later."""
    return names if isinstance(names, str) else list(names)


class Task(Described):
    """A shell command in a folder. Arguments as the keys of a task file."""

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
    def load_from_dict(cls, found: Mapping[str, Any], allow_ref: bool = False) -> Task:
        made = object.__new__(cls)
        made.values = description.parse_task(_referred(found, allow_ref))
        return made

    def serialize(self) -> dict[str, Any]:
        return description.task_to_dict(self.values)

    @property
    def task_hash(self) -> str:
        return task_hash(self.values)

    def get_hash(self) -> str:
        return self.task_hash

    def __getattr__(self, name: str) -> Any:
        """`task.command` and the like."""
        value = getattr(object.__getattribute__(self, "values"), name)
        return list(value) if isinstance(value, tuple) else value


class Resources(Described):
    """What one job asks for. Arguments as the keys of a resources file; others go into `kwargs`."""

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
    def load_from_dict(cls, found: Mapping[str, Any], allow_ref: bool = False) -> Resources:
        made = cls()
        made.values = description.parse_resources(_referred(found, allow_ref))
        return made

    def serialize(self) -> dict[str, Any]:
        return description.resources_to_dict(self.values)

    def __getattr__(self, name: str) -> Any:
        value = getattr(object.__getattribute__(self, "values"), name)
        return list(value) if isinstance(value, tuple) else value


class Machine(Described):
    """A batch system and the way to it: `Machine(batch_type=..., context_type=..., local_root=..., ...)`."""

    options = set(description.MACHINES)
    _batch_type: str | None = None

    def __init__(
        self,
        *,
        batch_type: str | None = None,
        context_type: str | None = None,
        local_root: str | None = None,
        remote_root: str | None = None,
        remote_profile: Mapping[str, Any] | None = None,
        **more: Any,
    ) -> None:
        given = {
            "batch_type": batch_type or self._batch_type,
            "context_type": context_type,
            "local_root": local_root,
            "remote_root": remote_root,
            "remote_profile": dict(remote_profile or {}),
            **more,
        }
        self.values: MachineDescription = description.parse_machine(given)

    @classmethod
    def load_from_dict(cls, found: Mapping[str, Any], allow_ref: bool = False) -> Machine:
        made = object.__new__(cls)
        made.values = description.parse_machine(_referred(found, allow_ref))
        return made

    def serialize(self, if_empty_remote_profile: bool = False) -> dict[str, Any]:
        found = description.machine_to_dict(self.values)
        return found | ({"remote_profile": {}} if if_empty_remote_profile else {})

    @property
    def context(self) -> Context:
        return build_context(self.values)

    @property
    def batch(self) -> BatchSystem:
        return build_machine(self.values.batch_type)

    def __getattr__(self, name: str) -> Any:
        return getattr(object.__getattribute__(self, "values"), "profile" if name == "remote_profile" else name)


def _named(batch_type: str) -> type[Machine]:
    return type(
        batch_type, (Machine,), {"_batch_type": batch_type, "__doc__": f"A Machine with batch_type {batch_type}."}
    )


SUBCLASSES: dict[str, type[Machine]] = {name: _named(name) for name in description.MACHINES}
"""`Slurm(context_type=..., ...)` and the like."""
