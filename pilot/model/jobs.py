"""One accepted job and all that hangs on it: its tasks, what of it waits, and the leases of those who wait alike."""

# `Job` -> `Pending` (its positions with one need) -> `Shape` (all work with that need) -> `LeasePool` (what one agent has
# of it) -> back to the tasks. It is one linked structure, so it stands in one file. What a pool counts is in leases.py, and who
# asks a job for what waits of it does so in queue.py.
#
# Why it looks like that. A job may have a million iterations, and a pilot a million jobs, so nothing here is made per task
# before that task is touched, and nothing is looked at per task to find the next one:
#
# - A `Pending` is a cursor over a range of positions, and a small heap of those that came back (retries, revoked, lost).
#   Taking the next one is O(1), whatever the size of the range. It makes no list of the positions.
# - A `Shape` has a heap of the `Pending`s that have something to take, by priority and then by job number. The scheduler
#   looks at the heads of the shapes only. A job is in it at most once (`listed`), and is taken out when it is found to be
#   empty at the top, not when it becomes empty: removal from the middle of a heap would cost a search.
# - A position that is cancelled while it waits stays under the cursor and is skipped when that gets there; only the count
#   `live` is put right at once (`withdrawn`). So cancelling costs the same wherever in the queue the task is.
#
# Invariants: `live` is how many positions `take` can still give; `users` of a shape is how many `Pending`s of jobs that
# have not ended point to it; a shape that nobody uses, and whose pools are empty, is forgotten in the same turn
# (`Queue.forget`): each shape costs every later turn a look at its head.
#
# A job may say what else will do (alternatives). Then its `Pending` waits in several shapes: its own, and for each alternative
# as an `Alternative`, which takes positions from the same cursor. Whatever shape is asked first gives the next position, so
# nothing is taken twice, and each pool has one need.
#
# Rejected: one queue for everything, by priority. The first task that does not fit hides all that do, or everything behind
# it has to be looked at in each turn. A queue for each node: tasks would have to be given to a node before it is known to
# be the first with room.
#
# Example. `a` has iterations 0..9 and is taken up to position 3; 1 failed and is to be tried again, 5 was cancelled. The
# range is (4, 10), the heap has 1, `live` is 1 + 5 = 6: `take` gives 1, 4, 6, 7, 8, 9.

from __future__ import annotations

from collections.abc import Sequence
from heapq import heappop, heappush

from .errors import NoIterationsError, UnknownJobError
from .ids import JobNo, NodeNo, PoolId
from .job_spec import JobSpec, Need
from .leases import Leases
from .states import State
from .tasks import ManyTasks, OneTask, Places

Key = tuple[int, int]
"""Order of waiting work: (-priority, job number); smaller is earlier."""


class Pending:
    """The positions of one job, all with the same need, that may be taken: a range with a cursor, and those that came back.

    Nothing can be taken before `open_range` or `put_back`. A position that is no longer QUEUED (cancelled) is skipped when
    the cursor gets there; whoever changes its state calls `withdrawn`.
    """

    __slots__ = ("_back", "_ranges", "alternatives", "blocked_since", "job", "listed", "live", "shape")

    def __init__(
        self, job: Job, shape: Shape, ranges: tuple[tuple[int, int], ...], others: Sequence[Shape] = ()
    ) -> None:
        self.job = job
        self.shape = shape
        shape.users += 1
        self.alternatives: tuple[Alternative, ...] = ()
        """The other shapes in which its positions wait, most liked first."""
        if others:
            self.alternatives = tuple(Alternative(self, other, rank) for rank, other in enumerate(others, 1))
        self.live = 0
        """How many positions can be taken now."""
        self.listed = False
        self.blocked_since: float | None = None
        """Since when later work has been passing it, in seconds of `Dispatch.uptime`; None while none has."""
        self._ranges = ranges
        self._back: list[int] | None = None

    @property
    def key(self) -> Key:
        return (-self.job.spec.priority, self.job.no)

    def __lt__(self, other: Entry) -> bool:
        """Of entries of one job that wait in one shape, none comes before the other."""
        return False

    @property
    def primary(self) -> Pending:
        return self

    @property
    def entries(self) -> tuple[Entry, ...]:
        """Itself and its alternatives, most liked first."""
        return (self, *self.alternatives)

    @property
    def rank(self) -> int:
        """Its place among the alternatives of its job."""
        return 0

    @property
    def is_last(self) -> bool:
        """Nothing else will do for it."""
        return not self.alternatives

    def open_range(self) -> None:
        """Make all queued positions of the range available."""
        self.live = sum(self.job.tasks.queued(start, stop) for start, stop in self._ranges)

    def clear_range(self) -> None:
        """Nothing of the range is available by itself: positions come one by one through `put_back`."""
        self._ranges = ()
        self.live = 0

    def put_back(self, pos: int) -> None:
        if self._back is None:
            self._back = []
        heappush(self._back, pos)
        self.live += 1

    def withdrawn(self) -> None:
        """One of the available positions has left the state QUEUED otherwise than by `take`."""
        self.live -= 1

    def take(self) -> int:
        """The lowest available position; only when `live` is not 0. The caller changes its state at once."""
        self.live -= 1
        state = self.job.tasks.state
        while self._back:
            pos = heappop(self._back)
            if state(pos) is State.QUEUED:
                return pos
        while True:
            (start, stop), *rest = self._ranges
            pos = start
            while pos < stop and state(pos) is not State.QUEUED:
                pos += 1
            if pos < stop:
                self._ranges = ((pos + 1, stop), *rest)
                return pos
            self._ranges = tuple(rest)

    def take_stretch(self, most: int) -> range:
        """Up to `most` of the lowest available positions, if they are consecutive and were never started; else an empty range.

        The caller changes their state at once.
        """
        tasks = self.job.tasks
        if self._back or not self._ranges or not isinstance(tasks, ManyTasks):
            return range(0)
        (start, stop), *rest = self._ranges
        taken = range(start, start + tasks.fresh(start, min(stop, start + most)))
        if taken:
            self.live -= len(taken)
            self._ranges = ((taken.stop, stop), *rest)
        return taken


class Alternative:
    """A Pending in another shape: what its tasks may have instead. Its positions are those of `primary`."""

    __slots__ = ("listed", "primary", "rank", "shape")

    def __init__(self, primary: Pending, shape: Shape, rank: int) -> None:
        self.primary = primary
        self.shape = shape
        shape.users += 1
        self.rank = rank
        self.listed = False

    def __lt__(self, other: Entry) -> bool:
        return False

    @property
    def job(self) -> Job:
        return self.primary.job

    @property
    def key(self) -> Key:
        return self.primary.key

    @property
    def live(self) -> int:
        return self.primary.live

    @property
    def is_last(self) -> bool:
        return self.rank == len(self.primary.alternatives)

    def take(self) -> int:
        return self.primary.take()

    def take_stretch(self, most: int) -> range:
        return self.primary.take_stretch(most)


Entry = Pending | Alternative
"""What waits in a shape."""

Pendings = Pending | tuple[tuple[int, Pending], ...]
"""What a job has waiting: one Pending for all positions, or (first position, Pending) in order."""


class Grown:
    """Tasks of a job that are to have more than the others (retry.py).

    `of`: by position, their Pending; `pendings`: all of them, which need not have one of these positions any more; `wt_s`: by
    position, wall time limits.
    """

    __slots__ = ("of", "pendings", "wt_s")

    def __init__(self) -> None:
        self.of: dict[int, Pending] = {}
        self.pendings: dict[ShapeKey, Pending] = {}
        self.wt_s: dict[int, float] = {}


ShapeKey = tuple[Need, tuple[int, int], tuple[int, int]]
"""What tasks must have in common to wait together: their need, and the classes of their wall time limit and least time."""


class Shape:
    """All waiting work with one need and much the same wall time limit, and the pools that run it.

    It lives as long as a job may have something to add, or an agent holds something of it: `Queue.release` and
    `Queue.forget`. A shape without work that stayed would cost each later turn its share.
    """

    __slots__ = ("_heap", "key", "least_s", "mean_s", "need", "pools", "users", "wt_s")

    def __init__(self, key: ShapeKey, need: Need) -> None:
        self.key = key
        self.need = need
        self.wt_s = 0.0
        """How long its tasks may take at most; 0 when they do not say."""
        self.least_s = 0.0
        """How much time must be left where they start: all that they may take, unless less is of use to them (`min_time`)."""
        self.mean_s: float | None = None
        """How long its tasks took on the node that was lost last."""
        self.users = 0
        """How many `Pending`s of jobs that have not ended belong here."""
        self.pools: dict[NodeNo, LeasePool] = {}
        self._heap: list[tuple[Key, Entry]] = []

    def add(self, pending: Pending) -> None:
        """Note that `pending` has something to take, also in its other shapes; harmless when it is noted, or has nothing."""
        if not pending.live:
            return
        self._list(pending)
        for alternative in pending.alternatives:
            alternative.shape._list(alternative)

    def _list(self, entry: Entry) -> None:
        if not entry.listed:
            entry.listed = True
            heappush(self._heap, (entry.key, entry))

    def head(self) -> Entry | None:
        """The earliest entry with something to take."""
        while self._heap:
            pending = self._heap[0][1]
            if pending.live:
                return pending
            heappop(self._heap)
            pending.listed = False
        return None

    def first(self, most: int) -> tuple[list[Pending], bool]:
        """`most` entries, in no order, some of which may have nothing to take any more; and whether there are others.

        What waits in another shape first is not among them.
        """
        listed = [entry for _, entry in self._heap[:most] if isinstance(entry, Pending)]
        return listed, len(self._heap) > most


class LeasePool(Leases):
    """The grants and unstarted tasks of one shape on one node."""

    __slots__ = ("node", "pool_id", "shape")

    def __init__(self, pool_id: PoolId, node: NodeNo, shape: Shape) -> None:
        super().__init__()
        self.pool_id = pool_id
        self.node = node
        self.shape = shape


class Dependents:
    """The jobs that wait for a job: for its end, for the end of one position, and index by index."""

    __slots__ = ("on_job", "on_pos", "same_index")

    def __init__(self) -> None:
        self.on_job: list[Job] = []
        self.on_pos: dict[int, list[Job]] = {}
        self.same_index: list[Job] = []


class Job:
    """One accepted job. Fields that few jobs need are None until they are."""

    __slots__ = (
        "canceling",
        "crashes",
        "dependents",
        "ended_s",
        "failed",
        "failures",
        "finished",
        "grown",
        "message",
        "messages",
        "no",
        "pendings",
        "spec",
        "state",
        "submitted_s",
        "tasks",
        "unmet",
        "unmet_at",
    )

    def __init__(self, no: JobNo, spec: JobSpec, submitted_s: float, places: Places) -> None:
        self.no = no
        self.spec = spec
        self.submitted_s = submitted_s
        self.ended_s = 0.0
        self.state = State.QUEUED
        self.tasks: OneTask | ManyTasks = OneTask() if spec.iteration is None else ManyTasks(spec.task_count, places)
        self.pendings: Pendings = ()
        self.finished = 0
        """Tasks in a final state."""
        self.failed = 0
        """Tasks that ended otherwise than SUCCEED."""
        self.canceling = False
        self.unmet = 0
        """Dependencies of the whole job that have not been met yet."""
        self.unmet_at: list[int] | None = None
        """The same by position, for dependencies on the same index of another job."""
        self.dependents: Dependents | None = None
        self.message = ""
        self.messages: dict[int, str] | None = None
        self.failures: dict[int, int] | None = None
        """How often a task failed and was started again, by position."""
        self.crashes: dict[int, int] | None = None
        """How often an agent was lost under a task that was started again, by position."""
        self.grown: Grown | None = None

    def __repr__(self) -> str:
        return f"<Job {self.no} {self.spec.name!r} {self.state.name} {self.finished}/{self.spec.task_count}>"

    def __lt__(self, other: Job) -> bool:
        return self.no < other.no

    def wt_of(self, pos: int) -> float | None:
        """The wall time limit of a task, if it is another than the job's."""
        return None if self.grown is None else self.grown.wt_s.get(pos)

    @property
    def is_iteration(self) -> bool:
        return self.spec.iteration is not None

    def attempts(self, pos: int) -> int:
        """How often a task that was started at all has been started."""
        return 1 + sum(counts.get(pos, 0) for counts in (self.failures, self.crashes) if counts)

    def failures_of(self, pos: int) -> int:
        """How often a task has failed and was started again."""
        return self.failures.get(pos, 0) if self.failures else 0

    def message_of(self, pos: int | None) -> str:
        """What went wrong, for the job or one of its tasks; empty when nothing did."""
        if pos is None or not self.is_iteration:
            return self.message
        return self.messages.get(pos, "") if self.messages else ""

    def set_message(self, pos: int | None, text: str) -> None:
        if pos is None or not self.is_iteration:
            self.message = text
        else:
            self.messages = self.messages or {}
            self.messages[pos] = text

    def pos_of(self, index: int) -> int:
        """Position of an iteration index. Raises UnknownJobError when the job has no such iteration."""
        iteration = self.spec.iteration
        if iteration is None:
            raise NoIterationsError(f"Job {self.spec.name} has no iterations", where=f"{self.spec.name}:{index}")
        if not iteration.start <= index < iteration.stop:
            raise UnknownJobError(f"Unknown iteration {index} for job {self.spec.name}")
        return index - iteration.start

    def final_state(self) -> State:
        """State of the job when all its tasks are final.

        SUCCEED if all of them have; CANCELED if the job as a whole was cancelled; FAILED if any ended otherwise."""
        if not self.is_iteration:
            return self.tasks.state(0)
        if self.failed == 0:
            return State.SUCCEED
        return State.CANCELED if self.canceling else State.FAILED
