"""What a batch job asks for, checked; and the same as a job description of the pilot."""

from __future__ import annotations

import os
import re
import signal as signals
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ....pilot.model.errors import UsageError
from ...machines import slurm_facts
from . import arrays, dependencies, exports, moments
from .arguments import Values, Words
from .errors import Refusal, bad_value, failed_submit


@dataclass(frozen=True)
class Node:
    """A node of the pilot; memory is 0 where it is not known."""

    name: str
    cores: int
    gpus: int = 0
    mem_mib: int = 0


@dataclass(frozen=True)
class Site:
    """The nodes of the pilot, all of them in each of the partitions. The first partition and account are the defaults."""

    nodes: tuple[Node, ...]
    partitions: tuple[str, ...]
    accounts: tuple[str, ...] = ("pilot",)
    name: str = "pilotfish"
    user: str = "user"
    uid: int = 0
    host: str = "localhost"

    @property
    def cores(self) -> int:
        return max((node.cores for node in self.nodes), default=0)


@dataclass(frozen=True)
class Signal:
    """`--signal`: which, how long before the limit, and whether only the batch shell gets it."""

    number: int
    before_s: int = 60
    batch_only: bool = False


@dataclass(frozen=True)
class Shape:
    """Nodes of a job, and what it has on each. `tasks`: how many on each node; the last may have fewer than fit."""

    nodes: int
    cores: int
    tasks: tuple[int, ...]
    gpus: int = 0
    mem_mib: int = 0
    whole: bool = False

    @property
    def cpus(self) -> int:
        return self.nodes * self.cores


@dataclass(frozen=True)
class Request:
    """A batch job as it was submitted. `time_limit` in minutes; `begin` in seconds since the epoch; None: not given."""

    name: str
    script: str
    work_dir: str
    submit_dir: str
    shape: Shape
    partition: str
    command: str = ""
    arguments: tuple[str, ...] = ()
    environ: Mapping[str, str] = field(default_factory=dict, repr=False)
    login_environ: bool = False
    """The variables of a login shell are added, where `environ` has none of the name."""
    output: str = ""
    error: str = ""
    input: str = ""
    append: bool = False
    ntasks: int | None = None
    ntasks_per_node: int | None = None
    cpus_per_task: int | None = None
    mem_per_cpu: int | None = None
    gpus: str = ""
    tags: tuple[str, ...] = ()
    time_limit: int | None = None
    array: arrays.Array | None = None
    dependency: dependencies.Dependency = dependencies.NONE
    kill_invalid: bool = False
    begin: float | None = None
    hold: bool = False
    requeue: bool = True
    signal: Signal | None = None
    nice: int = 0
    priority: int | None = None
    account: str = ""
    qos: str = "normal"
    comment: str = ""
    wckey: str = ""
    submit_line: str = ""


def _whole(values: Values, name: str, least: int = 1) -> int | None:
    text = values.get(name)
    if text is None:
        return None
    if not re.fullmatch(r"\d+", text, re.ASCII) or int(text) < least:
        raise Refusal(f'sbatch: error: Invalid numeric value "{text}" for --{name}.')
    return int(text)


def _nodes(values: Values) -> int | None:
    """The least of `2`, `2-4`; a pilot gives no job more than it needs."""
    text = values.get("nodes")
    if text is None:
        return None
    match = re.fullmatch(r"(\d+)(?:-(\d+))?", text, re.ASCII)
    if match is None or int(match[1]) < 1 or (match[2] and int(match[2]) < int(match[1])):
        if match is not None and text == "0":
            raise failed_submit("Node count specification invalid")
        raise bad_value(f'"{text}" is not a valid node count')
    return int(match[1])


_GRES = re.compile(r"(?:gres[:/])?(\w+)(?::([A-Za-z_]\w*))?(?:[:=](\d+))?", re.ASCII)
_BAD_GRES = "sbatch: error: Invalid generic resource (gres) specification"


def _gpu_count(text: str, named: bool) -> int:
    """Of `gpu:2`, `gpu:a100:2` where it is `named`, else of `2`, `a100:2`. Raises Refusal for what no pilot has."""
    total = 0
    for part in filter(None, text.split(",")):
        match = _GRES.fullmatch(part if named else f"gpu:{part}")
        if part.lower() == "none" and named:
            continue
        if match is None or match[1] != "gpu" or match[2]:
            raise Refusal(_BAD_GRES)
        total += int(match[3] or 1)
    return total


def _gpus(values: Values, nodes: int, tasks: int) -> int:
    """GPUs on each node."""
    count = 0
    if "gres" in values:
        count = _gpu_count(values["gres"], True)
    if "gpus-per-node" in values:
        count = _gpu_count(values["gpus-per-node"], False)
    if "gpus-per-task" in values:
        count = max(count, _gpu_count(values["gpus-per-task"], False) * -(-tasks // nodes))
    if "gpus" in values:
        count = max(count, -(-_gpu_count(values["gpus"], False) // nodes))
    return count


def _memory(values: Values, cores: int, gpus: int, site: Site) -> int:
    """MiB on each node; 0: not limited."""
    try:
        if "mem" in values:
            known = [node.mem_mib for node in site.nodes if node.mem_mib]
            return slurm_facts.mebibytes(values["mem"]) or min(known, default=0)
        if "mem-per-cpu" in values:
            return slurm_facts.mebibytes(values["mem-per-cpu"]) * cores
        if "mem-per-gpu" in values:
            return slurm_facts.mebibytes(values["mem-per-gpu"]) * gpus
    except UsageError:
        raise bad_value("Invalid --mem specification") from None
    return 0


def shape(values: Values, site: Site) -> Shape:
    """Where Slurm would fill nodes unequally a pilot gives each as much as the fullest."""
    nodes, per_node = _nodes(values), _whole(values, "ntasks-per-node")
    threads = _whole(values, "cpus-per-task") or 1
    tasks = _whole(values, "ntasks")
    if tasks is None:
        tasks = (nodes or 1) * (per_node or 1)
    if nodes is None:
        fit = min(per_node or tasks, max(1, site.cores // threads))
        nodes = -(-tasks // fit)
    elif nodes > tasks:
        if "ntasks" in values:
            nodes = tasks
        else:
            tasks = nodes
    share = -(-tasks // nodes)
    spread = [tasks // nodes + (place < tasks % nodes) for place in range(nodes)]
    if values.get("exclusive", None) not in (None, "", "exclusive"):
        raise Refusal("sbatch: error: --exclusive=user and --exclusive=mcs: a pilot serves one user")
    gpus = _gpus(values, nodes, tasks)
    if gpus and not any(node.gpus for node in site.nodes):
        raise Refusal(_BAD_GRES)
    memory = _memory(values, share * threads, gpus, site)
    return Shape(nodes, share * threads, tuple(spread), gpus, memory, "exclusive" in values)


def why_never(asked: Shape, site: Site) -> str:
    """Slurm's words for what these nodes can never give; empty when they can."""
    fits = [
        node
        for node in site.nodes
        if node.cores >= asked.cores
        and node.gpus >= asked.gpus
        and (not asked.mem_mib or not node.mem_mib or node.mem_mib >= asked.mem_mib)
    ]
    if len(fits) >= asked.nodes:
        return ""
    if asked.nodes > len(site.nodes):
        return "Node count specification invalid"
    return "Requested node configuration is not available"


def _tags(values: Values) -> tuple[str, ...]:
    text = values.get("constraint", "")
    if re.search(r"[|\[\]()*]", text):
        raise failed_submit("Invalid feature specification")
    return tuple(part.strip() for part in re.split(r"[&,]", text) if part.strip())


def _signal(text: str | None) -> Signal | None:
    """Of `[R|B:]SIGNAL[@SECONDS]`."""
    if text is None:
        return None
    match = re.fullmatch(r"(?:([RB]+):)?(?:SIG)?(\w+)(?:@(\d+))?", text, re.ASCII)
    number = _signal_number(match[2]) if match is not None else None
    if match is None or number is None:
        raise bad_value("Invalid --signal specification")
    return Signal(number, int(match[3] or 60), "B" in (match[1] or ""))


def _signal_number(text: str) -> int | None:
    if text.isdigit():
        return int(text) if 0 < int(text) < signals.NSIG else None
    return getattr(signals, f"SIG{text.upper().removeprefix('SIG')}", None)


signal_number = _signal_number


def _time(values: Values) -> int | None:
    if "time" not in values:
        return None
    try:
        return slurm_facts.minutes(values["time"])
    except UsageError:
        raise bad_value("Invalid --time specification") from None


def _begin(values: Values, now: float) -> float | None:
    if "begin" not in values:
        return None
    try:
        return moments.parse(values["begin"], now)
    except UsageError:
        text = f"Invalid time specification (pos=0): {values['begin']}"
        raise Refusal(f"{text}\nsbatch: error: Invalid --begin specification", 255) from None


def _partition(values: Values, site: Site) -> str:
    """The first of those that are named; each must be there."""
    names = [name for name in values.get("partition", "").split(",") if name] or [site.partitions[0]]
    for name in names:
        if name not in site.partitions:
            raise failed_submit("Invalid partition name specified", before=f"invalid partition specified: {name}")
    return names[0]


def _number(values: Values, name: str) -> int | None:
    text = values.get(name)
    if text is None:
        return None
    if name == "priority" and text.upper() == "TOP":
        return 2**31 - 1
    if not re.fullmatch(r"-?\d+", text or "100", re.ASCII):
        raise bad_value(f'Invalid --{name} specification "{text}"')
    return int(text or "100")


OWN_OUTPUT, OWN_ERROR = "%%srun-output", "%%srun-error"
"""For the output of srun outside of a job: files in the folder of the job."""

_NO_CLUSTER = (
    "'{}' can't be reached now, or it is an invalid entry for --cluster.  "
    "Use 'sacctmgr list clusters' to see available clusters."
)
_WRAPPED = "#!/bin/sh\n# This script was created by sbatch --wrap.\n\n{}\n"


def build(
    words: Words, script: str, script_path: str, cwd: str, environ: Mapping[str, str], site: Site, now: float, line: str
) -> Request:
    """Raises Refusal for what makes no sense or can never run here."""
    values = words.values
    wrap = values.get("wrap")
    if wrap is not None and words.rest:
        raise Refusal("sbatch: error: Script arguments not permitted with --wrap option")
    cluster = values.get("clusters", "")
    if cluster not in ("", "all", site.name):
        unknown = f"No cluster '{cluster}' known by database."
        raise Refusal(f"sbatch: error: {unknown}\nsbatch: error: {_NO_CLUSTER.format(cluster)}")
    asked = shape(values, site)
    if why := why_never(asked, site):
        raise failed_submit(why)
    command = os.path.join(cwd, script_path) if script_path else ""
    name = values.get("job-name") or ("wrap" if wrap is not None else os.path.basename(script_path) or "sbatch")
    if values.get("open-mode", "t")[:1] not in ("a", "t"):
        raise bad_value("Invalid --open-mode specification")
    return Request(
        name=name,
        script=_WRAPPED.format(wrap) if wrap is not None else script,
        work_dir=os.path.normpath(os.path.join(cwd, values.get("chdir", "."))),
        submit_dir=cwd,
        shape=asked,
        partition=_partition(values, site),
        command=command,
        arguments=tuple(words.rest[1:]),
        environ=exports.exported(values.get("export"), environ),
        login_environ="get-user-env" in values or values.get("export", "").upper() == "NONE",
        output=values.get("output", ""),
        error=values.get("error", ""),
        input=values.get("input", ""),
        append=values.get("open-mode", "t").startswith("a"),
        ntasks=_whole(values, "ntasks"),
        ntasks_per_node=_whole(values, "ntasks-per-node"),
        cpus_per_task=_whole(values, "cpus-per-task"),
        mem_per_cpu=slurm_facts.mebibytes(values["mem-per-cpu"]) if "mem-per-cpu" in values else None,
        gpus=values.get("gpus", ""),
        tags=_tags(values),
        time_limit=_time(values),
        array=arrays.parse(values["array"]) if "array" in values else None,
        dependency=dependencies.parse(values["dependency"]) if values.get("dependency") else dependencies.NONE,
        kill_invalid=values.get("kill-on-invalid-dep", "no") == "yes",
        begin=_begin(values, now),
        hold="hold" in values,
        requeue="no-requeue" not in values,
        signal=_signal(values.get("signal")),
        nice=_number(values, "nice") or 0,
        priority=_number(values, "priority"),
        account=values.get("account") or site.accounts[0],
        qos=values.get("qos", "normal"),
        comment=values.get("comment", ""),
        wckey=values.get("wckey", ""),
        submit_line=line,
    )


def describe(request: Request, name: str, program: Sequence[str]) -> dict[str, Any]:
    """The pilot's job: `program` is what runs on the job's first node."""
    asked = request.shape
    resources: dict[str, Any] = {"numNodes": asked.nodes}
    if not asked.whole:
        resources["numCores"] = asked.cores
    if asked.mem_mib:
        resources["mem"] = f"{asked.mem_mib}M"
    if asked.gpus:
        resources["nodeCrs"] = {"gpu": asked.gpus}
    if request.tags:
        resources["tags"] = list(request.tags)
    if request.time_limit is not None:
        resources["wt"] = f"{60 * request.time_limit}s"
    description: dict[str, Any] = {
        "name": name,
        "execution": {"exec": program[0], "args": list(program[1:]), "wd": "/"},
        "resources": resources,
        "attributes": {"slurm_name": request.name},
    }
    if priority := (request.priority or 0) - request.nice:
        description["priority"] = max(-(2**31), min(2**31 - 1, priority))
    return description
