"""Replies to clients: one type for each, built by the manager and decoded by clients.

A reply is an `Envelope` whose `data` depends on the request; each type of data names its request. The order of the fields is
the order of the members on the wire, and a member without a value is left out: old clients and recordings pin both. A client
must also understand an original service, which leaves out what is ours and writes null where we write nothing, so only members
that every service sends are without a default.

Plain dictionaries were used here before: every client then repeated the names of the members as strings, and a typing error
in one was found by nobody.
"""

from __future__ import annotations

from typing import Generic, TypeVar

from msgspec import UNSET, Struct, UnsetType, field

from ..model.states import State
from .events import Event

T = TypeVar("T")

FINAL = frozenset(state.name for state in State if state.final)
"""The states of the wire that nothing can follow."""


class ErrorDetail(Struct):
    """What an error reply says for programs (ours); see `PilotfishError`."""

    code: str = "refused"
    where: str = ""
    remedy: str = ""


class Envelope(Struct, Generic[T], omit_defaults=True):
    """Every reply. `code` 0: `data` has the answer, if there is one; else `message` says what is wrong."""

    code: int
    message: str | None = None
    data: T | None = None
    error: ErrorDetail | None = None


class Entry(Struct, Generic[T], omit_defaults=True):
    """The answer for one of several names: `status` 0 with data, or 1 with a message."""

    status: int
    message: str | None = None
    data: T | None = None


class Entries(Struct, Generic[T]):
    """The answer for several names, in the order in which they were asked for."""

    jobs: dict[str, Entry[T]]


# --- jobs ---------------------------------------------------------------------------------------------------------------


class Submitted(Struct):
    """Data of `submit`."""

    submitted: int
    jobs: list[str]


class JobStatus(Struct, rename="camel"):
    """Data of one entry of `jobStatus`."""

    job_name: str
    status: str


class Iterations(Struct, omit_defaults=True):
    """How far a job with iterations is; indices are [start, stop), `failed` is a part of `finished`.

    `running` (ours): how many run now. The state of the job itself is QUEUED until all have ended, as it always was.
    """

    start: int
    stop: int
    total: int
    finished: int
    failed: int
    running: int = 0


class Runtime(Struct, omit_defaults=True):
    """A task that was placed, all of it as text. What still runs has neither rtime nor exit code; `signal`: its
    number, for a task that a signal ended. From `node` on the members are ours, but for pid and pname.
    """

    allocation: str | None = None
    wd: str | None = None
    rtime: str | None = None
    exit_code: str | None = None
    pid: str | None = None
    pname: str | None = None
    node: str | None = None
    resources: str | None = None
    """GPUs and named resources it had, e.g. `gpu=0 nvme=1,2 licence=1`; of each of several nodes, with `; ` between."""
    signal: str | None = None
    cpu_s: str | None = None
    max_rss_kib: str | None = None
    attempts: str | None = None


class IterationInfo(Struct, omit_defaults=True):
    """One element of `childs`."""

    iteration: int
    state: str
    runtime: Runtime | None = None
    messages: str | None = None


class JobInfo(Struct, rename={"job_name": "jobName"}, omit_defaults=True):
    """Data of one entry of `jobInfo`: a job or a task.

    `history`: see the function of that name. `explain` (ours): why it is not running. `next` (ours): what to give as `after`
    for the next page of `childs`; absent on the last.
    """

    job_name: str
    status: str
    iterations: Iterations | None = None
    childs: list[IterationInfo] | None = None
    messages: str | None = None
    runtime: Runtime | None = None
    history: str | None = None
    explain: list[str] | None = None
    next: int | None = None

    @property
    def state(self) -> str:
        """For people: EXECUTING when something runs."""
        return State.EXECUTING.name if self.iterations is not None and self.iterations.running else self.status


class ListedJob(Struct, rename={"in_queue": "inQueue"}, omit_defaults=True):
    """`in_queue`: its place among the queued jobs, from 0; None for a job that is not queued.

    `running` (ours): of a QUEUED job with iterations how many of these run now, if any do.
    """

    status: str
    messages: str | None = None
    in_queue: int | None = None
    running: int = 0

    @property
    def state(self) -> str:
        """For people: EXECUTING when something runs."""
        return State.EXECUTING.name if self.running else self.status


class JobList(Struct):
    """Data of `listJobs`. `next` (ours): what to give as `after` for the next page; absent on the last."""

    length: int
    jobs: dict[str, ListedJob]
    next: int | UnsetType = UNSET


class Canceled(Struct, omit_defaults=True):
    """Data of `cancelJob`. `errors`: by name, what went wrong with it."""

    canceled: int
    errors: dict[str, str] | None = None

    @property
    def count(self) -> int:
        return self.canceled


class Removed(Struct, omit_defaults=True):
    """Data of `removeJob`."""

    removed: int
    errors: dict[str, str] | None = None

    @property
    def count(self) -> int:
        return self.removed


# --- the pilot ----------------------------------------------------------------------------------------------------------


class NamedCounts(Struct):
    """Of a named resource: how much of it there is, and how much is wholly free; bytes where it is one of bytes."""

    total: int
    free: int


class Resources(Struct):
    """Data of `resourcesInfo`."""

    total_nodes: int
    total_cores: int
    used_cores: int
    free_cores: int
    named: dict[str, NamedCounts] | UnsetType = UNSET
    """(ours) Of nodes and of the pilot."""


class System(Struct, rename="pascal"):
    """The manager itself. `event_seq`: number of the last event (ours); `status_publisher`: None once it has ended."""

    instance_id: str = ""
    started: str = ""
    generated: str = ""
    uptime: str = ""
    zmqaddress: str = ""
    ifaces: list[str] = []
    status_publisher: str | None = None
    event_seq: int | UnsetType = UNSET
    host: str = ""
    account: str = ""
    wd: str = ""
    python_version: str = ""
    python: str = ""
    platform: str = ""
    metrics_address: str | UnsetType = UNSET
    """Where metrics are served."""
    aux_dir: str | UnsetType = UNSET
    """(ours) Where its connection file is, for those who may read it."""
    problem: str | UnsetType = UNSET
    """Why the pilot had to end, if it had to."""
    warnings: list[str] | UnsetType = UNSET
    """What was not as it should be when it began."""
    interrupted: int | UnsetType = UNSET
    """How many tasks were stopped because the pilot had to end."""
    stalled: bool | UnsetType = UNSET
    """Nothing runs, and nothing that is queued can start before the end."""


class NodeCounts(Struct, rename="pascal"):
    """`ready_nodes` (ours): those with an agent."""

    total_nodes: int = 0
    ready_nodes: int | UnsetType = UNSET
    total_cores: int = 0
    used_cores: int = 0
    free_cores: int = 0
    named: dict[str, NamedCounts] | UnsetType = UNSET
    """(ours) Of nodes and of the pilot."""


class JobCounts(Struct, rename=lambda name: f"{name.title().replace('_', '')}Jobs"):
    """Jobs by state: `failed` has the omitted ones too, `finished` those that succeeded or were canceled."""

    total: int
    in_schedule: int
    failed: int
    finished: int
    executing: int


class TaskCounts(Struct, rename=lambda name: f"{name.title().replace('_', '')}Iterations"):
    """The same of tasks; a job without iterations counts as one.

    `executing` has those whose start was reported; `running` (ours) also those that are over before that is done.
    """

    total: int
    in_schedule: int
    failed: int
    finished: int
    executing: int
    running: int | UnsetType = UNSET

    @property
    def now_running(self) -> int:
        return self.executing if self.running is UNSET else self.running

    @property
    def ended(self) -> int:
        return self.finished + self.failed


class Status(Struct):
    """Data of `status`, and the content of `final_status.json`."""

    system: System = field(name="System")
    resources: NodeCounts = field(name="Resources")
    jobs: JobCounts = field(name="JobStats")
    tasks: TaskCounts = field(name="IterationStats")


class AllFinished(Struct):
    """Data of `status` with the option `allJobsFinished`."""

    all_finished: bool = field(name="AllJobsFinished")


class EventList(Struct):
    """Data of `events`: those after the number that was asked for, oldest first, perhaps only the first of them; `last` is the
    number of the newest. `missed`: some are no longer kept.
    """

    events: list[Event]
    last: int
    missed: bool


class CallEnds(Struct, omit_defaults=True):
    """What has become of calls of one job, by position; of those that execute only that they do. No position: of all that are
    left, as of a job that is omitted.

    `values`: what each has returned; of one that failed what it raised, if that is known. `message`: why it failed.
    """

    job: str
    pos: list[int]
    state: str
    values: list[bytes] = []
    message: str = ""


class CallJob(Struct):
    """A job of an executor's calls, with the keys that it gave them."""

    job: str
    count: int
    keys: bytes


class CallResults(Struct):
    """Data of `callResults`. `last` is the number of the newest end in it, in life `epoch` of the manager.

    `folder`: where large values go, for those who can see it. `jobs`: all of this executor, if they were asked for.
    """

    epoch: str
    last: int
    ends: list[CallEnds]
    folder: str = ""
    jobs: list[CallJob] = []


class Released(Struct):
    """Data of `release`: how many nodes of the allocation are here."""

    nodes: int


class FinishTime(Struct):
    """Data of `finish`: after how long, as `2s`."""

    when: str
