"""The JSON Schema of submission files, made from the table that checks them (`schema`), for editors and for programs.

A file that conforms may still be refused: what goes together is checked when it is loaded.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from . import schema
from .keys import REQUIRED, Key

_TYPES: dict[str, dict[str, Any]] = {
    "str": {"type": "string"},
    "int": {"type": "integer"},
    "float": {"type": "number"},
    "bool": {"type": "boolean"},
    "dict": {"type": "object"},
    "null": {"type": "null"},
}


def submission_schema(kwargs: Mapping[str, Sequence[Key]]) -> dict[str, Any]:
    """Of a submission file. `kwargs`: the keys of `resources.kwargs` by batch system."""
    tables: dict[str, dict[str, Any]] = {}
    of_kind: dict[str, list[dict[str, Any]]] = {"remote_profile": [], "resources.kwargs": []}
    sections: dict[str, list[Key]] = {}
    for section, key in schema.rows(kwargs):
        sections.setdefault(section, []).append(key)
    for section, keys in sections.items():
        place, _, kind = section.partition(" ")
        if kind:
            # Keys that are not known go to header templates, so these are not closed.
            of_kind[place].append({**_table(keys, kind), "additionalProperties": True})
        else:
            tables[section] = _table(keys)
    _fill(tables["machine"], "remote_profile", {"anyOf": of_kind["remote_profile"]})
    _fill(tables["resources"], "strategy", tables["resources.strategy"])
    _fill(tables["resources"], "kwargs", {"anyOf": of_kind["resources.kwargs"]})
    _fill(tables["task"], "resources", _or_null(tables["task.resources"]))
    whole = tables["submission"]
    _fill(whole, "machine", {"anyOf": [tables["machine"], {"type": "string"}]})
    _fill(whole, "resources", tables["resources"])
    _fill(whole, "task_list", {"type": "array", "items": tables["task"]})
    _fill(whole, "pilot", _or_null(tables["pilot"]))
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "Pilotfish submission file", **whole}


def _table(keys: Sequence[Key], kind: str = "") -> dict[str, Any]:
    """A mapping with these keys, under their names and aliases. Names that begin with `_` are comments."""
    properties = {name: _member(key) for key in keys for name in (key.name, *key.aliases)}
    # A key with an alias cannot be named as required here: the alias does as well. `group_size` may be missing with a pilot.
    required = [key.name for key in keys if key.default is REQUIRED and not key.aliases and key.name != "group_size"]
    return {
        "type": "object",
        **({"title": kind.strip("()")} if kind else {}),
        "properties": properties,
        **({"required": required} if required and not kind else {}),
        "patternProperties": {"^_": {}},
        "additionalProperties": False,
    }


def _member(key: Key) -> dict[str, Any]:
    types = [_type(choice) for choice in key.kind.split("|")]
    bounds = {"minimum": key.least, "maximum": key.most}
    return {
        **(types[0] if len(types) == 1 else {"anyOf": types}),
        "description": key.meaning,
        **({} if key.default is REQUIRED else {"default": key.default}),
        **({"enum": list(key.choices)} if key.choices else {}),
        **{name: bound for name, bound in bounds.items() if bound is not None},
    }


def _type(kind: str) -> dict[str, Any]:
    if kind.startswith("dict["):
        return {"type": "object", "additionalProperties": _type(kind[5:-1])}
    if kind.startswith("list["):
        return {"type": "array", "items": _type(kind[5:-1])}
    return _TYPES[kind]


def _fill(table: dict[str, Any], name: str, inner: dict[str, Any]) -> None:
    """What is in a member, beside what it means."""
    table["properties"][name] = {"description": table["properties"][name]["description"], **inner}


def _or_null(inner: dict[str, Any]) -> dict[str, Any]:
    return {"anyOf": [inner, {"type": "null"}]}
