"""Options of single batch jobs in fyrd's words, with their synonyms: a table, checked values, what they are in resources."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ...pilot.model.errors import PilotfishError, UsageError
from ..description.resources import Resources
from ..description.schema import nearest
from ..description.task import Task
from ..job.spec import JobToPlace
from ..machines import registry
from ..machines.directives import Directives
from .queues import DEFAULT, qtypes


class ClusterError(PilotfishError):
    """A job did not come to its end, or cannot be submitted."""

    code = "cluster"


class OptionsError(ClusterError, UsageError):
    """A keyword of a job is not known, or has a value of a wrong kind."""

    code = "options"


class OptionKindError(OptionsError, TypeError):
    """A keyword of a job has a value of another type."""


@dataclass(frozen=True)
class Option:
    """One keyword of a job.

    Attributes:
        row: the row of its directives, or the key of its `kwargs`, that a batch system must have to have this option; empty
            for one that every kind of queue has.
    """

    name: str
    kind: str
    default: Any
    help: str
    synonyms: tuple[str, ...] = ()
    row: str = ""

    @property
    def only(self) -> tuple[str, ...]:
        """Kinds of queues that have it; empty for all."""
        return tuple(kind for kind, name in qtypes().items() if self._is_in(name)) if self.row else ()

    def _is_in(self, batch_type: str) -> bool:
        machine = registry.build_machine(batch_type)
        rows = machine.directives.rows if machine.directives is not None else {}
        return self.row in rows or any(key.name == self.row for key in machine.keys.keys)


TABLE = (
    Option("cores", "int", 1, "cores on each node", ("cpus", "threads")),
    Option("nodes", "int", 1, "nodes"),
    Option("mem", "mem", None, "memory on each node: MB as a number, or text with b, k, m, g or t", ("memory",)),
    Option("time", "time", None, "time limit: D-HH:MM:SS, HH:MM:SS, MM:SS or SS", ("walltime",)),
    Option("partition", "str", None, "queue or partition", ("queue",), "queue"),
    Option("account", "str", None, "account to be charged", (), "account"),
    Option("qos", "str", None, "quality of service", (), "qos"),
    Option("features", "list", [], "features that all nodes must have", (), "features"),
    Option("begin", "str", None, "not before this time", (), "begin"),
    Option("export", "str", None, "variables to be taken along", (), "export"),
    Option("pe", "str", None, "parallel environment; default: smp for more than one core", (), "pe_name"),
    Option(
        "depends", "list", [], "jobs (or their ids) that must have ended well", ("depend", "dependency", "dependencies")
    ),
    Option("modules", "list", [], "modules to be loaded; text is split at , and ;"),
    Option("imports", "list", [], "of a function: modules to be imported before it is called"),
    Option("syspaths", "list", [], "of a function: folders put in front of sys.path", ("paths", "syspath")),
    Option("python", "str", None, "of a function: the Python that calls it; default: this one"),
    Option(
        "trust_pickle",
        "flag",
        None,
        "of a function: load results that are no plain data, so the machine may run code here; default: if it is this one",
    ),
    Option("runpath", "str", ".", "folder in which it runs", ("dir", "path")),
    Option("scriptpath", "str", None, "folder of its scripts; default: runpath", ("filedir", "filepath", "scriptdir")),
    Option("outpath", "str", None, "folder of its output; default: runpath"),
    Option("suffix", "str", "cluster", "part of all names of its files"),
    Option("outfile", "str", None, "file for its output", ("stdout",)),
    Option("errfile", "str", None, "file for its errors", ("stderr",)),
    Option("clean_files", "flag", True, "`get` removes its scripts", ("delete_files", "cleanfiles", "delfiles")),
    Option(
        "clean_outputs",
        "flag",
        False,
        "`get` removes its output files",
        ("delete_outputs", "cleanouts", "delouts", "deloutputs", "cleanoutputs"),
    ),
)
_ROWS_OF_FYRD = ("features", "begin", "export")
"""What resources have no key for."""
OPTIONS = {option.name: option for option in TABLE}
SYNONYMS = {synonym: option.name for option in TABLE for synonym in option.synonyms}

_MEMORY = re.compile(r"(\d+(?:\.\d+)?)\s*([bkmgt]?)b?", re.IGNORECASE)
_MB = {"b": 1 / 2**20, "k": 1 / 2**10, "": 1.0, "m": 1.0, "g": 2.0**10, "t": 2.0**20}


def split_keywords(given: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """(options by their own names, what is none)."""
    known = {SYNONYMS.get(name, name): value for name, value in given.items() if SYNONYMS.get(name, name) in OPTIONS}
    return known, {name: value for name, value in given.items() if SYNONYMS.get(name, name) not in OPTIONS}


def sanitized(given: Mapping[str, Any]) -> dict[str, Any]:
    """With synonyms replaced; nothing is checked."""
    known, others = split_keywords(given)
    return {**known, **others}


def check_arguments(given: Mapping[str, Any]) -> dict[str, Any]:
    """The options by their own names, with values of their kinds (`mem` in MB, `time` as HH:MM:SS). Raises OptionsError."""
    known, others = split_keywords(given)
    for name in others:
        remedy = nearest(name, [*OPTIONS, *SYNONYMS]) or "`option_help()` lists all"
        raise OptionsError(f"Unrecognized argument {name}", remedy=remedy)
    return {name: _KINDS[OPTIONS[name].kind](name, value) for name, value in known.items() if value is not None}


def _int(name: str, value: Any) -> int:
    if isinstance(value, bool) or not (isinstance(value, int) or (isinstance(value, str) and value.strip().isdigit())):
        raise OptionKindError(f"{value!r} is not a whole number", where=name)
    if int(value) < 1:
        raise OptionsError(f"{value} is less than 1", where=name)
    return int(value)


def _str(name: str, value: Any) -> str:
    return str(value)


def _flag(name: str, value: Any) -> bool:
    if not isinstance(value, bool):
        raise OptionKindError(f"{value!r} is not True or False", where=name)
    return value


def _list(name: str, value: Any) -> list[Any]:
    if isinstance(value, str):
        parts = re.split(r"[,;]", value) if name == "modules" else [value]
        return [part.strip() for part in parts if part.strip()]
    return list(value) if isinstance(value, list | tuple | set) else [value]


def _mem(name: str, value: Any) -> int:
    match = _MEMORY.fullmatch(str(value).strip())
    if match is None or isinstance(value, bool):
        raise OptionsError(f"{value!r} is not an amount of memory", where=name, remedy="write MB, or 4GB, 500m")
    return max(1, round(float(match[1]) * _MB[match[2].lower()]))


def _time(name: str, value: Any) -> str:
    match = re.fullmatch(r"(?:(\d+)-)?(\d+(?::\d+){0,2})", str(value).strip()) if isinstance(value, str) else None
    if match is None:
        raise OptionsError(f"{value!r} is not a time", where=name, remedy="write text as HH:MM:SS or D-HH:MM:SS")
    fields = [int(field) for field in match[2].split(":")]
    empty = [0] * (3 - len(fields))
    hours, minutes, seconds = [*fields, *empty] if match[1] else [*empty, *fields]
    whole = ((int(match[1] or 0) * 24 + hours) * 60 + minutes) * 60 + seconds
    return f"{whole // 3600:02d}:{whole // 60 % 60:02d}:{whole % 60:02d}"


_KINDS: dict[str, Callable[[str, Any], Any]] = {
    "int": _int,
    "str": _str,
    "flag": _flag,
    "list": _list,
    "mem": _mem,
    "time": _time,
}


def seconds(time: str) -> int:
    """Of a checked time."""
    hours, minutes, rest = (int(field) for field in time.split(":"))
    return (hours * 60 + minutes) * 60 + rest


def to_resources(options: Mapping[str, Any], qtype: str, dependencies: tuple[str, ...] = ()) -> Resources:
    """What checked options are for one of our machines. Raises OptionsError for those that this kind of queue lacks."""
    for name in options:
        only = OPTIONS[name].only
        if only and qtype not in only and options[name] not in (None, []):
            raise OptionsError(f"queues of the kind {qtype} have nothing for it", where=name, remedy="leave it out")
    machine = registry.build_machine(qtypes()[qtype]) if qtype in qtypes() else None
    table = None if machine is None else machine.directives
    asked = {name: options[name] for name in _ROWS_OF_FYRD if options.get(name)}
    more = {name: value for name, value in asked.items() if table is None or name in table.rows}
    flags = [] if table is None else [f"{table.prefix} {table.words(name, _joined(more[name]))}" for name in more]
    if any("\n" in flag for flag in flags):
        raise OptionsError("features, begin and export are one line each")
    given = {
        "group_size": 1,
        "number_node": options.get("nodes", 1),
        "cpu_per_node": options.get("cores", 1),
        "queue_name": options.get("partition", ""),
        "memory": options.get("mem"),
        "walltime": f"{seconds(options['time'])}s" if options.get("time") else None,
        "account": options.get("account"),
        "qos": options.get("qos"),
        "module_list": options.get("modules", []),
        "custom_flags": flags,
        "dependency": list(dependencies),
        **_of_one_program(options, table),
    }
    if in_kwargs := {name: value for name, value in asked.items() if name not in more}:
        given["kwargs"] = {**given.get("kwargs", {}), **in_kwargs}
    return Resources.load_from_dict({name: value for name, value in given.items() if value is not None})


def _joined(value: Any) -> str:
    """Features that all nodes must have are joined by &."""
    return "&".join(map(str, value)) if isinstance(value, list) else str(value)


def _of_one_program(options: Mapping[str, Any], table: Directives | None) -> dict[str, Any]:
    """fyrd's cores are those of one program, which is started once on each node."""
    if table is None:
        return {}
    if not table.by_nodes and options.get("nodes", 1) > 1:
        what = "Grid Engine has parallel environments instead of nodes"
        raise OptionsError(what, where="nodes", remedy="give all cores, and `pe` for how they lie on nodes")
    found = dict(table.one_program(options.get("cores", 1)))
    if options.get("pe"):
        found["kwargs"] = {**found.get("kwargs", {}), "pe_name": options["pe"]}
    return found


def options_to_string(options: Mapping[str, Any], qtype: str | None = None) -> str:
    """The directives that a job with these options gets. Raises OptionsError, DescriptionError."""
    qtype = qtype or DEFAULT
    if not isinstance(options, Mapping):
        raise OptionKindError(f"{options!r} is not a mapping of options")
    checked = check_arguments(options)
    ids = tuple(str(each) for each in checked.get("depends", ()))
    resources = to_resources(checked, qtype, ids)
    name = "0" * 40
    job = JobToPlace(name, "", (Task("true", "."),), (name,), resources, "/")
    lines = registry.build_machine(qtypes()[qtype]).script(job)[job.script_name].partition("\n\n")[0].splitlines()
    return "\n".join(line for line in lines if not line.startswith("#!"))


def option_to_string(option: str, value: Any = None, qtype: str | None = None) -> str:
    """The directives in which this option shows; empty when there are none. Without a value: those of its default."""
    if value is None:
        known = OPTIONS.get(SYNONYMS.get(option, option))
        value = None if known is None else known.default
    if value in (None, []):
        return ""
    kind, name = qtype or DEFAULT, SYNONYMS.get(option, option)
    if name == "modules":
        return "\n".join(f"module load {each}" for each in check_arguments({name: value})[name])
    if name in _STREAMS:  # of our own jobs, which write these files themselves, there is no directive
        table = registry.build_machine(qtypes()[kind]).directives
        assert table is not None
        return f"{table.prefix} {table.words(_STREAMS[name], value)}" if table.has(_STREAMS[name]) else ""
    without = options_to_string({}, kind).splitlines()
    return "\n".join(line for line in options_to_string({option: value}, kind).splitlines() if line not in without)


_STREAMS = {"outfile": "stdout", "errfile": "stderr"}


def option_help(mode: str = "string", qtype: str | None = None, tablefmt: str | None = None) -> Any:
    """All options, or those of one kind of queue: `string`, `print`, `list` (of names), `table` or `merged_table`.

    Without `tablefmt` a `table` is a list of rows, else a text for each group of options; a `merged_table` is one text.
    `tablefmt`: simple, plain, pipe or tsv.
    """
    rows = [each for each in TABLE if qtype is None or not each.only or qtype in each.only]
    if mode == "list":
        return [each.name for each in rows]
    if mode == "merged_table":
        return _table(rows, tablefmt or "simple")
    if mode == "table" and tablefmt is None:
        return [(each.name, each.kind, each.default, ", ".join(each.synonyms), each.help) for each in rows]
    if mode == "table":
        groups = (("Every kind of queue", False), ("Some batch systems", True))
        parts = [(title, [each for each in rows if bool(each.only) is some]) for title, some in groups]
        return "\n\n".join(f"{title}\n\n{_table(some, str(tablefmt))}" for title, some in parts if some)
    if mode not in ("string", "print"):
        raise OptionsError(f"unknown mode {mode!r}", remedy="string, print, list, table or merged_table")
    text = "\n".join(_paragraph(each) for each in rows)
    if mode == "string":
        return text
    print(text)
    return None


_HEAD = ("option", "kind", "default", "also", "meaning", "only")


def _table(options: Sequence[Option], form: str) -> str:
    cells = [
        [each.name, each.kind, str(each.default), ", ".join(each.synonyms), each.help, ", ".join(each.only)]
        for each in options
    ]
    widths = [max(len(row[column]) for row in [_HEAD, *cells]) for column in range(len(_HEAD))]
    if form == "tsv":
        return "\n".join("\t".join(row) for row in [_HEAD, *cells])
    between, ends = (" | ", ("| ", " |")) if form == "pipe" else ("  ", ("", ""))
    if form not in ("simple", "plain", "pipe"):
        raise OptionsError(f"unknown form {form!r} of a table", remedy="simple, plain, pipe or tsv")

    def line(row: Sequence[str]) -> str:
        text = between.join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        return f"{ends[0]}{text}{ends[1]}".rstrip()

    rule = [] if form == "plain" else [line(["-" * width for width in widths])]
    return "\n".join([line(_HEAD), *rule, *(line(row) for row in cells)])


def _paragraph(option: Option) -> str:
    also = f"; also {', '.join(option.synonyms)}" if option.synonyms else ""
    only = f"; only {', '.join(option.only)}" if option.only else ""
    return f"{option.name} ({option.kind}, default {option.default}{also}{only})\n    {option.help}"
