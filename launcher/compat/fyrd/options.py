"""fyrd's tables of keywords: mappings from a name to its help, default and type. The options themselves: `job_options`."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

from ...submission.job_options import (
    OPTIONS,
    ClusterError,
    Option,
    OptionsError,
    check_arguments,
    option_help,
    option_to_string,
    options_to_string,
)
from ...submission.job_options import SYNONYMS as _SYNONYMS
from ...submission.job_options import sanitized as sanitize_arguments
from ...submission.job_options import split_keywords as _split
from ...submission.queues import qtypes

__all__ = [
    "ALLOWED_KWDS",
    "ALL_KWDS",
    "BATCH_KWDS",
    "CLUSTER_CORE",
    "CLUSTER_KWDS",
    "CLUSTER_OPTS",
    "COMMON",
    "SYNONYMS",
    "ClusterError",
    "OptionsError",
    "check_arguments",
    "option_help",
    "option_to_string",
    "options_to_string",
    "sanitize_arguments",
    "split_keywords",
]


def split_keywords(kwargs: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """(options by their own names, checked; what is none). Raises OptionsError."""
    known, others = _split(kwargs)
    return check_arguments(known), others


Table = OrderedDict[str, dict[str, Any]]
_TYPES = {"int": int, "str": str, "list": list, "flag": None, "mem": (int, str), "time": str}
_ASKED_FOR = ("nodes", "cores", "mem", "time")
"""What every batch system is asked for, and a queue of this machine too."""


def _table(*options: Option) -> Table:
    rows = ((each.name, {"help": each.help, "default": each.default, "type": _TYPES[each.kind]}) for each in options)
    return OrderedDict(rows)


def _of(kind: str) -> Table:
    return _table(*(each for each in OPTIONS.values() if not each.only or kind in each.only))


CLUSTER_CORE = _table(*(OPTIONS[name] for name in _ASKED_FOR))
"""What is asked for on all batch systems."""
COMMON = _table(*(each for each in OPTIONS.values() if not each.only and each.name not in _ASKED_FOR))
"""What all jobs have."""
CLUSTER_OPTS = _table(*(each for each in OPTIONS.values() if len(each.only) > 1))
"""What several batch systems have, and not all."""
SYNONYMS: OrderedDict[str, str] = OrderedDict(_SYNONYMS)
BATCH_KWDS: dict[str, Table] = {kind: _of(kind) for kind in qtypes()}
"""All that jobs of one kind of queue may have."""
CLUSTER_KWDS: Table = OrderedDict(item for table in BATCH_KWDS.values() for item in table.items())
ALL_KWDS: Table = _table(*OPTIONS.values())
ALLOWED_KWDS: OrderedDict[str, Any] = OrderedDict((name, row["type"]) for name, row in ALL_KWDS.items())


def __getattr__(name: str) -> Table:
    """`SGE_KWDS`: what jobs of that kind may have; `SGE`: what of it only that kind has."""
    kind = name.removesuffix("_KWDS").lower()
    if name != name.upper() or kind not in qtypes():
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    if name.endswith("_KWDS"):
        return BATCH_KWDS[kind]
    return _table(*(each for each in OPTIONS.values() if each.only == (kind,)))
