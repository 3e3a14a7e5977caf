"""Manager <-> agent: two closed sets of messages, and nothing else goes over that link. An agent and its workers use them too.

One ZeroMQ message is one msgpack array of messages, so everything of one loop turn is one frame. Ownership is explicit: a
grant belongs to the agent from `NewGrant` until a `Finished` with `returns_grant`, `Report.returned`, or the loss of the
agent. The agent starts the tasks of a pool in the order they came, each on any grant of that pool which is free; tasks
beyond the number of grants are *lent*: they wait at the agent and hide the round trip.

What an agent reports is kept and told to others, so numbers out of the range that these can hold are refused here, by the
decoder. What an agent may speak of at all is another question (manager/claims.py).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from typing import Annotated, NamedTuple

import msgspec
from msgspec import Meta

from .. import variable_names
from ..model.ids import GrantId, JobNo, PoolId, TaskKey
from ..model.job_spec import Execution
from ..model.resources import GPU, NodeSpec
from ..model.states import Cause as Cause
from . import codec
from .ranges import EXIT_CODES, LATEST_S, MOST, MOST_PID

VERSION = 5
SPREAD_VARIABLE = "PILOTFISH_SPREAD"
"""Marks the processes of a task over several nodes, on all of them."""


class Settings(msgspec.Struct, array_like=True, frozen=True):
    """What an agent needs of the manager's configuration; sent in Welcome."""

    root_wd: str
    aux_dir: str
    kill_grace_s: float
    heartbeat_s: float
    manager_wait_s: float
    """How long an agent keeps its tasks running while no manager answers; then it stops them and ends."""
    env: dict[str, str]
    """Variables for every task, e.g. QCG_PM_ZMQ_ADDRESS."""
    env_schemas: list[str]
    batch: str = "local"
    """Whose allocation it is, as in systems/base.py."""
    here: bool = True
    """All nodes are the machine of the manager: virtual ones, or just this one."""
    bind: bool = True
    """Whether tasks are to be bound to the cores they are given, where these are known."""
    window_s: float = math.inf
    """How long after it has last heard of its manager an agent goes on starting tasks. Later, the manager may take it for
    lost and give them to others; so it starts nothing until the manager has answered its Hello.
    """
    models: bool = True
    """Whether execution models start ranks; else each task is one process."""
    rt_stats: bool = False
    """Whether agents write down when each task began and ended."""
    proc_stats: bool = False
    """Whether agents write down which processes tasks start."""


class JobDef(msgspec.Struct, array_like=True, frozen=True):
    """What the agent must know of a job, sent once per agent before its first task there."""

    job_no: JobNo
    name: str
    execution: Execution
    wt_s: float | None
    is_iteration: bool
    has_params: bool = False
    """`itval` of its tasks is an object of named parameters, as JSON."""
    inputs: list[bytes] = []
    """Of a job of calls: what the calls have returned that it waited for."""


class NamedShare(NamedTuple):
    """What of a named resource: things with ids, or an amount. `parts`: of one thing so many PARTS; 0: whole things."""

    name: str
    ids: list[str]
    amount: int
    parts: int = 0


class NodeShare(NamedTuple):
    """One node's part of a grant, in the words the task sees.

    Of the first node `named` has also what is the pool's. A GPU of which it has a part stands there, and not in `gpu_ids`.
    """

    name: str
    core_ids: list[str]
    gpu_ids: list[str]
    named: list[NamedShare] = []

    @property
    def visible_gpus(self) -> list[str]:
        """The ids of those it may use, whole or in part."""
        return [*self.gpu_ids, *(gpu for share in self.named if share.name == GPU for gpu in share.ids)]


class NewGrant(msgspec.Struct, array_like=True, frozen=True):
    """`nodes[0]` is this agent's node. `bind`: all core ids are processors, to be bound to. `mem_bytes` 0: no limit.

    `hide_gpus`: this agent's node has GPUs and none of them was given.
    """

    grant_id: GrantId
    pool: PoolId
    nodes: list[NodeShare]
    bind: bool
    mem_bytes: int
    hide_gpus: bool = False


class TaskStart(NamedTuple):
    """One task to start. `it`, `itval`: iteration index and value, None for a job without iterations.

    `attempt`: 2 when it has been started once before; `run` also counts what was sent out and came back unstarted.
    From the manager it may stand for a stretch: so many tasks at consecutive positions, whose values are their indices.
    `each` makes single ones of it.
    """

    job_no: JobNo
    pos: int
    run: int
    it: int | None
    itval: str | None
    attempt: int = 1
    length: int = 1
    wt_s: float | None = None
    """Its wall time limit, if it is another than the job's."""


def each(starts: Iterable[TaskStart]) -> Iterator[TaskStart]:
    """The tasks of `starts`, one by one and in order."""
    for start in starts:
        job_no, pos, run, it, _, attempt, length, _ = start
        if length == 1 or it is None:
            yield start
        else:
            for place in range(length):
                yield TaskStart(job_no, pos + place, run, it + place, str(it + place), attempt)


def stretches(job_no: JobNo, first_it: int, attempts: Iterable[tuple[int, int, int]]) -> Iterator[TaskStart]:
    """The fewest starts for these, each (position, run, attempt), in the order to start in; position 0 has index `first_it`."""
    begin = length = last_run = last_attempt = 0
    for pos, run, attempt in attempts:
        if length and pos == begin + length and run == last_run and attempt == last_attempt:
            length += 1
            continue
        if length:
            it = first_it + begin
            yield TaskStart(job_no, begin, last_run, it, str(it), last_attempt, length)
        begin, length, last_run, last_attempt = pos, 1, run, attempt
    if length:
        it = first_it + begin
        yield TaskStart(job_no, begin, last_run, it, str(it), last_attempt, length)


def spread_mark(settings: Settings, key: TaskKey) -> str:
    """The value of SPREAD_VARIABLE for an attempt; its pilot is told by the connection file."""
    return f"{settings.env.get(variable_names.CONNECTION, '')}:{key.job_no}-{key.pos}-{key.run}"


# --- manager -> agent ---------------------------------------------------------------------------------------------------


class Welcome(msgspec.Struct, array_like=True, tag=True, frozen=True):
    """Answer to Hello. `epoch` names this life of the manager; it changes at every restart.

    `hello`: the number of the Hello that is answered. Work that comes before the answer to the latest one was sent by a
    manager that had not read it, and is counted there as never arrived: the agent must not start it.
    """

    epoch: str
    settings: Settings
    hello: int = 0


class WhoAreYou(msgspec.Struct, array_like=True, tag=True, frozen=True):
    """The manager does not know the sender (it was restarted): send Hello with everything you hold."""

    epoch: str


class Work(msgspec.Struct, array_like=True, tag=True, frozen=True):
    jobs: list[JobDef]
    grants: list[NewGrant]
    tasks: dict[PoolId, list[TaskStart]]


class Kill(msgspec.Struct, array_like=True, tag=True, frozen=True):
    """Stop these tasks: SIGTERM, SIGKILL after the grace time. Each is answered by its Finished (cause CANCELED)."""

    tasks: list[TaskKey]


class Revoke(msgspec.Struct, array_like=True, tag=True, frozen=True):
    """Give back those of these tasks that have not started; answered by Report.revoked."""

    tasks: list[TaskKey]


class Forget(msgspec.Struct, array_like=True, tag=True, frozen=True):
    """No task of these jobs will come again: drop their JobDef."""

    job_nos: list[JobNo]


class Sweep(msgspec.Struct, array_like=True, tag=True, frozen=True):
    """These tasks, which agents of other nodes had started, are over: kill what is left of them on this node.

    `marks` are values of SPREAD_VARIABLE.
    """

    marks: list[str]


class Ack(msgspec.Struct, array_like=True, tag=True, frozen=True):
    """All reports up to and including `seq` are on disk; also the manager's heartbeat."""

    seq: int


class Stop(msgspec.Struct, array_like=True, tag=True, frozen=True):
    """End. With `kill` the tasks are stopped first, without it there are none left; `at_once`: without the grace time."""

    kill: bool
    reason: str = ""
    """Why an agent is not wanted; empty at an orderly end."""
    at_once: bool = False


class Drain(msgspec.Struct, array_like=True, tag=True, frozen=True):
    """Its node is to leave: bring to an end what runs, take nothing new, then end."""


class Rename(msgspec.Struct, array_like=True, tag=True, frozen=True):
    """To an agent that brings a node: there is one of that name already. Say Hello again, as the node of this name."""

    node: Name


class MayStart(msgspec.Struct, array_like=True, tag=True, frozen=True):
    """Of an agent to its worker processes: they may start tasks until then, by the monotonic clock of their machine.

    So an agent that is stopped, or has lost its manager, starts nothing through them, and a message that had to wait says
    nothing wrong.
    """

    until_s: float


ToAgent = MayStart | Welcome | WhoAreYou | Work | Kill | Revoke | Forget | Sweep | Ack | Stop | Drain | Rename


# --- agent -> manager ---------------------------------------------------------------------------------------------------


Time = Annotated[float, Meta(gt=0, le=LATEST_S)]
"""Seconds since the epoch."""
Seconds = Annotated[float, Meta(ge=0, le=MOST)]
Pid = Annotated[int, Meta(ge=-1, le=MOST_PID)]
Count = Annotated[int, Meta(ge=0, le=MOST)]
Name = Annotated[str, Meta(max_length=1024)]


class Started(NamedTuple):
    job_no: JobNo
    pos: int
    run: int
    grant_id: GrantId
    pid: Pid
    started_s: Time


class Finished(NamedTuple):
    """Result of one attempt. `pid` -1, `started_s` = `ended_s` when it was not started.

    `exit_code`: as the shell's view of Python has it: -n when killed by signal n, -1 when it could not be started.
    `returns_grant`: the agent has no further task for this grant and gives it back with this message.
    """

    job_no: JobNo
    pos: int
    run: int
    grant_id: GrantId
    pid: Pid
    started_s: Time
    ended_s: Time
    exit_code: Annotated[int, Meta(ge=EXIT_CODES[0], le=EXIT_CODES[1])]
    cause: Cause
    cpu_s: Seconds
    max_rss_kib: Count
    message: str
    returns_grant: bool


class Succeeded(NamedTuple):
    """Results that nothing distinguishes: `Finished` of one job with exit code 0 and no message, whose grants all stay or all
    go back.

    What differs has a column each, all in the same order. It may be any job; the manager knows whether it has iterations.
    """

    job_no: JobNo
    run: int
    returns_grants: bool
    pos: list[int]
    grant_ids: list[GrantId]
    pids: list[Annotated[int, Meta(ge=1, le=MOST_PID)]]
    started_s: list[Time]
    ended_s: list[Time]
    cpu_s: list[Seconds]
    max_rss_kib: list[Count]


class Values(NamedTuple):
    """What calls of one job have returned or raised, as their function workers wrote it: nobody in between looks into it.

    Two columns of equal length.
    """

    job_no: JobNo
    run: int
    pos: list[int]
    data: list[bytes]


class Hello(msgspec.Struct, array_like=True, tag=True, frozen=True):
    """Who the agent is and everything it holds: its first message on every connection, and its answer to WhoAreYou."""

    version: int
    agent_id: Name
    node: Name
    host: Name
    pid: Pid
    grants: list[NewGrant]
    running: list[Started]
    waiting: dict[PoolId, list[TaskKey]]
    next_seq: Count
    """Sequence number of the first report that follows; unacknowledged reports are sent again right after Hello."""
    number: Count = 0
    """Counts the Hellos of this agent."""
    slots: list[list[str]] = []
    """The ways to divide the processors it may use: by hardware thread, by core."""
    sockets: list[list[int]] = []
    """These processors, by socket."""
    near_gpus: list[list[int]] = []
    """For each GPU of the node, by index, the processors close to it."""
    joins: NodeSpec | None = None
    """Of an agent that came by itself: the node it brings along."""
    domains: list[list[int]] = []
    """The processors, by the memory that they have of their own (NUMA)."""


class Report(msgspec.Struct, array_like=True, tag=True, frozen=True):
    """A started task whose end follows within the same 50 ms is only in `finished`. Kept by the agent until acknowledged."""

    seq: Count
    started: list[Started]
    finished: list[Finished]
    revoked: list[TaskKey]
    returned: list[GrantId]
    """Grants given back without a task: those they were meant for had started elsewhere or were revoked."""
    succeeded: list[Succeeded] = []
    """Most ends, if there are many. To be taken in before those in `finished`, but for those that give their grants back: these
    come last, as other ends may be of the same grants.
    """
    values: list[Values] = []
    """Of calls whose ends are in this report, or in a later one if the agent is lost between the two."""


class Beat(msgspec.Struct, array_like=True, tag=True, frozen=True):
    """The agent lives."""


class Bye(msgspec.Struct, array_like=True, tag=True, frozen=True):
    """The agent ends; everything it held is reported."""

    reason: Name


class Draining(msgspec.Struct, array_like=True, tag=True, frozen=True):
    """This agent finishes what runs and takes nothing new; Bye follows."""


class Gone(msgspec.Struct, array_like=True, tag=True, frozen=True):
    """From an agent's watcher on its host: the agent was killed, and nothing of it runs there any more. Stop answers it."""

    agent_id: Name


ToManager = Hello | Report | Beat | Draining | Bye | Gone

_encoder = msgspec.msgpack.Encoder()
_to_agent = msgspec.msgpack.Decoder(list[ToAgent])
_to_manager = msgspec.msgpack.Decoder(list[ToManager])


def encode(messages: Sequence[ToAgent] | Sequence[ToManager]) -> bytes:
    try:
        return _encoder.encode(messages)
    except UnicodeEncodeError:  # odd bytes, as in a path in a message
        return _encoder.encode(codec.without_surrogates(messages))


def decode_to_agent(frame: bytes) -> list[ToAgent]:
    """Raises msgspec.DecodeError for anything that is not such a frame."""
    return _to_agent.decode(frame)


def decode_for_start(frame: bytes) -> list[ToAgent]:
    """The same for those who start tasks: texts are as the operating system takes them."""
    messages = decode_to_agent(frame)
    if not codec.has_marks(frame):
        return messages
    return msgspec.convert(
        codec.map_texts(msgspec.to_builtins(messages, builtin_types=(bytes,)), codec.to_os), list[ToAgent]
    )


def decode_to_manager(frame: bytes) -> list[ToManager]:
    """Raises msgspec.DecodeError for anything that is not such a frame."""
    try:
        return _to_manager.decode(frame)
    except (UnicodeDecodeError, RecursionError) as error:  # what the decoder lets through
        raise msgspec.DecodeError(str(error)) from error
