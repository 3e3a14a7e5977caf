"""What a client asked for, as frozen values. Built once at the edge (wire/describe.py), trusted everywhere after."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any, NamedTuple

NO_MAPPING: Mapping[str, Any] = {}
"""Shared by all descriptions without such members; nobody writes to a description."""


@dataclass(frozen=True, slots=True)
class Size:
    """How many of a thing: at least `min`, at most `max`; `max=None` means as many as are free."""

    min: int
    max: int | None

    @classmethod
    def exactly(cls, count: int) -> Size:
        return cls(count, count)


class Placement(IntEnum):
    """Where on the nodes a task is to be: close together; where most is free, and not close together; alone on its nodes; on
    whole sockets, or whole NUMA domains, all of whose cores it gets.
    """

    COMPACT = 0
    SCATTER = 1
    EXCLUSIVE = 2
    SOCKET = 3
    NUMA = 4

    @property
    def is_per_node(self) -> bool:
        return self >= Placement.EXCLUSIVE


class Want(NamedTuple):
    """How much of a named resource: a whole number, else so many of PARTS of one thing with an id (see resources.py)."""

    name: str
    amount: int
    parts: int = 0


@dataclass(frozen=True, slots=True)
class Need:
    """What one task needs; equal needs are one *shape* and share a queue.

    With `nodes` and `cores`, cores are per node; with `nodes` alone the nodes are taken whole; with `cores` alone they may
    come from any nodes. `gpus` and `mem_bytes` are per node of the task, and so is what of `named` is the nodes'; what is the
    pool's is for the whole task. When `nodes` is None and something is needed per node, the task is kept on one node. Only
    nodes that have all of `tags` count.
    """

    cores: Size | None = None
    nodes: Size | None = None
    gpus: int = 0
    mem_bytes: int = 0
    tags: tuple[str, ...] = ()
    named: tuple[Want, ...] = ()
    """By name, each once. Part of a GPU stands here (resources.GPU), and what is to be apart (resources.APART)."""
    placement: Placement = Placement.COMPACT

    @property
    def is_one_core(self) -> bool:
        """Whether one core, of whichever node that has the tags, is all there is to it."""
        return (
            self.cores == _ONE
            and self.nodes is None
            and not (self.gpus or self.mem_bytes or self.named or self.placement)
        )


_ONE = Size.exactly(1)
ONE_CORE = Need(cores=_ONE)


@dataclass(frozen=True, slots=True)
class IterationScheduler:
    """Spreads the whole allocation over the iterations (iterplan.py); `name` is `maximum-iters` or `split-into`.

    Applies to `nodes` when `of_nodes`, else to cores; `parts` only for split-into (None: the number of iterations).
    """

    name: str
    of_nodes: bool = False
    parts: int | None = None


@dataclass(frozen=True, slots=True)
class Resources:
    need: Need = ONE_CORE
    wt_s: float | None = None
    """Wall time limit of one task in seconds; None: no limit."""
    scheduler: IterationScheduler | None = None
    min_time_s: float | None = None
    """For how long it must be able to run to be of use, where that is less than its limit."""
    alternatives: tuple[Need, ...] = ()
    """What will do instead of `need`, most liked first: each task gets the first of all these that is free."""

    @property
    def needs(self) -> tuple[Need, ...]:
        return (self.need, *self.alternatives)


@dataclass(frozen=True, slots=True)
class Calls:
    """Each task of the job is the call of a Python function; function workers take one after the other.

    `exec` is then the Python of these workers; None: that of the agent. Nothing but a function worker looks into `setup`, what
    one does before its first call, and `data`, the functions and arguments of all tasks, by position.
    """

    executor: str
    """Who is told of the ends, with the values that the calls returned."""
    data: bytes
    setup: bytes = b""
    inputs: int = 0
    """What the first so many of the tasks in `after` have returned goes with `data`; they are calls, too."""
    folder: str = ""
    """Where large values go; empty: nowhere."""
    keys: bytes = b""
    """By which its executor recognises the calls, if it comes back."""
    max_calls: int = 0
    """A function worker ends after so many; 0: never for that."""
    max_bytes: int = 0
    """A function worker that has grown beyond this ends after its call; 0: never for that."""
    ranks: int = 0
    """Of MPI, at which each call is made; the execution model says how they are started. 0: the function worker makes it."""


@dataclass(frozen=True, slots=True)
class Execution:
    """What to run. Strings may still hold `${variables}` of the start phase. Exactly one of exec and script is set, but for
    `calls`.
    """

    exec: str | None = None
    args: tuple[str, ...] = ()
    script: str | None = None
    env: Mapping[str, str] = field(default_factory=lambda: NO_MAPPING)
    wd: str | None = None
    stdin: str | None = None
    stdout: str | None = None
    stderr: str | None = None
    modules: tuple[str, ...] = ()
    venv: str | None = None
    model: str | None = None
    model_opts: Mapping[str, Any] | None = None
    stream: bool = False
    """What has no file (stdout, stderr) goes into the streams of the pilot (wire/streams.py)."""
    calls: Calls | None = None


@dataclass(frozen=True, slots=True)
class Parameter:
    """A named parameter of the tasks of a job: the one at position `pos` has the value `pos // every % len(values)`.

    `every` is 1 for a column of a table with a row for each task. A grid is never multiplied out: each of its parameters
    keeps its few values, and `every` tells for how many positions one of them stays. Whole numbers in equal steps are kept
    as (start, stop, step) in `numbers`, with no `texts`.
    """

    name: str
    texts: tuple[str, ...] = ()
    numbers: tuple[int, int, int] | None = None
    every: int = 1

    @property
    def values(self) -> Sequence[str | int]:
        return self.texts if self.numbers is None else range(*self.numbers)

    def at(self, pos: int) -> str:
        values = self.values
        return str(values[pos // self.every % len(values)])


@dataclass(frozen=True, slots=True)
class Iteration:
    """The tasks of an iteration job: indices start..stop-1, or one per element of `values`, or per row of `params`."""

    start: int
    stop: int
    values: tuple[str, ...] | None = None
    params: tuple[Parameter, ...] = ()

    @property
    def count(self) -> int:
        return self.stop - self.start

    @property
    def is_numbered(self) -> bool:
        """Whether its index is all that tells one task from another."""
        return self.values is None and not self.params

    def value_at(self, pos: int) -> str:
        """`${itval}`: the value; of parameters an object as JSON; else the index."""
        if self.params:
            return json.dumps({param.name: param.at(pos) for param in self.params}, ensure_ascii=False)
        return str(self.start + pos) if self.values is None else self.values[pos]


@dataclass(frozen=True, slots=True)
class Dependency:
    """One element of `dependencies.after`: a whole job, one iteration of it (`index`), or the same index (`same_index`)."""

    job: str
    index: int | None = None
    same_index: bool = False

    def __str__(self) -> str:
        if self.same_index:
            return f"{self.job}:${{it}}"
        return self.job if self.index is None else f"{self.job}:{self.index}"


@dataclass(frozen=True, slots=True)
class RetryRule:
    """Of tasks that have failed: which start again, and how.

    `times`: how often, whatever rule it was by. `codes`, `reasons`: the exit codes (-N after signal N) and words in the reason
    that it is about; without either it is about all. `pause_s`: how long to wait before. `mem`, `wt`: how many times as much
    memory and wall time as the attempt that failed.
    """

    times: int = 1
    codes: tuple[int, ...] = ()
    reasons: tuple[str, ...] = ()
    pause_s: float = 0.0
    mem: float = 1.0
    wt: float = 1.0

    def is_about(self, exit_code: int, reason: str) -> bool:
        if not self.codes and not self.reasons:
            return True
        return exit_code in self.codes or any(text.lower() in reason.lower() for text in self.reasons)


@dataclass(frozen=True, slots=True)
class JobSpec:
    """One accepted job description, after submit-phase substitution.

    `priority`: higher starts first. `retries`: how often a task that ended FAILED is started again. `retry`: rules that go
    before that, see retry.py.
    `attributes`: the client's own object, kept and sent on, never looked into.
    """

    name: str
    execution: Execution
    resources: Resources = Resources()
    iteration: Iteration | None = None
    after: tuple[Dependency, ...] = ()
    attributes: Mapping[str, Any] | None = None
    priority: int = 0
    retries: int = 0
    retry: tuple[RetryRule, ...] = ()

    @property
    def task_count(self) -> int:
        return 1 if self.iteration is None else self.iteration.count

    def index_of(self, pos: int) -> int | None:
        """Iteration index of position `pos`; None for a job without iterations."""
        return None if self.iteration is None else self.iteration.start + pos

    def task_name(self, pos: int) -> str:
        """`JOB`, or `JOB:INDEX` for a task of an iteration job."""
        return self.name if self.iteration is None else f"{self.name}:{self.iteration.start + pos}"

    def value_of(self, pos: int) -> str | None:
        """`${itval}` of position `pos`; None for a job without iterations."""
        return None if self.iteration is None else self.iteration.value_at(pos)
