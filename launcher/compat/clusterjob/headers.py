"""Resources of a job script as directives of a batch system, as clusterjob writes them, without its slips.

What differs: `span[ptile=...]` and `h_vmem=` are spelt as the batch systems want them, limits are rounded up and written in a
form that each reads, other keys of LSF get their dash.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from ....pilot.model.errors import UsageError
from ...description.schema import DescriptionError
from ...machines.dialect import clock


class ResourcesNotSupportedError(UsageError):
    """A batch system has no directive for this."""

    code = "resources-not-supported"


class TimeFormatError(DescriptionError, ValueError):
    """A time limit is in no form that is known."""

    code = "time-format"


_TIME = re.compile(r"(?:(\d+)-)?(\d+)(?::(\d+))?(?::(\d+))?(?::(\d+))?")
_NODE_KEYS = ("nodes", "ppn", "threads")


def time_to_seconds(text: str | int) -> int:
    """`M`, `M:S`, `H:M:S`, `D-H`, `D-H:M`, `D-H:M:S` or `D:H:M:S`. Raises TimeFormatError."""
    match = _TIME.fullmatch(str(text).strip())
    if match is None or (match[1] and match[5]):
        raise TimeFormatError(f"{text!r} has invalid pattern", where="time", remedy="write HH:MM:SS or D-HH:MM:SS")
    fields = [int(each) for each in match.groups()[1:] if each is not None]
    if match[1]:
        days, hours, minutes, seconds = (int(match[1]), *fields, *[0] * (3 - len(fields)))
    else:
        fields = [*fields, 0] if len(fields) == 1 else fields
        days, hours, minutes, seconds = (*[0] * (4 - len(fields)), *fields)
    return ((days * 24 + hours) * 60 + minutes) * 60 + seconds


@dataclass(frozen=True)
class Style:
    """How one batch system is told.

    Attributes:
        batch_type: the machine of ours that it is.
        words: key -> directive with `{}` for the value.
        other: a key that is none of those, and its value -> directive.
        flag: the directive for a key with the value True.
        nodes: the directive for (nodes, processes per node, threads per process); None when each is a key of its own.
        seconds: how a time limit is written.
        first: directives that are always there.
    """

    batch_type: str
    prefix: str
    extension: str
    words: Mapping[str, str]
    other: Callable[[str, Any], str]
    flag: Callable[[str], str]
    nodes: Callable[[int, int, int], str] | None
    seconds: Callable[[int], str] = clock
    always: tuple[str, ...] = ()


def _long(key: str, value: Any) -> str:
    if key in (
        "dependency",
        "d",
    ):  # ids as `AsyncResult.job_id` has them, with their cluster, which sbatch does not take here
        value = re.sub(r";[\w.-]+", "", str(value))
    return f"-{key} {value}" if len(key) == 1 else f"--{key}={value}"


def _long_flag(key: str) -> str:
    return f"-{key}" if len(key) == 1 else f"--{key}"


def _listed(key: str, value: Any) -> str:
    return f"-l {key}={value}"


def _dashed(key: str, value: Any) -> str:
    return f"-{key} {value}"


def _span(nodes: int, ppn: int, threads: int) -> str:
    cores = ppn * threads
    return f"-n {nodes * cores}" + (f' -R "span[ptile={cores}]"' if cores > 1 else "")


def _none(nodes: int, ppn: int, threads: int) -> str:
    what = "Grid Engine has parallel environments instead of nodes, ppn and threads"
    raise ResourcesNotSupportedError(what, where="resources", remedy="give the key '-pe', e.g. '-pe': 'mpi 4'")


_PBS = {
    "jobname": "-N {}",
    "queue": "-q {}",
    "time": "-l walltime={}",
    "mem": "-l mem={}m",
    "stdout": "-o {}",
    "stderr": "-e {}",
}

STYLES: dict[str, Style] = {
    "slurm": Style(
        "Slurm",
        "#SBATCH",
        "slr",
        {
            "jobname": "--job-name={}",
            "queue": "--partition={}",
            "time": "--time={}",
            "nodes": "--nodes={}",
            "ppn": "--tasks-per-node={}",
            "threads": "--cpus-per-task={}",
            "mem": "--mem={}",
            "stdout": "--output={}",
            "stderr": "--error={}",
        },
        _long,
        _long_flag,
        None,
    ),
    "pbs": Style("Torque", "#PBS", "pbs", _PBS, _listed, "-{}".format, lambda n, p, t: f"-l nodes={n}:ppn={p * t}"),
    "pbspro": Style(
        "PBS",
        "#PBS",
        "pbs",
        _PBS,
        _listed,
        "-{}".format,
        lambda n, p, t: f"-l select={n}:ncpus={p * t}:mpiprocs={p}:ompthreads={t}",
    ),
    "lsf": Style(
        "LSF",
        "#BSUB",
        "lsf",
        {
            "jobname": "-J {}",
            "queue": "-q {}",
            "time": "-W {}",
            "mem": "-M {}",
            "stdout": "-o {}",
            "stderr": "-e {}",
        },
        _dashed,
        "-{}".format,
        _span,
        lambda seconds: str(-(-seconds // 60)),
    ),
    "sge": Style(
        "SGE",
        "#$",
        "sge",
        {**_PBS, "time": "-l h_rt={}", "mem": "-l h_vmem={}m"},
        _listed,
        "-{}".format,
        _none,
        always=("-cwd",),
    ),
}
"""By clusterjob's names of backends."""


def headers(style: Style, resources: Mapping[str, Any]) -> list[str]:
    """The directives, in the order of the resources; those of the nodes first. Keys with None or False are left out.

    Raises ResourcesNotSupportedError, DescriptionError.
    """
    given = {key: value for key, value in resources.items() if value is not None and value is not False}
    lines = []
    if style.nodes is not None and any(key in given for key in _NODE_KEYS):
        lines.append(style.nodes(*(int(given.get(key, 1)) for key in _NODE_KEYS)))
    for key, value in given.items():
        if "\n" in f"{key}{value}":
            raise DescriptionError(f"{value!r} has a line break", where=f"resources.{key}")
        if (style.nodes is not None and key in _NODE_KEYS) or f"-{key}" in style.always:
            continue
        lines.append(_directive(style, key, value))
    return [f"{style.prefix} {line}" for line in (*lines, *style.always)]


def _directive(style: Style, key: str, value: Any) -> str:
    if key in style.words:
        return style.words[key].format(style.seconds(time_to_seconds(value)) if key == "time" else value)
    if key.startswith("-"):
        if value is True:
            return key
        return f"{key}={value}" if key.startswith("--") else f"{key} {value}"
    return style.flag(key) if value is True else style.other(key, value)
