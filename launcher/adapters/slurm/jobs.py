"""The queue of batch jobs: events in, decisions out. No socket, no file, no clock.

A job is PENDING *here* until it may start: not held, its time has come, what it depends on has happened, its array has room.
Then `plan` returns it, and it is the pilot's: it may still be PENDING, for resources, and what it becomes is told by the pilot.
Invariants: a job has an attempt at the pilot exactly while `pilot_name` is set; `plan` never returns one twice; a job that has
ended changes no more, but by `requeue`.

Elements of an array are jobs of their own from the start. The last has the id of the array, as in Slurm.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

from ...machines import slurm_facts
from .dependencies import Clause, Dependency, Verdict
from .request import Request

WAITING_FOR_PILOT = "Resources"
NOTHING = "None"
_SIGTERM = 15


@dataclass(eq=False)
class Job:
    """A batch job, or an element of an array. Times are seconds since the epoch; None: not yet."""

    id: int
    request: Request
    submitted: float
    array_id: int = 0
    index: int | None = None
    state: str = "PENDING"
    reason: str = NOTHING
    eligible: float | None = None
    started: float | None = None
    ended: float | None = None
    exit_code: int = 0
    signal: int = 0
    nodes: tuple[str, ...] = ()
    restarts: int = 0
    held: bool = False
    pilot_name: str = ""
    canceled_by: int | None = None
    requeuing: bool = False
    dependency: Dependency = field(default_factory=Dependency)

    def __post_init__(self) -> None:
        self.held = self.request.hold
        self.dependency = self.request.dependency

    @property
    def label(self) -> str:
        """`12`, or `12_3`."""
        return str(self.id) if self.index is None else f"{self.array_id}_{self.index}"

    @property
    def is_over(self) -> bool:
        return self.state not in ("PENDING", "RUNNING", "COMPLETING")

    @property
    def is_good(self) -> bool:
        return self.state == "COMPLETED"

    def has_begun(self, at: float) -> bool:
        return self.started is not None and self.started <= at

    def ran_s(self, now: float) -> float:
        if self.started is None:
            return 0.0
        return max(0.0, (now if self.ended is None else self.ended) - self.started)


class Queue:
    """All jobs of this controller. `session` makes the names of its jobs at the pilot its own; `take_ids` gives the first of so
    many new ids.
    """

    def __init__(self, session: str, take_ids: Callable[[int], int]) -> None:
        self._session = session
        self._take_ids = take_ids
        self._by_id: dict[int, Job] = {}
        self._arrays: dict[int, list[Job]] = {}
        self._by_pilot_name: dict[str, Job] = {}
        self._waiting: dict[int, Job] = {}
        self.changed = False
        """Whether `plan` may have something to say."""

    def __iter__(self) -> Iterator[Job]:
        return iter(self._by_id.values())

    # --- events ------------------------------------------------------------------------------------------------------

    def submit(self, request: Request, now: float) -> int:
        """Returns the id of the job, or of the array."""
        self.changed = True
        first = self._take_ids(len(request.array.indices) if request.array is not None else 1)
        if request.array is None:
            self._add(Job(first, request, now))
            return first
        indices = request.array.indices
        elements = [
            Job(first if place == len(indices) else first + place, request, now, first, index)
            for place, index in enumerate(indices, 1)
        ]
        self._arrays[first] = elements
        for element in elements:
            self._add(element)
        return first

    def _add(self, job: Job) -> None:
        self._by_id[job.id] = job
        self._waiting[job.id] = job

    def withdraw(self, job: Job) -> None:
        """The pilot has refused it: it never was."""
        self._by_id.pop(job.id, None)
        self._waiting.pop(job.id, None)
        self._by_pilot_name.pop(job.pilot_name, None)

    def on_start(self, pilot_name: str, nodes: Iterable[str], time: float) -> Job | None:
        job = self._by_pilot_name.get(pilot_name)
        if job is not None and not job.is_over:
            job.state, job.reason, job.started, job.nodes = "RUNNING", NOTHING, time, tuple(nodes)
        return job

    def on_requeued_by_pilot(self, pilot_name: str) -> None:
        """Its node was lost; the pilot starts it again."""
        job = self._by_pilot_name.get(pilot_name)
        if job is not None and job.state == "RUNNING":
            job.state, job.reason, job.started, job.nodes = "PENDING", "BeginTime", None, ()
            job.restarts += 1

    def on_end(self, pilot_name: str, state: str, reason: str, exit_code: int, signal: int, time: float) -> Job | None:
        job = self._by_pilot_name.pop(pilot_name, None)
        if job is None:
            return None
        self.changed = True
        job.pilot_name = ""
        if job.requeuing:
            self._wait_again(job)
            return job
        job.state, job.reason, job.exit_code, job.signal = state, reason, exit_code, signal
        job.ended = time
        if job.canceled_by is not None:
            job.state, job.reason = "CANCELLED", NOTHING
            job.exit_code, job.signal = (0, _SIGTERM) if job.started is not None else (0, 0)
        return job

    def _wait_again(self, job: Job) -> None:
        job.requeuing = False
        job.state, job.reason = "PENDING", "JobHeldUser" if job.held else "BeginTime"
        job.started = job.ended = None
        job.nodes, job.exit_code, job.signal = (), 0, 0
        job.restarts += 1
        self._waiting[job.id] = job

    def cancel(self, job: Job, uid: int, now: float) -> str:
        """Returns the name of the pilot's job that is to be stopped, or "" where nothing runs."""
        if job.is_over:
            return ""
        job.canceled_by, job.requeuing = uid, False
        if job.pilot_name:
            if job.state == "RUNNING":
                job.state = "COMPLETING"
            return job.pilot_name
        self._waiting.pop(job.id, None)
        job.state, job.ended = "CANCELLED", now
        self.changed = True
        return ""

    def hold(self, job: Job) -> str:
        """Returns the name of the pilot's job that is to be taken back, because it waits there."""
        job.held = True
        if job.state != "PENDING":
            return ""
        job.reason = "JobHeldUser"
        self.changed = True
        if job.pilot_name:
            job.requeuing = True
            job.restarts -= 1  # it has not begun
            return job.pilot_name
        return ""

    def release(self, job: Job) -> None:
        job.held = False
        self.changed = True

    def requeue(self, job: Job, hold: bool = False) -> str:
        """Returns the name of the pilot's job that is to be stopped."""
        job.held = job.held or hold
        if job.pilot_name:
            job.requeuing, job.canceled_by = True, None
            return job.pilot_name
        if job.is_over:
            job.canceled_by = None
            self._wait_again(job)
            self.changed = True
        return ""

    # --- decisions ---------------------------------------------------------------------------------------------------

    def plan(self, now: float) -> list[Job]:
        """The jobs that may start now; each has a name at the pilot from now on. The others get their reasons."""
        self.changed = False
        ready = []
        room: dict[int, int] = {}
        for job in list(self._waiting.values()):
            if job.pilot_name:
                continue
            job.reason = self._why_not(job, now, room)
            if job.reason:
                if job.reason == "DependencyNeverSatisfied" and job.request.kill_invalid:
                    self.cancel(job, 0, now)
                continue
            del self._waiting[job.id]
            job.reason = WAITING_FOR_PILOT
            job.eligible = now if job.eligible is None else job.eligible
            job.pilot_name = f"slurm-{self._session}-{job.id}" + (f"-{job.restarts}" if job.restarts else "")
            self._by_pilot_name[job.pilot_name] = job
            ready.append(job)
        return ready

    def next_look(self) -> float | None:
        """When `plan` may have something to say though nothing happens."""
        times = [job.request.begin for job in self._waiting.values() if job.request.begin is not None]
        times += [
            started + clause.delay_s
            for job in self._waiting.values()
            for clause in job.dependency.clauses
            if clause.delay_s
            for started in [other.started for other in self.jobs_of(clause.job, clause.element)]
            if started is not None
        ]
        return min(times, default=None)

    def _why_not(self, job: Job, now: float, room: dict[int, int]) -> str:
        """Empty when it may start. `room`: how many elements of an array may start yet in this turn."""
        if job.held:
            return "JobHeldUser"
        if job.request.begin is not None and job.request.begin > now:
            return "BeginTime"
        verdict = self.judge(job, now)
        if verdict is not Verdict.MET:
            return "Dependency" if verdict is Verdict.WAITS else "DependencyNeverSatisfied"
        array = job.request.array
        if array is not None and array.at_once:
            if job.array_id not in room:
                taken = sum(1 for other in self._arrays[job.array_id] if other.pilot_name)
                room[job.array_id] = array.at_once - taken
            if room[job.array_id] <= 0:
                return "JobArrayTaskLimit"
            room[job.array_id] -= 1
        return ""

    def judge(self, job: Job, now: float) -> Verdict:
        dependency = job.dependency
        verdicts = [self._judge_clause(clause, job, now) for clause in dependency.clauses]
        if dependency.singleton:
            earlier = any(
                other.request.name == job.request.name and other.id < job.id and not other.is_over and other is not job
                for other in self
                if other.array_id != job.array_id or not job.array_id
            )
            verdicts.append(Verdict.WAITS if earlier else Verdict.MET)
        if not verdicts or all(verdict is Verdict.MET for verdict in verdicts):
            return Verdict.MET
        if dependency.any:
            if Verdict.MET in verdicts:
                return Verdict.MET
            return Verdict.WAITS if Verdict.WAITS in verdicts else Verdict.NEVER
        return Verdict.NEVER if Verdict.NEVER in verdicts else Verdict.WAITS

    def _judge_clause(self, clause: Clause, job: Job, now: float) -> Verdict:
        element = clause.element
        if clause.kind == "aftercorr" and element is None and job.index is not None:
            others = [other for other in self.jobs_of(clause.job) if other.index in (job.index, None)]
        else:
            others = self.jobs_of(clause.job, element)
        over = all(other.is_over for other in others)
        if clause.kind == "after":
            over = all(other.is_over or other.has_begun(now - clause.delay_s) for other in others)
        never = False
        if clause.kind == "afternotok":
            never = over and all(other.is_good for other in others)
        elif clause.kind in ("afterok", "aftercorr"):
            never = any(other.is_over and not other.is_good for other in others)
        return Verdict.NEVER if never else Verdict.MET if over else Verdict.WAITS

    def unmet(self, job: Job, now: float) -> str:
        """The clauses that still count, as squeue's %E has them."""
        parts = []
        for clause in job.dependency.clauses:
            verdict = self._judge_clause(clause, job, now)
            if verdict is not Verdict.MET:
                parts.append(f"{clause}({'failed' if verdict is Verdict.NEVER else 'unfulfilled'})")
        if job.dependency.singleton and not job.pilot_name and not job.is_over:
            parts.append("singleton(unfulfilled)")
        return ("?" if job.dependency.any else ",").join(parts)

    # --- looking -----------------------------------------------------------------------------------------------------

    def jobs_of(self, number: int, element: int | None = None) -> list[Job]:
        """Of an id, of an array's id, or one element of it; empty when there are none."""
        elements = self._arrays.get(number)
        if elements is None:
            job = self._by_id.get(number)
            return [job] if job is not None and element in (None, job.index) else []
        return [one for one in elements if element is None or one.index == element]

    def by_pilot_name(self, name: str) -> Job | None:
        return self._by_pilot_name.get(name)

    def live(self) -> list[Job]:
        return [job for job in self if not job.is_over]

    def stuck(self) -> list[Job]:
        """All that have not ended, when none of them can start by itself: they are held, or wait for such."""
        live = self.live()
        moves = self.changed or self.next_look() is not None or any(job.pilot_name for job in live)
        return [] if moves else live


def pending_label(array_id: int, elements: list[Job]) -> str:
    """`12_[3-20%3]`: elements that wait, in one row."""
    array = elements[0].request.array
    limit = f"%{array.at_once}" if array is not None and array.at_once else ""
    text = slurm_facts.indices(sorted(job.index for job in elements if job.index is not None))
    return f"{array_id}_[{text}{limit}]"
