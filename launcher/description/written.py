"""What users write in Python or in a file: one base for Task, Resources, Pilot and Machine.

They are plain objects: their attributes may be assigned to and their lists extended. The constructor checks them, and so does a
submission when it makes its jobs, is hashed or run. There is no check in between: a list that is appended to cannot be watched,
and whoever assigns two keys that belong together would be refused at the first. What is checked becomes part of a
SubmissionDescription, which nobody changes.
"""

from __future__ import annotations

import json
import os
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from . import files

_Written = TypeVar("_Written", bound="Written")


class Serialized(ABC):
    """Something that can be written as a mapping, by whose keys it is read, and which says what is equal."""

    @abstractmethod
    def serialize(self) -> dict[str, Any]:
        """The mapping."""

    def _compared(self) -> Any:
        """What is equal for equal ones."""
        return self.serialize()

    def __getitem__(self, key: str) -> Any:
        return self.serialize()[key]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, type(self)) and json.dumps(self._compared()) == json.dumps(other._compared())

    def __hash__(self) -> int:
        return hash(json.dumps(self._compared()))

    def __repr__(self) -> str:
        return str(self.serialize())


class Written(Serialized):
    """Something with a form in JSON, YAML and TOML files.

    The manuals call one parameter by several names: a file is `json_file` of one class and `json_path` of another, so both
    are taken.
    """

    @classmethod
    @abstractmethod
    def _parse(cls: type[_Written], mapping: Any) -> _Written:
        """From such a mapping. Raises DescriptionError."""

    @classmethod
    def load_from_json(
        cls: type[_Written],
        json_file: str | Path | None = None,
        allow_ref: bool = False,
        *,
        json_path: str | Path | None = None,
    ) -> _Written:
        """From a JSON file; `allow_ref`: it may take in other files by `$ref`. Raises DescriptionError."""
        return cls._parse(files.load(_one("json_file", json_file, json_path), allow_ref=allow_ref))

    @classmethod
    def load_from_yaml(
        cls: type[_Written],
        yaml_file: str | Path | None = None,
        allow_ref: bool = False,
        *,
        yaml_path: str | Path | None = None,
    ) -> _Written:
        """From a YAML file; `allow_ref`: it may take in other files by `$ref`. Raises DescriptionError."""
        return cls._parse(files.load(_one("yaml_file", yaml_file, yaml_path), allow_ref=allow_ref))

    @classmethod
    def _load(cls: type[_Written], mapping: Mapping[str, Any], allow_ref: bool = False) -> _Written:
        """From a mapping whose `$ref`s, if they are allowed, are looked for in the current folder."""
        return cls._parse(files.refer(dict(mapping), Path(), allow_ref, "load_from_dict"))


def listed(names: Iterable[str | os.PathLike[str]] | None) -> list[str]:
    """A list of its own; of a single text not that of its letters: the text itself, which the check refuses."""
    if names is None:
        return []
    if isinstance(names, str) or not isinstance(names, Iterable):
        return names  # type: ignore[return-value]
    return [os.fspath(name) if isinstance(name, os.PathLike) else name for name in names]


def _one(name: str, first: str | Path | None, second: str | Path | None) -> str | Path:
    path = first if first is not None else second
    if path is None or (first is not None and second is not None):
        raise TypeError(f"expected one file; write {name}=...")
    return path
