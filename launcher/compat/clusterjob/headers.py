"""Resources of a job script as directives of a batch system, as clusterjob writes them, without its slips.

The words are those of the tables in `machines/`, so a batch system that is added there is a backend here. What differs
from clusterjob: resources are spelt as the batch systems want them, limits are rounded up and written in a form that
each reads, other keys get the dash that the batch system expects.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ....pilot.model.errors import UsageError
from ...description.resources import Resources
from ...description.schema import DescriptionError
from ...machines import registry
from ...machines.directives import Directives


class ResourcesNotSupportedError(UsageError):
    """A batch system has no directive for this."""

    code = "resources-not-supported"


class TimeFormatError(DescriptionError, ValueError):
    """A time limit is in no form that is known."""

    code = "time-format"


_LIMIT = re.compile(r"(?:(\d+)-)?(\d+)(?::(\d+))?(?::(\d+))?(?::(\d+))?")
_NODE_KEYS = ("nodes", "ppn", "threads")
_KEYS = frozenset((*_NODE_KEYS, "jobname", "queue", "time", "mem", "stdout", "stderr"))
_ORDER = frozenset(("dependency", "depend", "d", "W", "w", "hold_jid"))
"""Keys whose values have ids of jobs in them."""


def time_to_seconds(text: str | int) -> int:
    """`M`, `M:S`, `H:M:S`, `D-H`, `D-H:M`, `D-H:M:S` or `D:H:M:S`. Raises TimeFormatError."""
    match = _LIMIT.fullmatch(str(text).strip())
    if match is None or (match[1] and match[5]):
        raise TimeFormatError(f"{text!r} has invalid pattern", where="time", remedy="write HH:MM:SS or D-HH:MM:SS")
    fields = [int(each) for each in match.groups()[1:] if each is not None]
    if match[1]:
        days, hours, minutes, seconds = (int(match[1]), *fields, *[0] * (3 - len(fields)))
    else:
        fields = [*fields, 0] if len(fields) == 1 else fields
        days, hours, minutes, seconds = (*[0] * (4 - len(fields)), *fields)
    return ((days * 24 + hours) * 60 + minutes) * 60 + seconds


_ROWS = {"jobname": "name", "time": "walltime", "mem": "megabytes"}
"""clusterjob's keys whose rows in the tables of batch systems have another name."""
_TIME = "time"


@dataclass(frozen=True)
class Backend:
    """A batch system under clusterjob's name for it.

    Attributes:
        directives: None where there is no batch system, so jobs just start, and of somebody's own class.
        own: that class's object, which writes the directives.
    """

    batch_type: str
    extension: str
    directives: Directives | None
    own: Any = None


_OLD_NAMES = {"PBS": "pbspro", "Torque": "pbs"}
"""Where clusterjob's names are others than ours."""
SHELL = Backend("Shell", "sh", None)
"""The script starts at once; of its resources only the time limit counts, the others are comments."""


def backends() -> dict[str, Backend]:
    """All, by clusterjob's names; the first is the default."""
    found = {}
    for batch_type in registry.names():
        machine = registry.build_machine(batch_type)
        if machine.aliases and machine.directives is not None:
            name = _OLD_NAMES.get(batch_type, machine.aliases[0])
            found[name] = Backend(batch_type, machine.script_suffix.lstrip("."), machine.directives)
    return {**found, "shell": SHELL}


DEFAULT = next(iter(backends()))


def headers(backend: Backend, resources: Mapping[str, Any]) -> list[str]:
    """The directives, in the order of the resources; those of the nodes first. Keys with None or False are left out.

    Without a batch system they are comments. Raises ResourcesNotSupportedError, DescriptionError.
    """
    given = {key: value for key, value in resources.items() if value is not None and value is not False}
    for key, value in given.items():
        if "\n" in f"{key}{value}":
            raise DescriptionError(f"{value!r} has a line break", where=f"resources.{key}")
    table = backend.directives
    if table is None:
        return [f"# {key}" if value is True else f"# {key}={value}" for key, value in given.items()]
    always = [table.words(name) for name in table.always]
    flags = {words.split()[0] for words in always}
    whole = _whole_nodes(table, given)
    lines = [
        _directive(table, key, value)
        for key, value in given.items()
        if not (whole is not None and key in _NODE_KEYS) and f"-{key}" not in flags
    ]
    own = {line.split()[0] for line in lines}
    lines = [*(whole or ()), *lines, *(words for words in always if words.split()[0] not in own)]
    return [f"{table.prefix} {line}" for line in lines]


def _whole_nodes(table: Directives, given: Mapping[str, Any]) -> list[str] | None:
    """The directive for nodes, processes and threads where it is one for all of them; None where each has its own."""
    row = table.rows.get("nodes")
    if not callable(row):
        return None
    if not any(key in given for key in _NODE_KEYS):
        return []
    if not table.by_nodes:
        what = "Grid Engine has parallel environments instead of nodes, ppn and threads"
        raise ResourcesNotSupportedError(what, where="resources", remedy="give the key '-pe', e.g. '-pe': 'mpi 4'")
    nodes, ppn, threads = (int(given.get(key, 1)) for key in _NODE_KEYS)
    return [" ".join(row(Resources(nodes, ppn * threads, kwargs={"tasks_per_node": ppn})))]


def _directive(table: Directives, key: str, value: Any) -> str:
    row = _ROWS.get(key, key)
    if key in _KEYS and table.has(row):
        value = table.limit(time_to_seconds(value)) if key == _TIME else value
        words = table.words(row, value)
        return re.sub(r"^(--[\w-]+) ", r"\1=", words)
    if key.lstrip("-") in _ORDER:
        value = table.bare_ids(str(value)) if value is not True else value
    if key.startswith("-"):
        if value is True:
            return key
        return f"{key}={value}" if key.startswith("--") else f"{key} {value}"
    return _other(table, key, value)


def _other(table: Directives, key: str, value: Any) -> str:
    """A key that is not clusterjob's, as the batch system spells its options."""
    long = table.option == "long" and len(key) > 1
    if value is True:
        return f"--{key}" if long else f"-{key}"
    if long:
        return f"--{key}={value}"
    return f"-l {key}={value}" if table.option == "listed" else f"-{key} {value}"
