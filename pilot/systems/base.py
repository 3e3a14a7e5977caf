"""What an allocation is, and what a batch system is for the inside: everything that one file of this folder says of it.

A system is a table of facts with two functions, `inside(environ)` and `find(host_env)`. Both are pure given their argument,
so each system is tested on recorded environments. Nobody outside this folder names a batch system: whoever needs a fact asks
the registry for the system of the allocation's kind. An alternative was rejected: a class per system with methods to
override. What differs is nearly all data, and a table can be listed in help texts and docs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import NamedTuple

from ..agent_launchers.base import AgentLauncher
from ..cpus import Cpus
from ..model.errors import SettingsError
from ..model.resources import NodeSpec
from .gpus import Gpus


class Source(NamedTuple):
    """One fact and where it was read: `cores`, `node1: 4, node2: 4`, `PBS_NODEFILE`."""

    what: str
    value: str
    where: str


@dataclass(frozen=True, slots=True)
class Allocation:
    """The nodes we were given. `ends_s`: seconds since the epoch, None when there is no end, or none is known."""

    kind: str
    nodes: tuple[NodeSpec, ...]
    job_id: str | None = None
    ends_s: float | None = None
    sources: tuple[Source, ...] = ()


def _no_gpus() -> Gpus:
    return Gpus((), "nobody was asked")


@dataclass(frozen=True, slots=True)
class HostEnvironment:
    """The machine as a backend sees it.

    `read` gives a file's text and `run` a command's output, both None when that cannot be had. `cpus` are the processors
    this process may use, `memory` the bytes it may; `quota` is how many processors it may keep busy, None for all.
    `find_gpus` looks for the GPUs of the machine; it may take a moment.
    """

    environ: Mapping[str, str]
    hostname: str
    cpus: Cpus
    memory: int
    now_s: float
    read: Callable[[str], str | None]
    run: Callable[[Sequence[str]], str | None]
    quota: int | None = None
    find_gpus: Callable[[], Gpus] = _no_gpus


TaskVariables = Callable[[Sequence[tuple[str, int]], "Sequence[str] | None"], dict[str, str]]
"""From (node, cores) of each node of a task, and the masks of its cores where these are real processors, to variables."""


class StepProcesses(NamedTuple):
    """How the processes of a step are known by what was recorded of them."""

    launcher: str
    """The name of the process that starts a step on other nodes."""
    id_key: str
    """The member of the launcher's record that has the step's number."""
    daemon: str
    """The name of the process that runs the step on a node, and the word in its title that the number in brackets follows."""


@dataclass(frozen=True, slots=True)
class BatchSystem:
    """All that the inside knows of one batch system.

    Attributes:
        name: what `--resources` calls it, and the `kind` of its allocations.
        title: how people call it.
        inside: whether these variables are those of a job of this system.
        find: what it gave us. Raises SettingsError for an environment that is incomplete or contradicts itself.
        launcher: how agents are started on its nodes when nothing else is asked for.
        aliases: other names that `--resources` takes.
        task_variables: what a task of this system would be told by it, for the environment schema of that name; None: it
            has no such schema, and a task is told in the common variables only.
        variable_prefix: how the names of these variables begin.
        hostfile_variable: the variable in which its own launcher of ranks looks for the task's list of hosts.
        model_variables: variables that the programs of an execution model need here, by the model's name.
        openmpi_component: what Open MPI calls its support for the system, to be told to leave it alone.
        step_variables: pattern (verbose, whole names) of what the system tells the agents of the step in which they run, and
            of how the job was to be cut into steps. A task does not see it: its own steps would obey.
        rank_variables: pattern of what tells the agents that they are ranks of a parallel program. No task ever sees it.
        private_variables: pattern of what describes this job, its steps and the task's share of it. A job that a task
            submits must not inherit it: it would take itself for a part of this one, or be cut like it.
        submit_commands: commands that send the environment of whoever calls them along with a new job.
        script_suffixes: how people name their job scripts.
        step_processes: how its steps are found in the records of `--enable-proc-stats`.
        end_moves: the end of a job comes later by the time for which it was suspended: its limit is for the time in which it
            runs. Where that is not known, too early is safe.
    """

    name: str
    title: str
    inside: Callable[[Mapping[str, str]], bool]
    find: Callable[[HostEnvironment], Allocation]
    launcher: AgentLauncher
    aliases: tuple[str, ...] = ()
    task_variables: TaskVariables | None = None
    variable_prefix: str = ""
    hostfile_variable: str = ""
    model_variables: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    openmpi_component: str = ""
    step_variables: str = ""
    rank_variables: str = ""
    private_variables: str = ""
    submit_commands: tuple[str, ...] = ()
    script_suffixes: tuple[str, ...] = ()
    step_processes: StepProcesses | None = None
    end_moves: bool = False


def one_by_one(*words: str) -> Callable[[Sequence[str], Sequence[str]], list[str]]:
    """The command line of a launcher that starts a command on one node: `words`, the node, the command."""

    def argv(nodes: Sequence[str], command: Sequence[str]) -> list[str]:
        return [*words, nodes[0], *command]

    return argv


def check_nodes(nodes: Sequence[NodeSpec], where: str) -> list[NodeSpec]:
    """The nodes, if each name occurs once: agents and tasks are told apart by it. Raises SettingsError."""
    seen: set[str] = set()
    for node in nodes:
        if node.name in seen:
            raise SettingsError(f'node "{node.name}" is there twice', where=where, remedy="give each node its own name")
        seen.add(node.name)
    return list(nodes)


def need(host_env: HostEnvironment, *names: str) -> tuple[str, str]:
    """(value, name) of the first of these variables that is set. Raises SettingsError when none is."""
    for name in names:
        if host_env.environ.get(name):
            return host_env.environ[name], name
    raise SettingsError(
        "is not set", where=names[0], remedy="start the pilot inside a job, or give --nodes or --resources local"
    )


def need_file(host_env: HostEnvironment, variable: str) -> str:
    """The text of the file that the variable names. Raises SettingsError when it cannot be read."""
    path = need(host_env, variable)[0]
    text = host_env.read(path)
    if text is None:
        raise SettingsError(f'"{path}" cannot be read', where=variable, remedy="give --nodes to do without it")
    return text


_GPU_VARIABLES = ("CUDA_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES")
_NO_GPU = ("-1", "NoDevFiles")


def visible_gpus(environ: Mapping[str, str]) -> Gpus | None:
    """The GPUs of this host by the variables that programs obey; None when none of them is set. One that is empty: no GPU.

    Several may be set, whatever the maker is; the first that names a GPU counts.
    """
    lists = [Gpus(_gpu_ids(environ[name]), name) for name in _GPU_VARIABLES if name in environ]
    return next((gpus for gpus in lists if gpus.ids), lists[0] if lists else None)


def _gpu_ids(text: str) -> tuple[str, ...]:
    """The entries up to the first that is no device, as CUDA reads them; each once, as it could be granted twice."""
    ids: dict[str, None] = {}
    for part in filter(None, map(str.strip, text.split(","))):
        if part in _NO_GPU:
            break
        ids[part] = None
    return tuple(ids)


def gpu_source(what: str, gpus: Gpus) -> Source:
    return Source(what, ",".join(gpus.ids) or "none", gpus.where)


def own_gpus(host_env: HostEnvironment, host: str) -> tuple[str, ...] | None:
    """The ids of `visible_gpus` on this host; None without a variable, and for other hosts, which no variable describes."""
    visible = visible_gpus(host_env.environ) if is_this_host(host_env, host) else None
    return None if visible is None else visible.ids


def gpus_of(host_env: HostEnvironment, host: str, granted: Sequence[str]) -> tuple[str, ...]:
    """The GPUs of a node to which the batch system has `granted` these, as far as it tells.

    What programs are told on this host wins: there ids may count from 0 where the system confines them to their GPUs, and
    the user may have taken some away. Nothing else is looked for: what was not granted may be another job's.
    """
    own = own_gpus(host_env, host)
    return tuple(granted) if own is None else own


def core_ids(host_env: HostEnvironment, host: str, count: int) -> tuple[tuple[str, ...], bool]:
    """Ids for the `count` cores of `host`, and whether they are real processors to bind tasks to.

    They are on this host, when the batch system has confined us to just as many processors, or to as many cores of several
    hardware threads. Nothing is known here about other hosts: their agents report it when they come (manager/agents.py).
    """
    slots = host_env.cpus.slots(count) if is_this_host(host_env, host) else None
    return (slots, True) if slots is not None else (numbered(count), False)


@lru_cache(maxsize=64)
def numbered(count: int) -> tuple[str, ...]:
    """Ids for so many things of which only their number is known; one list for all nodes, as 128 ids are 7 KiB."""
    return tuple(map(str, range(count)))


def is_this_host(host_env: HostEnvironment, host: str) -> bool:
    return host.partition(".")[0] == host_env.hostname.partition(".")[0]
