"""The jobs: by name and by number, with the counters that status questions are answered from."""

# All changes of state of jobs and tasks go through here (`move_task`, `move_job`), so that the table is asked and the
# counters are right whoever makes the change. Rejected: counting when asked. A status request would walk over a million
# tasks.
#
# A number is never given twice; a name may be, once its job was removed. So the journal and frames refer to jobs by number.

from __future__ import annotations

from collections.abc import Iterator
from typing import cast

from .errors import UnknownJobError
from .ids import JobNo
from .job_spec import JobSpec
from .jobs import Job
from .large import ByName, ByNumber
from .states import ALLOWED, State, illegal_transition
from .tasks import Places


class Entering:
    """A submit on its way in, which takes many turns. Until it is in, nobody else sees or uses the names it has taken."""

    __slots__ = ("names", "needs", "waits_for")

    def __init__(self) -> None:
        self.names: ByName[None] = ByName()
        """Its jobs: nobody else can submit these."""
        self.needs: ByName[None] = ByName()
        """Names outside this submit that its jobs wait for: until it is in, nobody can remove or submit jobs of these names."""
        self.waits_for: Entering | None = None
        """A submit that has to be in first, because this one waits for jobs of it."""

    def waits_on(self, other: Entering) -> bool:
        """Whether this submit cannot get on before `other` is in."""
        step: Entering | None = self
        while step is not None:
            if step is other:
                return True
            step = step.waits_for
        return False


class Registry:
    """All jobs that have been accepted and not removed, in order of submission."""

    def __init__(self) -> None:
        self.places = Places()
        self.jobs_in = [0] * len(State)
        """Jobs by state."""
        self.tasks_in = [0] * len(State)
        """Tasks by state; a job without iterations counts as one."""
        self._by_no: ByNumber[Job] = ByNumber()
        self._by_name: ByName[Job] = ByName()
        self.next_no = JobNo(1)
        self.removed_tasks = 0
        self.entering: list[Entering] = []

    def __len__(self) -> int:
        return len(self._by_no)

    def __iter__(self) -> Iterator[Job]:
        return (job for no in self.numbers() if (job := self._by_no.get(no)) is not None)

    @property
    def unfinished(self) -> int:
        """Jobs that are not in a final state."""
        return sum(self.jobs_in[: State.SUCCEED])

    def find(self, name: str) -> Job | None:
        return self._by_name.get(name)

    def entering_with(self, name: str, but: Entering | None = None) -> Entering | None:
        """The submit on its way in, other than `but`, that has a job of this name."""
        return next((one for one in self.entering if one is not but and name in one.names), None)

    def entering_that_needs(self, name: str, but: Entering | None = None) -> Entering | None:
        """The submit on its way in, other than `but`, that has a job which waits for this name."""
        return next((one for one in self.entering if one is not but and name in one.needs), None)

    def find_settled(self, name: str) -> Job | None:
        """As clients see it: without jobs of a submit that is on its way in."""
        return None if self.entering and self.entering_with(name) else self._by_name.get(name)

    def take_numbers(self, count: int) -> JobNo:
        """The first of `count` numbers for new jobs, in the order in which submits are recorded."""
        first = self.next_no
        self.next_no = JobNo(first + count)
        return first

    def numbers(self) -> list[JobNo]:
        """The numbers of all jobs, ascending."""
        return cast("list[JobNo]", list(self._by_no))

    def get(self, name: str) -> Job:
        """Raises UnknownJobError."""
        job = self._by_name.get(name)
        if job is None:
            raise UnknownJobError(f"Job '{name}' doesn't exist")
        return job

    def by_no(self, no: JobNo) -> Job | None:
        return self._by_no.get(no)

    def add(self, spec: JobSpec, submitted_s: float, no: JobNo | None = None) -> Job:
        """`no` is its number from an earlier life, or one of those that were taken for it."""
        job = Job(no or self.next_no, spec, submitted_s, self.places)
        self.next_no = JobNo(max(self.next_no, job.no + 1))
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
        for state, count in job.tasks.counts():
            self.tasks_in[state] -= count

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

    def move_queued_tasks(self, job: Job, state: State) -> Iterator[int]:
        """Give all queued tasks of a job a final state at once; returns their positions."""
        count, positions = job.tasks.fill_queued(state)
        self.tasks_in[State.QUEUED] -= count
        self.tasks_in[state] += count
        job.finished += count
        job.failed += count
        return positions

    def move_job(self, job: Job, state: State) -> None:
        if not ALLOWED[job.state][state]:
            raise illegal_transition(job.state, state, f"job {job.spec.name}")
        self.jobs_in[job.state] -= 1
        self.jobs_in[state] += 1
        job.state = state
