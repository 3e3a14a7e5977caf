"""What PBS Pro, OpenPBS and Torque have in common: the variables that mark a job, `qstat -f`, and the end."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime

from ..model.errors import SettingsError, UsageError
from ..model.resources import NodeSpec
from ..model.walltime import parse as parse_walltime
from .base import HostEnvironment, Source, need, need_file

_STARTED = ("stime", "start_time")
"""What PBS Pro and what Torque call the start of a job."""
TORQUE_MARK = "PBS_NUM_PPN"
"""The variable that only Torque sets."""
PRIVATE = r"PBS_.* | NCPUS"
"""What `qsub -V` would send along."""


def inside(environ: Mapping[str, str]) -> bool:
    """In a job of either."""
    return bool(environ.get("PBS_JOBID") and environ.get("PBS_NODEFILE"))


def node_lines(host_env: HostEnvironment) -> list[str]:
    """The lines of PBS_NODEFILE. Raises SettingsError when it cannot be read or has none."""
    lines = [line.strip() for line in need_file(host_env, "PBS_NODEFILE").splitlines() if line.strip()]
    if not lines:
        raise SettingsError("names an empty file", where="PBS_NODEFILE", remedy="give --nodes to do without it")
    return lines


def qstat(host_env: HostEnvironment) -> tuple[dict[str, str], str]:
    """The attributes of our job, none where `qstat` does not answer, and the command. Raises SettingsError outside a job."""
    command = ["qstat", "-f", need(host_env, "PBS_JOBID")[0]]
    return _attributes(host_env.run(command) or ""), " ".join(command)


def _attributes(output: str) -> dict[str, str]:
    """`name = value` lines; long values go on in lines that begin with a tab."""
    return dict(_pairs(output.replace("\n\t", "")))


def _pairs(output: str) -> Iterator[tuple[str, str]]:
    for line in output.splitlines():
        name, equals, value = line.strip().partition(" = ")
        if equals:
            yield name, value


def end(host_env: HostEnvironment, attributes: Mapping[str, str], command: str) -> tuple[float | None, list[Source]]:
    """Start and limit as `qstat` gives them; without it Torque's PBS_WALLTIME, as if the job had started now."""
    started = next((attributes[name] for name in _STARTED if name in attributes), None)
    limit = attributes.get("Resource_List.walltime")
    if started is not None and limit is not None:
        try:
            ends_s = datetime.strptime(started, "%a %b %d %H:%M:%S %Y").timestamp() + parse_walltime(limit)
        except (ValueError, UsageError):
            return None, []
        return ends_s, [Source("end", f"{limit} after {started}", command)]
    seconds = host_env.environ.get("PBS_WALLTIME", "")
    if not attributes and seconds.isdigit() and int(seconds):
        return host_env.now_s + int(seconds), [Source("end", f"{seconds} s after now", "PBS_WALLTIME")]
    return None, []


def short(host: str) -> str:
    return host.partition(".")[0]


def shown(nodes: Sequence[NodeSpec]) -> str:
    return ", ".join(f"{node.name}: {len(node.core_ids)}" for node in nodes)
