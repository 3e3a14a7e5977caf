"""Options of `pilotfish service` as keywords of Python, and the words of a command line that say the same.

`ServiceOptions` has their types for editors and type checkers; what an option means stands in the table of options
(`pilot/manager/config.py`), and a test compares the two. Python's own values are taken: numbers, paths, durations, and any
collection where the command line has a comma list. Text is taken everywhere as the command line takes it.
"""

from __future__ import annotations

import operator
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import timedelta
from difflib import get_close_matches
from numbers import Integral, Number
from typing import Any, Literal, TypedDict

from ..pilot.model import walltime
from ..pilot.model.errors import UsageError
from ..pilot.options import PYTHON_OPTIONS, Option
from .errors import WrongArgumentsError
from .plain import as_word

AnyPath = str | os.PathLike[str]
Duration = str | float | timedelta
"""Text as `1h30m`, or seconds."""


class ServiceOptions(TypedDict, total=False):
    """See `pilotfish service --help` for what each is."""

    net: bool | None
    net_port: int | None
    net_port_min: int | None
    net_port_max: int | None
    net_pub_port: int | None
    net_plain: bool | None
    net_interface: str | None
    file: bool | None
    file_path: AnyPath | None
    wd: AnyPath | None
    envschema: str | Iterable[str] | None
    report_format: Literal["json", "text", "columns", "none"] | None
    report_file: AnyPath | None
    nodes: int | str | Iterable[int | str] | None
    allocations: AnyPath | None
    resource: str | Iterable[str] | Mapping[str, int | str] | None
    pool_resource: str | Iterable[str] | Mapping[str, int | str] | None
    resources: str | None
    slurm_limit_nodes_range_begin: int | None
    slurm_limit_nodes_range_end: int | None
    slurm_resources_file: AnyPath | None
    log: Literal["critical", "error", "warning", "info", "debug", "notset"] | None
    cpu_bind: Literal["auto", "none"] | None
    local_models: Literal["use", "ignore"] | None
    system_core: bool | None
    show_progress: bool | None
    id: str | None
    tags: str | Iterable[str] | None
    resume: AnyPath | None
    disable_pub: bool | None
    walltime: Duration | None
    idle_timeout: Duration | None
    end_margin: float | None
    kill_grace: float | None
    heartbeat: float | None
    node_lost: float | None
    manager_wait: float | None
    crash_limit: int | None
    reserve_after: float | None
    max_message_mib: int | None
    agent_python: AnyPath | None
    agent_prelude: str | None
    agent_connect: Literal["file", "variable"] | None
    agent_launcher: str | None
    min_nodes: int | None
    nl_init_timeout: float | None
    nl_ready_threshold: float | None
    nl_start_method: Literal["slurm", "ssh"] | None
    metrics: int | str | None
    metrics_file: AnyPath | None
    notify: str | None
    debug_checks: bool | None
    config: AnyPath | None
    enable_proc_stats: bool | None
    enable_rt_stats: bool | None
    governor: bool | None


_KNOWN = {option.field: option for option in PYTHON_OPTIONS}
_IS_LIST = {option.field for option in PYTHON_OPTIONS if option.kind == "list"} | {"nodes"}


def words_of(options: Mapping[str, Any]) -> list[str]:
    """`nodes=(4, 2)` is `--nodes=4,2`; None and False are as if not given.

    Raises WrongArgumentsError, a TypeError, which names everything that is wrong.
    """
    words, problems = [], []
    for name, value in options.items():
        try:
            words += _words(name, value)
        except WrongArgumentsError as error:
            problems.append(error)
    if len(problems) > 1:
        raise WrongArgumentsError("; ".join(f"{error.where}: {error.what}" for error in problems))
    if problems:
        raise problems[0]
    return words


def _words(name: str, value: Any) -> list[str]:
    option = _KNOWN.get(name)
    if option is None:
        near = get_close_matches(name, _KNOWN, 1)
        remedy = f"did you mean {near[0]}?" if near else f"known are {', '.join(_KNOWN)}"
        raise WrongArgumentsError("unknown option", where=name, remedy=remedy)
    if value is None:
        return []
    if option.kind == "flag":
        if not isinstance(value, bool):
            raise WrongArgumentsError(f"{value!r} is not True or False", where=name)
        return [f"--{option.name}"] if value else []
    if option.kind == "texts":
        return [f"--{option.name}={text}" for text in _texts(name, value)]
    return [f"--{option.name}={_text(option, value)}"]


def _texts(name: str, value: Any) -> list[str]:
    """Of an option that may be repeated: one text, some, or names with their values."""
    if isinstance(value, Mapping):
        value = [f"{member}={_element(name, amount)}" for member, amount in value.items()]
    texts = [value] if isinstance(value, str) else value
    if not isinstance(texts, Iterable) or not all(isinstance(text, str) for text in texts):
        remedy = "write NAME=VALUE, a list of such texts, or a mapping"
        raise WrongArgumentsError(f"{value!r} is not text, or a list of texts", where=name, remedy=remedy)
    return [as_word(text, name) for text in texts]


def _text(option: Option, value: Any) -> str:
    name, kind = option.field, option.kind
    if name in _IS_LIST and isinstance(value, Iterable) and not isinstance(value, (str, bytes, Mapping)):
        return ",".join(_element(name, element) for element in value)
    if isinstance(value, bool) or not _fits(option, value):
        expected = f"one of {', '.join(kind)}" if isinstance(kind, tuple) else _EXPECTED.get(name) or _EXPECTED[kind]
        raise WrongArgumentsError(f"{value!r} is not {expected}", where=name)
    if kind == "time" and not isinstance(value, str):
        return walltime.form(_seconds(value))
    return as_word(value, name)


def _fits(option: Option, value: Any) -> bool:
    if isinstance(option.kind, tuple):
        return value in option.kind
    if option.kind in _READ and isinstance(value, (str, Number, timedelta)):
        try:
            return _READ[option.kind](value) is not None
        except (ValueError, TypeError, OverflowError, UsageError):
            return False
    number = Integral if option.field == "nodes" else Number
    return isinstance(value, (str, bytes, os.PathLike) if option.kind == "path" else (str, bytes, os.PathLike, number))


def _seconds(value: str | float | timedelta) -> float:
    if isinstance(value, str):
        return walltime.parse(value)
    return walltime.parse(f"{value.total_seconds() if isinstance(value, timedelta) else float(value):.6f}s")


def _whole(value: Any) -> int:
    return int(value) if isinstance(value, str) else operator.index(value)


_READ: Mapping[str, Callable[[Any], float]] = {"int": _whole, "float": float, "time": _seconds}
_EXPECTED = {
    "int": "a whole number",
    "float": "a number",
    "time": "a time above 0: seconds, or text such as 1h30m",
    "list": "text, or a list of texts",
    "path": "a path",
    "text": "text",
    "nodes": "a number of cores, text such as n1:4, or a list of these",
}


def _element(name: str, value: object) -> str:
    text = as_word(value, name) if isinstance(value, (str, Integral)) else ""
    if not text or "," in text or isinstance(value, bool):
        raise WrongArgumentsError(f"{value!r} cannot be one of a list", where=name, remedy="give numbers or text")
    return text


def checked_words(server_args: Sequence[object]) -> list[str]:
    """What was given as the words of a command line. Raises WrongArgumentsError."""
    if isinstance(server_args, (str, bytes)):
        remedy = f"give a list of words: {str(server_args).split()!r}"
        raise WrongArgumentsError("server_args is one text", remedy=remedy)
    if isinstance(server_args, Mapping) or not isinstance(server_args, Iterable):
        remedy = "write options as keywords, LocalManager(nodes=4), or as a list of words, ['--nodes', 4]"
        raise WrongArgumentsError(f"{server_args!r} is not a list of words", where="server_args", remedy=remedy)
    return [as_word(value, f"server_args[{place}]") for place, value in enumerate(server_args)]
