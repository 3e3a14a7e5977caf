"""A journal without removed jobs gives the same state as the whole one, for everything that is still there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from pilotfish.pilot.manager.compacting import compact, mostly_removed
from pilotfish.pilot.manager.reporter import Reporter
from pilotfish.pilot.manager.resume import replay
from pilotfish.pilot.manager.store import Store
from pilotfish.pilot.model.ids import JobNo, NodeNo, TaskKey
from pilotfish.pilot.model.job_spec import Dependency, Execution, Iteration, JobSpec
from pilotfish.pilot.model.resources import NodeSpec
from pilotfish.pilot.model.scheduler import Scheduler
from pilotfish.pilot.model.states import Cause, State
from pilotfish.pilot.model.steps import SLICE, finish
from pilotfish.pilot.wire.compaction import Survey, without_others
from pilotfish.pilot.wire.records import (
    Canceled,
    Compacted,
    Ended,
    NodeJoined,
    Opened,
    Record,
    Removed,
    Result,
    Sent,
    Submitted,
    SubmittedPart,
    Succeeded,
    Successes,
    Taken,
)

NODE = NodeJoined(NodeSpec("n", tuple(map(str, range(8))), (), 0))


def spec(name: str, count: int | None = None, after: tuple[str, ...] = (), retries: int = 0) -> JobSpec:
    iteration = None if count is None else Iteration(0, count)
    return JobSpec(
        name,
        Execution(exec="/bin/true"),
        iteration=iteration,
        after=tuple(Dependency(one) for one in after),
        retries=retries,
    )


def ended(key: TaskKey, state: State, exit_code: int = 0, cause: Cause = Cause.EXITED) -> Ended:
    return Ended([Result(*key, state, cause, exit_code, 7, 1.0, 2.0, 3.0, 0.5, 10, "", ())])


def replayed(journal: list[Record]) -> Scheduler:
    scheduler = Scheduler()
    replay(journal, scheduler, lambda changes: None, lambda size: None)
    return scheduler


def compacted(journal: list[Record]) -> list[Record]:
    survey = Survey()
    for record in journal:
        finish(survey.take(record))
    rest = [record for record in without_others(journal, finish(survey.to_keep())) if record is not None]
    return [*rest, Compacted(survey.next_no, None)]


def state(scheduler: Scheduler) -> dict[str, Any]:
    """All that a client can see, and what decides how it goes on."""
    jobs = {
        job.no: (
            job.spec.name,
            job.state,
            job.unmet,
            job.submitted_s,
            job.message_of(None),
            job.failures,
            job.crashes,
            [(repr(job.tasks.load(pos)), job.message_of(pos)) for pos in range(job.spec.task_count)],
        )
        for job in scheduler.jobs
    }
    heads = [(key, pending.job.no) for key, _, pending in scheduler.queue.heads()]
    counts = (scheduler.jobs.jobs_in, scheduler.jobs.tasks_in, scheduler.jobs.next_no)
    return {"jobs": jobs, "counts": counts, "runs": sorted(scheduler.dispatch.attempts), "heads": sorted(heads)}


class Author:
    """Writes a journal that a manager could have written: it asks a scheduler what is possible."""

    def __init__(self, draw: Any) -> None:
        self.draw = draw
        self.journal: list[Record] = [Opened("id", "epoch", 0.0), NODE]
        self.names = 0

    def write(self, record: Record) -> None:
        self.journal.append(record)

    def step(self) -> None:
        scheduler = replayed(self.journal)
        jobs = list(scheduler.jobs)
        over = [job for job in jobs if job.state.final]
        queued = [pending for _, _, pending in scheduler.queue.heads()]
        attempts = sorted(scheduler.dispatch.attempts)
        acts = ["submit"] + ["remove"] * 3 * bool(over) + ["send"] * 2 * bool(queued) + ["end", "take"] * bool(attempts)
        acts += ["cancel"] * (len(over) < len(jobs))
        act = self.draw(st.sampled_from(acts))
        if act == "submit":
            self.submit(scheduler, [job.spec.name for job in jobs])
        elif act == "remove":
            gone = self.draw(st.lists(st.sampled_from([job.no for job in over]), min_size=1, unique=True))
            self.write(Removed(gone))
        elif act == "send":
            pending = self.draw(st.sampled_from(queued))
            pos = pending.take()
            self.write(Sent(NodeNo(0), 1.0, [TaskKey(pending.job.no, pos, pending.job.tasks.run(pos) + 1)]))
        elif act == "cancel":
            job = self.draw(st.sampled_from([job for job in jobs if not job.state.final]))
            self.write(Canceled(job.no, None, 2.0))
        else:
            self.end(act, self.draw(st.sampled_from(attempts)))

    def submit(self, scheduler: Scheduler, known: list[str]) -> None:
        batch = []
        for _ in range(self.draw(st.integers(1, 3))):
            self.names += 1
            # Few names, so that those of removed jobs come again.
            free = [name for name in "abcdefgh" if name not in known]
            if not free:
                break
            count = self.draw(st.sampled_from([None, None, 2]))
            after = tuple(self.draw(st.lists(st.sampled_from(known), max_size=2, unique=True))) if known else ()
            batch.append(spec(free[0], count, after, retries=self.draw(st.sampled_from([0, 1]))))
            known.append(free[0])
        if batch:
            self.write(Submitted(scheduler.jobs.next_no, 1.0, batch))

    def end(self, act: str, key: TaskKey) -> None:
        if act == "take":
            self.write(Taken([key]))
        elif self.draw(st.booleans()):
            self.write(ended(key, State.SUCCEED))
        else:
            state = self.draw(st.sampled_from([State.FAILED, State.QUEUED]))
            self.write(ended(key, state, 1, Cause.LOST if state is State.QUEUED else Cause.EXITED))


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_what_is_left_gives_the_same_state_also_when_it_is_compacted_again_later(data: st.DataObject) -> None:
    author = Author(data.draw)
    for _ in range(data.draw(st.integers(1, 25))):
        author.step()
    assert state(replayed(compacted(author.journal))) == state(replayed(author.journal))
    again = compacted(author.journal)
    begin = len(author.journal)
    for _ in range(data.draw(st.integers(0, 10))):
        author.step()
    again += author.journal[begin:]
    assert state(replayed(compacted(again))) == state(replayed(author.journal))


def test_what_was_removed_is_gone_and_numbers_stay() -> None:
    journal: list[Record] = [
        NODE,
        Submitted(JobNo(1), 1.0, [spec("a"), spec("b"), spec("c")]),
        Sent(NodeNo(0), 1.0, [TaskKey(JobNo(1), 0, 1), TaskKey(JobNo(2), 0, 1)]),
        ended(TaskKey(JobNo(2), 0, 1), State.SUCCEED),
        Removed([JobNo(2)]),
        Submitted(JobNo(4), 1.0, [spec("d")]),
        Canceled(JobNo(4), None, 1.0),
        Removed([JobNo(4)]),
    ]
    assert compacted(journal) == [
        NODE,
        Submitted(JobNo(1), 1.0, [spec("a"), spec("c")], [JobNo(1), JobNo(3)]),
        Sent(NodeNo(0), 1.0, [TaskKey(JobNo(1), 0, 1)]),
        Compacted(JobNo(5), None),
    ]


def test_results_in_columns_go_with_their_job() -> None:
    def succeeded(job_no: int) -> Succeeded:
        return Succeeded(
            Successes(JobNo(job_no), 1, 1.0, [()], [0, 1], [0, 0], [7, 7], [1.0, 1.0], [2.0, 2.0], [0.5, 0.5], [9, 9])
        )

    journal: list[Record] = [
        Submitted(JobNo(1), 1.0, [spec("a", 3), spec("b", 2)]),
        Sent(NodeNo(0), 1.0, [TaskKey(JobNo(number), pos, 1) for number in (1, 2) for pos in (0, 1)]),
        succeeded(1),
        succeeded(2),
        Removed([JobNo(2)]),
    ]
    assert compacted(journal)[2:] == [succeeded(1), Compacted(JobNo(3), None)]


def test_a_large_submit_is_written_in_parts_again(tmp_path: Path) -> None:
    """So that no record is a long one to read or to write; read, they are one submit."""
    specs = [spec(f"job{number}") for number in range(3 * SLICE + 1)]
    journal: list[Record] = [
        Submitted(JobNo(1), 1.0, specs),
        Canceled(JobNo(2), None, 1.0),
        Removed([JobNo(2)]),
    ]
    store = Store.create(tmp_path / "j")
    for record in compacted(journal):
        assert not isinstance(record, Submitted | SubmittedPart) or len(record.jobs) <= SLICE
        store.append(record)
    store.write()
    rest = [spec for number, spec in enumerate(specs) if number != 1]
    numbers = [JobNo(number) for number in range(1, 3 * SLICE + 2) if number != 2]
    assert list(store.records()) == [
        Submitted(JobNo(1), 1.0, rest, numbers),
        Compacted(JobNo(3 * SLICE + 2), None),
    ]
    store.close()


def test_a_submit_with_other_numbers_than_jobs_does_not_count_afterwards_either() -> None:
    journal: list[Record] = [Submitted(JobNo(1), 1.0, [spec("a"), spec("b")], [JobNo(1)])]
    assert len(replayed(journal).jobs) == 0
    assert compacted(journal) == [Compacted(JobNo(1), None)]


def test_a_removed_job_stays_while_a_job_that_depends_on_it_is_there() -> None:
    key = TaskKey(JobNo(1), 0, 1)
    journal: list[Record] = [
        Submitted(JobNo(1), 1.0, [spec("a"), spec("b", after=("a",))]),
        Sent(NodeNo(0), 1.0, [key]),
        ended(key, State.SUCCEED),
        Removed([JobNo(1)]),
    ]
    assert compacted(journal) == [*journal, Compacted(JobNo(3), None)]


def test_what_depends_on_a_cancelled_task_that_came_back_is_omitted_when_that_is_the_end_of_the_journal() -> None:
    """Nothing else may happen after the resume that would settle it: the pilot would wait for it for ever."""
    key = TaskKey(JobNo(1), 0, 1)
    scheduler = replayed(
        [
            NODE,
            Submitted(JobNo(1), 1.0, [spec("a"), spec("b", after=("a",))]),
            Sent(NodeNo(0), 2.0, [key]),
            Canceled(JobNo(1), None, 3.0),
            Taken([key]),
        ]
    )
    assert [job.state for job in scheduler.jobs] == [State.CANCELED, State.OMITTED]
    assert scheduler.jobs.unfinished == 0


def test_a_store_is_compacted_and_the_report_counts_as_told(tmp_path: Path) -> None:
    store = Store.create(tmp_path / "j")
    reporter = Reporter(tmp_path / "jobs.report", "json")
    key = TaskKey(JobNo(1), 0, 1)
    journal: list[Record] = [
        NODE,
        Submitted(JobNo(1), 1.0, [spec("a")]),
        Sent(NodeNo(0), 1.0, [key]),
        ended(key, State.SUCCEED),
        Removed([JobNo(1)]),
    ]
    for record in journal:
        store.append(record)
    store.write()
    store.sync()
    jobs = replayed(journal).jobs
    assert mostly_removed(jobs)
    compact(store, reporter, jobs)
    assert not mostly_removed(jobs)
    assert list(store.records()) == [NODE, Compacted(JobNo(2), 0)]
    store.close()
    reporter.close()
