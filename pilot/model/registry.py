"""The jobs: by name and by number, with the counters that status questions are answered from."""

# All changes of state of jobs and tasks go through here (`move_task`, `move_job`), so that the table is asked and the
# counters are right whoever makes the change. Rejected: counting when asked. A status request would walk over a million
# tasks.
#
# A number is never given twice, a name is when its job was removed. So what lies in the journal or is under way names
# numbers.

from __future__ import annotations

from collections.abc import Iterator

from .errors import UnknownJobError
from .ids import JobNo
from .job_spec import JobSpec
from .jobs import Job
from .states import ALLOWED, State, illegal_transition
from .tasks import Places


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
