"""The ends of calls, kept for the executors that wait for them.

A value comes with a report of an agent, before the end of its call, and is told with it: to the one executor whose call it was,
which asks for it (request `callResults`) and gets all that has ended since, at once or as soon as there is something. What it
asks for next says what it has: that is forgotten here, or kept for a later life of an executor with a name. So a reply that is
lost costs nothing, and neither does a client that is gone for an hour.

All of it follows from the journal: a manager that is started again tells the ends of all calls whose jobs are still there.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from ..model.decisions import Change, Changes, Lent, Succeeded
from ..model.ids import JobNo
from ..model.jobs import Job
from ..model.registry import Registry
from ..model.states import State
from ..model.steps import SLICE, Pause, Steps
from ..wire.frames import Values
from ..wire.records import Returned
from ..wire.replies import CallEnds, CallJob, CallResults
from .value_folder import ValueFolder

_Task = tuple[JobNo, int]

_MOST_BYTES = 4 << 20
_MOST_ENDS = 5000
"""Of one reply, about."""
_TOLD = frozenset({State.EXECUTING, State.SUCCEED, State.FAILED, State.CANCELED, State.OMITTED})


class _Entry(NamedTuple):
    seq: int
    ends: CallEnds
    size: int


class _Outbox:
    """What one executor has not confirmed; and what it has, if a later life of it may ask for that (`kept`)."""

    __slots__ = ("entries", "kept", "last", "turn")

    def __init__(self) -> None:
        self.entries: deque[_Entry] = deque()
        self.kept: list[_Entry] = []
        self.last = 0
        self.turn = 0
        """Counts the requests for it."""

    def add(self, ends: CallEnds) -> None:
        self.last += 1
        self.entries.append(_Entry(self.last, ends, sum(map(len, ends.values))))

    def confirm(self, seq: int, keep: bool) -> None:
        """All up to this number has arrived."""
        entries = self.entries
        while entries and entries[0].seq <= seq:
            entry = entries.popleft()
            if keep:
                self.kept.append(entry)

    def begin_anew(self) -> None:
        """Another life of the executor asks: it has nothing."""
        self.entries.extendleft(reversed(self.kept))
        self.kept.clear()


class CallOutboxes:
    """`record` notes a journal record; `epoch` names this life of the manager, as numbers of entries begin anew with each.

    `folder`: where large values go.
    """

    def __init__(self, epoch: str, record: Callable[[Returned], None], folder: ValueFolder, jobs: Registry) -> None:
        self.folder = folder
        self._jobs = jobs
        self._epoch = epoch
        self._record = record
        self._values: dict[_Task, tuple[int, bytes]] = {}
        """Of calls whose end has not come yet, with the number of the attempt: a later one may end without a value."""
        self._outboxes: dict[str, _Outbox] = {}
        self._takes: dict[JobNo, list[_Task]] = {}
        """The calls whose values a job takes that has not ended."""
        self._users: dict[_Task, int] = {}
        """By how many jobs."""
        self._kept: dict[_Task, bytes] = {}
        """Their values, of those that have ended."""
        self.has_news = False
        """Something has come since that was last set to False."""

    def take(self, values: Iterable[Values]) -> None:
        """What calls have returned, as an agent reports it."""
        for of_job in values:
            self._record(Returned(*of_job))
            self.remember(*of_job)

    def remember(self, job_no: JobNo, run: int, positions: Sequence[int], data: Sequence[bytes]) -> None:
        """The same, when it is on record already. An agent that was lost may tell late of an attempt that another followed."""
        values, nothing = self._values, (0, b"")
        for pos, value in zip(positions, data, strict=True):
            if values.get((job_no, pos), nothing)[0] <= run:
                values[job_no, pos] = run, value

    # --- values that other calls take --------------------------------------------------------------------------------------

    def expect(self, job: Job) -> None:
        """This job has been accepted: what it takes of other calls is kept until it has ended."""
        calls = job.spec.execution.calls
        if calls is None or not calls.inputs:
            return
        takes = self._takes[job.no] = []
        for dependency in job.spec.after[: calls.inputs]:
            other = self._jobs.find(dependency.job)
            assert dependency.index is not None
            task = (JobNo(0), 0) if other is None else (other.no, other.pos_of(dependency.index))
            takes.append(task)
            self._users[task] = self._users.get(task, 0) + 1
            value = None if other is None or task in self._kept else self._unconfirmed(other, task[1])
            if value is not None:
                self._kept[task] = value

    def expect_all(self) -> None:
        """The same for all jobs of an earlier life."""
        for no in self._jobs.numbers():
            job = self._jobs.by_no(no)
            if job is not None and not job.state.final:
                self.expect(job)

    def _unconfirmed(self, job: Job, pos: int) -> bytes | None:
        """The value of a call that has ended, as long as its executor has not confirmed it."""
        calls = job.spec.execution.calls
        for entry in () if calls is None else self._outbox(calls.executor).entries:
            ends = entry.ends
            if ends.job == job.spec.name and ends.values and pos in ends.pos:
                return ends.values[ends.pos.index(pos)]
        return None

    def inputs_of(self, job: Job) -> list[bytes]:
        """What the calls have returned that this job takes. They have ended; of some that may not have been told yet."""
        kept, values, nothing = self._kept, self._values, (0, b"")
        return [kept[task] if task in kept else values.get(task, nothing)[1] for task in self._takes.get(job.no, ())]

    def _release(self, job: Job) -> None:
        for task in self._takes.pop(job.no, ()):
            self._users[task] -= 1
            if not self._users[task]:
                del self._users[task]
                self._kept.pop(task, None)

    # --- ends ----------------------------------------------------------------------------------------------------------------

    def changed(self, changes: Iterable[Changes]) -> None:
        """Take note of what concerns calls."""
        for change in changes:
            calls = change.job.spec.execution.calls
            if calls is None or isinstance(change, Lent):
                continue
            if isinstance(change, Succeeded):
                job, positions = change.job, change.ends.pos
                values = self._values_of(job, change.ends.run, positions)
                self._tell(calls.executor, CallEnds(job.spec.name, positions, "SUCCEED", values))
            elif change.pos is not None and change.state in _TOLD:
                self._tell(calls.executor, self._one(change))
            elif change.ends_job:
                self._release(change.job)
                if change.state is not State.SUCCEED:
                    rest = CallEnds(change.job.spec.name, [], change.state.name, message=change.message)
                    self._tell(calls.executor, rest)

    def _one(self, change: Change) -> CallEnds:
        job, positions = change.job, [change.pos or 0]
        if not change.state.final:
            return CallEnds(job.spec.name, positions, change.state.name)
        run = job.tasks.run(positions[0])
        values = [value for value in self._values_of(job, run, positions) if value]
        return CallEnds(job.spec.name, positions, change.state.name, values, change.message)

    def _values_of(self, job: Job, run: int, positions: list[int]) -> list[bytes]:
        pop, no, nothing = self._values.pop, job.no, (0, b"")
        found = [pop((no, pos), nothing) for pos in positions]
        values = [value if of == run else b"" for of, value in found]
        if self._users:
            kept = zip(positions, values, strict=True)
            self._kept.update(((no, pos), value) for pos, value in kept if (no, pos) in self._users)
        return values

    def _tell(self, executor: str, ends: CallEnds) -> None:
        self._outbox(executor).add(ends)
        self.has_news = True

    def _outbox(self, executor: str) -> _Outbox:
        outbox = self._outboxes.get(executor)
        if outbox is None:
            outbox = self._outboxes[executor] = _Outbox()
        return outbox

    def jobs_of(self, executor: str) -> Steps[list[CallJob]]:
        """All jobs of its calls that have not been removed."""
        found = []
        for number, no in enumerate(self._jobs.numbers(), 1):
            job = self._jobs.by_no(no)
            calls = None if job is None else job.spec.execution.calls
            if job is not None and calls is not None and calls.executor == executor:
                found.append(CallJob(job.spec.name, job.spec.task_count, calls.keys))
            if not number % SLICE:
                yield Pause.MORE
        return found

    def turn_of(self, executor: str) -> int:
        """The number of the next request of this executor. One that waits has nothing to wait for any more."""
        outbox = self._outbox(executor)
        outbox.turn += 1
        self.has_news = True
        return outbox.turn

    def is_turn(self, executor: str, turn: int) -> bool:
        """Whether no later request has come than the one with this number."""
        return self._outbox(executor).turn == turn

    def after(self, executor: str, epoch: str, seq: int, keep: bool = False) -> CallResults:
        """What the executor has not got. It has all up to number `seq` of life `epoch`: that is forgotten, unless `keep`."""
        outbox = self._outbox(executor)
        if epoch == self._epoch:
            outbox.confirm(seq, keep)
        elif outbox.kept:
            outbox.begin_anew()
        entries = outbox.entries
        told: list[CallEnds] = []
        last, size, count = seq if epoch == self._epoch else 0, 0, 0
        for entry in entries:
            told.append(entry.ends)
            last, size, count = entry.seq, size + entry.size, count + len(entry.ends.pos)
            if size >= _MOST_BYTES or count >= _MOST_ENDS:
                break
        return CallResults(self._epoch, last, told, self.folder.path)
