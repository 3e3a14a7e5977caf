"""The jobs: by name and by number, with the counters that status questions are answered from."""

from __future__ import annotations

from collections.abc import Iterator

from .errors import UnknownJobError
from .ids import JobNo
from .job import JobSpec
from .queue import Pendings
from .states import ALLOWED, State, illegal_transition
from .tasks import ManyTasks, OneTask, Places


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

    def __repr__(self) -> str:
        return f"<Job {self.no} {self.spec.name!r} {self.state.name} {self.finished}/{self.spec.task_count}>"

    def __lt__(self, other: Job) -> bool:
        return self.no < other.no

    @property
    def is_iteration(self) -> bool:
        return self.spec.iteration is not None

    def attempts(self, pos: int) -> int:
        """How often a task that was started at all has been started."""
        return 1 + sum(counts.get(pos, 0) for counts in (self.failures, self.crashes) if counts)

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
            raise UnknownJobError(f"Job {self.spec.name} has no iterations", where=f"{self.spec.name}:{index}")
        if not iteration.start <= index < iteration.stop:
            raise UnknownJobError(f"Unknown iteration {index} for job {self.spec.name}")
        return index - iteration.start

    def final_state(self) -> State:
        """State of the job when all its tasks are final (spec 9.1)."""
        if not self.is_iteration:
            return self.tasks.state(0)
        if self.failed == 0:
            return State.SUCCEED
        return State.CANCELED if self.canceling else State.FAILED


class Registry:
    """All jobs that have been accepted and not removed, in order of submission."""

    def __init__(self) -> None:
        self.places = Places()
        self.jobs_in = [0] * len(State)
        """Jobs by state."""
        self.tasks_in = [0] * len(State)
        """Tasks by state; a job without iterations counts as one."""
        self._by_no: dict[JobNo, Job] = {}
        self._by_name: dict[str, Job] = {}
        self.next_no = JobNo(1)
        self.removed_tasks = 0

    def __len__(self) -> int:
        return len(self._by_no)

    def __iter__(self) -> Iterator[Job]:
        return iter(self._by_no.values())

    @property
    def unfinished(self) -> int:
        """Jobs that are not in a final state."""
        return sum(self.jobs_in[: State.SUCCEED])

    def find(self, name: str) -> Job | None:
        return self._by_name.get(name)

    def get(self, name: str) -> Job:
        """Raises UnknownJobError."""
        job = self._by_name.get(name)
        if job is None:
            raise UnknownJobError(f"Job '{name}' doesn't exist")
        return job

    def by_no(self, no: JobNo) -> Job | None:
        return self._by_no.get(no)

    def add(self, spec: JobSpec, submitted_s: float, no: JobNo | None = None) -> Job:
        """`no` is its number from an earlier life; no job has had a higher one."""
        job = Job(no or self.next_no, spec, submitted_s, self.places)
        self.next_no = JobNo(job.no + 1)
        self._by_no[job.no] = job
        self._by_name[spec.name] = job
        self.jobs_in[State.QUEUED] += 1
        self.tasks_in[State.QUEUED] += spec.task_count
        return job

    def remove(self, job: Job) -> None:
        del self._by_no[job.no]
        if self._by_name.get(job.spec.name) is job:
            del self._by_name[job.spec.name]
        self.jobs_in[job.state] -= 1
        self.removed_tasks += job.spec.task_count
        for pos in range(job.spec.task_count):
            self.tasks_in[job.tasks.state(pos)] -= 1

    def move_task(self, job: Job, pos: int, state: State) -> None:
        """Give a task its next state and count it; a job without iterations follows.

        Raises IllegalTransitionError before anything is changed.
        """
        before = job.tasks.state(pos)
        if not ALLOWED[before][state]:
            raise illegal_transition(before, state, f"task {job.spec.task_name(pos)} run {job.tasks.run(pos)}")
        job.tasks.set_state(pos, state)
        self.tasks_in[before] -= 1
        self.tasks_in[state] += 1
        if state.final:
            job.finished += 1
            job.failed += state is not State.SUCCEED
        elif job.spec.iteration is None:
            self.move_job(job, state)

    def move_queued_tasks(self, job: Job, state: State) -> list[int]:
        """Give all queued tasks of a job a final state at once; returns their positions."""
        positions = job.tasks.fill_queued(state)
        self.tasks_in[State.QUEUED] -= len(positions)
        self.tasks_in[state] += len(positions)
        job.finished += len(positions)
        job.failed += len(positions)
        return positions

    def move_job(self, job: Job, state: State) -> None:
        if not ALLOWED[job.state][state]:
            raise illegal_transition(job.state, state, f"job {job.spec.name}")
        self.jobs_in[job.state] -= 1
        self.jobs_in[state] += 1
        job.state = state
