"""`execution.calls` of a description: a job whose tasks are calls of Python functions (docs/executor.md)."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from ..model.errors import InvalidJobError
from ..model.job_spec import Calls, Dependency
from .check import check_members, need_object, need_text, shown

_MEMBERS = frozenset({"executor", "data", "setup", "inputs", "folder", "keys", "max_calls", "max_bytes", "ranks"})
_OF_PROGRAMS = ("args", "script", "stdin", "stdout", "stderr")
_OF_RANKS = ("model", "model_opts")
_NAME = re.compile(r"[A-Za-z0-9._-]{1,128}", re.ASCII)
"""Of an executor: it is part of a topic."""


def describe_calls(execution: Mapping[str, Any], where: str) -> Calls:
    """Raises InvalidJobError."""
    raw = execution["calls"]
    need_object(raw, where, "it is not an object")
    check_members(raw, _MEMBERS, where)
    ranks = _count(raw.get("ranks", 0), f"{where}.ranks")
    for member in _OF_PROGRAMS if ranks else (*_OF_PROGRAMS, *_OF_RANKS):
        if execution.get(member):
            raise InvalidJobError(f"a function worker has no {member}", where=where, remedy="leave it out")
    executor = need_text(raw.get("executor"), f"{where}.executor")
    if _NAME.fullmatch(executor) is None:
        remedy = "use at most 128 letters, digits and the signs . _ -"
        raise InvalidJobError(
            f"{shown(executor)} is not the name of an executor", where=f"{where}.executor", remedy=remedy
        )
    return Calls(
        executor,
        _bytes(raw.get("data"), f"{where}.data"),
        _bytes(raw.get("setup", ""), f"{where}.setup"),
        _count(raw.get("inputs", 0), f"{where}.inputs"),
        need_text(raw.get("folder", ""), f"{where}.folder"),
        _bytes(raw.get("keys", ""), f"{where}.keys"),
        _count(raw.get("max_calls", 0), f"{where}.max_calls"),
        _count(raw.get("max_bytes", 0), f"{where}.max_bytes"),
        ranks,
    )


def check_inputs(calls: Calls, after: Sequence[Dependency], where: str) -> None:
    """Raises InvalidJobError."""
    if calls.inputs > len(after) or any(one.index is None for one in after[: calls.inputs]):
        remedy = 'begin dependencies.after with so many of the form "JOB:3"'
        raise InvalidJobError(
            f"{calls.inputs} calls are not named", where=f"{where}.execution.calls.inputs", remedy=remedy
        )


def _bytes(raw: object, where: str) -> bytes:
    try:
        return msgspec.convert(need_text(raw, where), bytes)
    except msgspec.ValidationError:
        raise InvalidJobError("it is not base64", where=where) from None


def _count(raw: object, where: str) -> int:
    if isinstance(raw, bool) or not isinstance(raw, int) or raw < 0:
        raise InvalidJobError(f"{shown(raw)} is not a whole number of at least 0", where=where)
    return raw
