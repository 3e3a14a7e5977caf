"""What an execution model is: a pure function from a program and a task's place to a command line.

A model that starts ranks is `wrap(words, place)`: `words` is the program with its arguments, the result starts one rank of it
on each core of the place. Ranks are numbered along the nodes: first all of the first node.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from .. import variable_names
from ..model.resources import fraction, host_of, is_condition
from ..systems.base import BatchSystem
from ..systems.registry import system_of
from ..wire.frames import NodeShare


class LaunchError(Exception):
    """The task cannot be started; the text says what is in the way and what to do."""


@dataclass(frozen=True, slots=True)
class Place:
    """What a task was given, and what a launcher must know of where that is.

    Attributes:
        nodes: the task's part of each of its nodes; the first is the one where the launcher runs.
        bound: the core ids are processors of the machines, and ranks are to be bound to them.
        here: all nodes are this machine, as virtual nodes are.
        batch: the kind of the allocation: a batch system's name; `given` for virtual nodes.
        gpus: name of the variable that tells a task its GPUs; empty when there is nothing to tell.
        stem: begin of the path of files for this task.
        options: the job's `model_opts`.
        env: variables that every process of the task must have.
        mem_bytes: what the task may have on each node; 0: no limit.
        of_job: names of the variables that the job sets, and the pilot for it: what ranks on other nodes must see too.
    """

    nodes: Sequence[NodeShare]
    bound: bool = False
    here: bool = True
    batch: str = "local"
    gpus: str = ""
    stem: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)
    env: Mapping[str, str] = field(default_factory=dict)
    mem_bytes: int = 0
    of_job: Sequence[str] = ()

    @property
    def system(self) -> BatchSystem:
        """What is known of the batch system whose nodes these are."""
        return system_of(self.batch)

    @property
    def is_local(self) -> bool:
        """No rank runs on another machine."""
        return self.here or len(self.nodes) == 1

    @property
    def cores(self) -> list[str]:
        """Ids of all cores, by rank."""
        return [core for node in self.nodes for core in node.core_ids]

    @property
    def hosts(self) -> list[tuple[str, int]]:
        """(host, ranks) of each machine, by the names under which launchers find it."""
        if self.is_local:
            return [("localhost", len(self.cores))]
        return [(host_of(node.name), len(node.core_ids)) for node in self.nodes]


@dataclass(frozen=True, slots=True)
class Wrapped:
    """A command line, with what it needs: variables (the job's own win over them) and files (path to text)."""

    argv: list[str]
    env: Mapping[str, str] = field(default_factory=dict)
    files: Mapping[str, str] = field(default_factory=dict)


def cpus_of(core: str) -> list[str]:
    """The processors of a core: a core of several hardware threads is written `0&40`."""
    return core.split("&")


def mask_of(core: str) -> str:
    """The processors of a core as a hexadecimal mask."""
    return hex(sum(1 << int(cpu) for cpu in cpus_of(core)))


def named_variables(share: NodeShare) -> dict[str, str]:
    """What of named resources a task was given on a node, and of the pool: ids, or how much; of a part also how large it is."""
    variables = {}
    if share.visible_gpus:
        variables[f"{variable_names.RESOURCE}GPU"] = ",".join(share.visible_gpus)
    for name, ids, amount, parts in share.named:
        if is_condition(name):
            continue
        variable = f"{variable_names.RESOURCE}{name.upper()}"
        variables[variable] = ",".join(ids) if ids else str(amount)
        if parts:
            variables[f"{variable}{variable_names.PART}"] = fraction(parts)
    return variables


def by_rank(words: Sequence[str], place: Place, rank: str, *, bind: bool = False, gpus: bool = False) -> list[str]:
    """`words` behind a few shell lines that do for each rank what its launcher cannot; `words` alone if there is nothing.

    Args:
        rank: the variable in which the launcher tells a rank its number.
        bind: bind each rank to its core, where the place is bound.
        gpus: tell each rank its node's GPUs, even when they have the same ids on all nodes.
    """
    lines = []
    told = [",".join(node.visible_gpus) for node in place.nodes]
    if place.gpus and (gpus or len(set(told)) > 1):
        lines += _cases(rank, _gpu_cases(place, told))
    named = [named_variables(node) for node in place.nodes]
    if any(variables != named[0] for variables in named[1:]):
        lines += _cases(rank, _named_cases(place, named))
    if bind and place.bound:
        cases = [
            (str(number), f'exec taskset -c {",".join(cpus_of(core))} "$@"') for number, core in enumerate(place.cores)
        ]
        lines += _cases(rank, cases)
    if not lines:
        return list(words)
    return ["/bin/sh", "-c", "\n".join([*lines, 'exec "$@"']), "sh", *words]


def _gpu_cases(place: Place, told: Sequence[str]) -> list[tuple[str, str]]:
    return [(ranks, f"export {place.gpus}={ids}") for ranks, ids in zip(_ranks_by_node(place), told, strict=True)]


def _named_cases(place: Place, named: Sequence[Mapping[str, str]]) -> list[tuple[str, str]]:
    """Ranks have been told what the first node has, and the pool."""
    return [
        (ranks, "export " + " ".join(f"{name}={value}" for name, value in variables.items()))
        for ranks, variables in zip(_ranks_by_node(place), named, strict=True)
        if variables and variables != named[0]
    ]


def _ranks_by_node(place: Place) -> Iterator[str]:
    """Patterns of `case` for the numbers of the ranks on each node."""
    first = 0
    for node in place.nodes:
        ranks = range(first, first + len(node.core_ids))
        yield "|".join(map(str, ranks))
        first = ranks.stop


def _cases(variable: str, cases: Sequence[tuple[str, str]]) -> list[str]:
    return [f'case "${variable}" in', *(f"{pattern}) {command} ;;" for pattern, command in cases), "esac"]
