"""What is decided for a submission, whatever happens in whatever order."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from pilotfish.launcher.job.record import TaskResult
from pilotfish.launcher.job.states import JobState, Reason, Status
from pilotfish.launcher.submission import events
from pilotfish.launcher.submission.batch_job import BatchJob, Phase
from pilotfish.launcher.submission.events import Canceled, Fetched, Intent, NotTaken, Renewed, Submitted
from pilotfish.launcher.submission.state import GRACE_POLLS, PilotProgress, Progress

RUNNING = Status(JobState.running)


def place(progress: Progress, job: BatchJob, number: int = 1) -> None:
    progress.apply(Intent(job.hash, job.attempt))
    progress.apply(Submitted(job.hash, job.attempt, f"{job.hash}-{number}"))


def end(
    progress: Progress, job: BatchJob, status: Status | None, recorded: bool = True, now_s: float = 0.0, **codes: int
) -> events.Ended | None:
    """The batch system tells of the end (None: does not list it), then the results are looked at."""
    progress.on_listing({} if status is None else {job.id: status}, now_s)
    results = {name: TaskResult(name, code, attempt=job.attempt) for name, code in codes.items()}
    found = progress.judge(job, recorded, results, "words", now_s)
    if found is not None:
        progress.apply(found)
    return found


def one(**options: Any) -> tuple[Progress, BatchJob]:
    progress = Progress([("j", ["a", "b"])], **options)
    job = progress.jobs["j"]
    place(progress, job)
    return progress, job


def test_a_job_whose_tasks_all_ended_with_0_is_done_whatever_the_batch_system_says() -> None:
    progress, job = one()
    end(progress, job, Status(JobState.terminated, "TIMEOUT", Reason.TIME), a=0, b=0)
    assert job.phase is Phase.DONE
    assert progress.plan().fetch == (job,)
    progress.apply(Fetched("j"))
    assert progress.plan().over


def test_an_unknown_state_means_still_there() -> None:
    progress, job = one()
    progress.on_listing({job.id: Status(JobState.unknown, "NEW")}, 0)
    assert not progress.plan().collect
    assert job.phase is Phase.PLACED


def test_a_missing_job_is_looked_at_at_once_but_given_up_only_after_some_polls_and_a_minute() -> None:
    progress, job = one()
    for now_s in range(0, GRACE_POLLS * 20, 20):
        assert end(progress, job, None, recorded=False, now_s=now_s, a=0) is None
        assert progress.plan().collect == (job,)
    found = end(progress, job, None, recorded=False, now_s=60)
    assert found is not None
    assert (found.reason, found.counts, found.again) == (Reason.VANISHED, False, True)


def test_a_job_whose_tasks_have_all_told_is_not_waited_for() -> None:
    """Elements of arrays leave records of their own."""
    progress, job = one()
    found = end(progress, job, Status(JobState.terminated, "FAILED", Reason.PROGRAM, 1), recorded=False, a=0, b=1)
    assert found is not None
    assert found is not None
    assert (found.reason, found.again) == (Reason.PROGRAM, True)


def test_a_job_that_is_listed_again_was_never_gone() -> None:
    progress, job = one()
    end(progress, job, None, recorded=False)
    progress.on_listing({job.id: RUNNING}, 0)
    assert job.missed == 0
    assert not progress.plan().collect


def test_retries_are_counted_and_never_granted_again() -> None:
    progress, job = one(retry_count=2)
    for attempt in range(3):
        assert job.attempt == attempt
        found = end(progress, job, Status(JobState.terminated, "FAILED", Reason.PROGRAM, 1), a=0, b=1)
        if attempt < 2:
            place(progress, job)
    assert job.phase is Phase.FAILED
    assert found is not None
    assert (found.reason, found.again) == (Reason.PROGRAM, False)
    assert not progress.plan().submit


def test_a_lost_node_and_preemption_do_not_count() -> None:
    progress, job = one(retry_count=0)
    for reason in (Reason.NODE, Reason.PREEMPTED):
        end(progress, job, Status(JobState.terminated, "x", reason), recorded=False)
        end(progress, job, Status(JobState.terminated, "x", reason), recorded=False)
        end(progress, job, Status(JobState.terminated, "x", reason), recorded=False)
        assert job.phase is Phase.NEW
        place(progress, job)
    end(progress, job, Status(JobState.terminated, "x", Reason.TIME), a=0)
    assert (job.phase, job.reason) == (Phase.FAILED, Reason.TIME)


def test_what_somebody_cancelled_is_not_placed_again() -> None:
    progress, job = one()
    found = end(progress, job, Status(JobState.terminated, "CANCELLED", Reason.CANCELED), a=0)
    assert found is not None
    assert not found.again


def test_one_failed_job_does_not_abandon_the_others() -> None:
    progress = Progress([("j", ["a"]), ("k", ["b"])], retry_count=0)
    for job in progress.jobs.values():
        place(progress, job)
    progress.on_listing({"j-1": Status(JobState.terminated, "FAILED", Reason.PROGRAM), "k-1": RUNNING}, 0)
    found = progress.judge(progress.jobs["j"], True, {"a": TaskResult("a", 1)}, "", 0)
    assert found is not None
    progress.apply(found)
    assert progress.jobs["j"].phase is Phase.FAILED
    assert not progress.plan().over


def test_a_job_that_was_killed_has_no_record_to_wait_for() -> None:
    progress, job = one()
    for _ in range(GRACE_POLLS - 1):
        assert end(progress, job, Status(JobState.terminated, "TIMEOUT", Reason.TIME), recorded=False) is None
    assert end(progress, job, Status(JobState.terminated, "TIMEOUT", Reason.TIME), recorded=False) is not None


def test_an_old_failure_of_a_task_is_not_what_a_later_attempt_ended_of() -> None:
    progress, job = one()
    end(progress, job, Status(JobState.terminated, "FAILED", Reason.PROGRAM), a=0, b=1)
    place(progress, job)
    for now_s in (0, 30, 60):
        found = end(progress, job, None, recorded=False, now_s=now_s)
    assert found is not None
    assert found.reason == Reason.VANISHED


def test_what_was_finished_before_counts_at_the_end() -> None:
    progress = Progress([("j", ["a", "b"])])
    job = progress.jobs["j"]
    progress.apply(events.Inherited("j", (TaskResult("a", 0),)))
    place(progress, job)
    end(progress, job, Status(JobState.finished), b=0)
    assert job.phase is Phase.DONE


def test_what_tasks_of_a_cancelled_job_have_done_counts() -> None:
    progress, job = one()
    progress.apply(Canceled("j", "asked for", (TaskResult("a", 0),)))
    assert (job.phase, set(job.results), progress.plan().fetch) == (Phase.CANCELED, {"a"}, (job,))
    progress.apply(Canceled("j", "asked for", (TaskResult("b", 0),)))
    assert job.phase is Phase.DONE


def test_a_full_queue_is_tried_again_after_the_next_listing() -> None:
    progress = Progress([("j", ["a"]), ("k", ["b"])])
    place(progress, progress.jobs["j"])
    progress.apply(Intent("k", 0))
    progress.apply(NotTaken("k", 0, "limit", final=False))
    assert not progress.plan().submit
    progress.on_listing({"j-1": RUNNING}, 0)
    assert progress.plan().submit == (progress.jobs["k"],)


def test_no_more_than_max_jobs_at_once() -> None:
    progress = Progress([(name, [name]) for name in "abcd"], max_jobs=2)
    assert [job.hash for job in progress.plan().submit] == ["a", "b"]
    place(progress, progress.jobs["a"])
    assert [job.hash for job in progress.plan().submit] == ["b"]


def test_the_rest_is_cancelled_when_enough_is_done() -> None:
    progress = Progress([(name, [name]) for name in "abcd"], ratio_unfinished=0.5)
    for name in "abc":
        place(progress, progress.jobs[name])
    for name in "ab":
        assert not progress.plan().cancel
        end(progress, progress.jobs[name], Status(JobState.finished), recorded=True, now_s=0.0, **{name: 0})
    assert [job.hash for job in progress.plan().cancel] == ["c", "d"]


def test_renewed_tasks_run_again_with_all_retries() -> None:
    progress, job = one(retry_count=0)
    end(progress, job, Status(JobState.terminated, "x", Reason.PROGRAM), a=0, b=1)
    progress.apply(Renewed("j", ("b",), "asked for"))
    assert (job.phase, job.attempt, job.failures, set(job.results)) == (Phase.NEW, 1, 0, {"a"})


def pilot(allocations: int = 9) -> tuple[PilotProgress, BatchJob]:
    progress = PilotProgress([("p", ["a", "b", "c"])], max_allocations=allocations, ratio_unfinished=0.0)
    place(progress, progress.jobs["p"])
    return progress, progress.jobs["p"]


def test_a_pilot_with_work_left_is_followed_by_another_until_the_limit() -> None:
    progress, job = pilot(allocations=3)
    for attempt, done in enumerate(["a", "ab"]):
        results = {name: TaskResult(name, 0, attempt=index) for index, name in enumerate(done)}
        progress.on_listing({job.id: Status(JobState.terminated, "TIMEOUT", Reason.TIME)}, 0)
        found = progress.judge(job, True, results, "", 0)
        assert found is not None
        assert (found.again, found.counts) == (True, False)
        progress.apply(found)
        assert job.attempt == attempt + 1
        place(progress, job)
    found = end(progress, job, Status(JobState.terminated, "TIMEOUT", Reason.TIME), a=0, b=0)
    assert found is not None
    assert not found.again


def test_a_pilot_that_gets_nowhere_twice_is_given_up() -> None:
    progress, job = pilot()
    first = end(progress, job, Status(JobState.terminated, "FAILED", Reason.PROGRAM))
    place(progress, job)
    second = end(progress, job, Status(JobState.terminated, "FAILED", Reason.PROGRAM))
    assert first is not None
    assert second is not None
    assert (first.again, second.again, job.phase) == (True, False, Phase.FAILED)


def test_a_task_that_failed_in_a_pilot_has_had_its_retries() -> None:
    progress, job = pilot()
    found = end(progress, job, Status(JobState.terminated, "FAILED", Reason.PROGRAM), a=0, b=1, c=0)
    assert found is not None
    assert not found.again


def test_events_are_written_and_read_as_themselves() -> None:
    for event in (
        events.Uploaded({"a": "d"}),
        Intent("j", 1),
        Submitted("j", 1, "9"),
        NotTaken("j", 1, "why", True),
        events.Ended("j", 1, "r", "d", 1, True, False, (TaskResult("t", 0, 1.0, 2.0, "n", 1, 5),)),
        Fetched("j"),
        Canceled("j", "why", (TaskResult("t", 0),)),
        Renewed("j", ("t",), "why"),
    ):
        assert events.from_dict(events.to_dict(event)) == event


class Life(RuleBasedStateMachine):
    """Jobs live on an invented batch system; the launcher dies at any time and starts anew from the journal."""

    @initialize(jobs=st.integers(1, 4), retry=st.integers(0, 2), most=st.none() | st.integers(1, 3))
    def begin(self, jobs: int, retry: int, most: int | None) -> None:
        self.make: Callable[[], Progress] = lambda: Progress(
            [(f"j{n}", [f"t{n}"]) for n in range(jobs)], retry_count=retry, max_jobs=most
        )
        self.progress = self.make()
        self.most = most
        self.journal: list[events.Event] = []
        self.system: dict[str, str] = {}
        self.good: set[str] = set()
        self.number = 0
        self.now_s = 0.0

    def note(self, event: events.Event) -> None:
        self.journal.append(event)
        self.progress.apply(event)

    @rule(dies=st.sampled_from(["no", "before", "after"]), room=st.booleans())
    def submit(self, dies: str, room: bool) -> None:
        for job in self.progress.plan().submit[:1]:
            self.note(Intent(job.hash, job.attempt))
            if dies == "before":
                return self.restart()
            if not room:
                return self.note(NotTaken(job.hash, job.attempt, "full", final=False))
            self.number += 1
            self.system[str(self.number)] = job.hash
            if dies == "after":
                return self.restart()
            self.note(Submitted(job.hash, job.attempt, str(self.number)))
        return None

    @rule()
    def find(self) -> None:
        for job in self.progress.plan().find:
            known = [number for number, name in self.system.items() if name == job.hash]
            if known:
                self.note(Submitted(job.hash, job.attempt, known[-1]))
            else:
                self.note(NotTaken(job.hash, job.attempt, "unknown", final=False))
                self.progress.full = False

    @rule(ok=st.booleans(), listed=st.booleans())
    def one_ends(self, ok: bool, listed: bool) -> None:
        for number, name in list(self.system.items())[:1]:
            del self.system[number]
            self.good |= {name} if ok else set()
            ended = Status(JobState.terminated, "x", "" if ok else Reason.PROGRAM)
            listing = dict.fromkeys(self.system, RUNNING) | ({number: ended} if listed else {})
            self.look(listing)

    @rule()
    def look_around(self) -> None:
        self.look(dict.fromkeys(self.system, RUNNING))

    def look(self, listing: dict[str, Status]) -> None:
        self.now_s += 30
        self.progress.on_listing(listing, self.now_s)
        for job in self.progress.plan().collect:
            ended = job.id not in self.system
            code = 0 if job.hash in self.good else 1
            results = {name: TaskResult(name, code) for name in job.tasks} if ended else {}
            found = self.progress.judge(job, ended, results, "", self.now_s)
            if found is not None:
                self.note(found)

    @rule()
    def fetch(self) -> None:
        for job in self.progress.plan().fetch:
            self.note(Fetched(job.hash))

    @rule()
    def restart(self) -> None:
        self.progress = self.make()
        for event in self.journal:
            self.progress.apply(event)
        self.progress.full = False

    @invariant()
    def nothing_is_twice_or_lost(self) -> None:
        if not hasattr(self, "system"):
            return
        assert len(set(self.system.values())) == len(self.system), "no job is twice in the batch system"
        for number, name in self.system.items():
            job = self.progress.jobs[name]
            assert job.phase in (Phase.INTENDED, Phase.PLACED), f"{number} is watched"
            assert job.phase is Phase.INTENDED or job.id == number
        if self.most is not None:
            assert len(self.system) <= self.most
        for job in self.progress.jobs.values():
            assert (job.phase is Phase.DONE) <= (job.hash in self.good)


TestLife = Life.TestCase
TestLife.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
