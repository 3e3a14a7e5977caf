"""One record per batch job: its steps, its file, and that all handles tell what it says."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from patience import PATIENCE_S

from pilotfish import AsyncResult, JobScript, fyrd
from pilotfish.launcher.compat.clusterjob.status import COMPLETED, FAILED, PENDING
from pilotfish.launcher.contexts.lazy_local import LazyLocalContext
from pilotfish.launcher.description.machine import parse_machine
from pilotfish.launcher.job import single, store
from pilotfish.launcher.job.single import JobRecord, Phase
from pilotfish.launcher.job.spec import Needed
from pilotfish.launcher.job.states import JobState, Listing, Reason, Status
from pilotfish.launcher.machines.base import MachineBusyError, QueueFullError
from pilotfish.launcher.machines.shell import Shell
from pilotfish.launcher.submission.looking import living_beside, look_at
from pilotfish.launcher.submission.single import Script, SingleJob
from pilotfish.pilot.model.errors import IllegalTransitionError, JournalError, RefusedError

GIVEN = {"batch_type": "Shell", "context_type": "LazyLocal", "local_root": "."}
MACHINE = parse_machine(GIVEN)
UNTIL_GO = "until [ -e go ]; do sleep 0.05; done"


@pytest.fixture(autouse=True)
def here(wd: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.chdir(wd)
    monkeypatch.setattr(JobScript, "backend", "shell")
    monkeypatch.setattr(JobScript, "max_sleep_interval", 0.05)
    yield
    (wd / "go").touch()
    for each in store.all_records():
        if each.ends is not None:  # it was submitted
            SingleJob(each).cancel()


def record(**more: Any) -> JobRecord:
    return dataclasses.replace(JobRecord(single.new_hash(), MACHINE, "/w", "n", "test", created_s=1.0), **more)


def job(wd: Path, name: str = "n") -> SingleJob:
    return SingleJob(record(folder=str(wd), name=name))


# --- steps --------------------------------------------------------------------------------------------------------------------


def test_from_the_intention_to_the_end() -> None:
    """Each step keeps what the ones before have noted."""
    made = record().intended(5.0)
    assert (made.phase, made.submitted_s, made.id) == (Phase.INTENDED, 5.0, "")
    placed = made.placed("7;east")
    assert (placed.phase, placed.id, placed.status.state) == (Phase.PLACED, "7;east", JobState.unsubmitted)
    waiting = placed.seen(Status(JobState.waiting, why="Priority"))
    assert waiting.status.why == "Priority"
    running = waiting.seen(Status(JobState.running)).seen(Status(JobState.unknown))
    assert (running.state, running.why) == (JobState.running, "")
    ended = running.ended(Status(JobState.terminated, reason=Reason.PROGRAM, exit_code=3))
    assert (ended.phase, ended.id, ended.over, ended.status.exit_code) == (Phase.ENDED, "7;east", True, 3)


def test_an_end_is_final() -> None:
    """Whatever a slower program says later."""
    ended = record().intended(1.0).placed("7").ended(Status(JobState.finished, exit_code=0))
    late = (
        ended.ended(Status(JobState.terminated, reason=Reason.VANISHED))
        .seen(Status(JobState.running))
        .placed("7")
        .refused("no")
    )
    assert late == ended
    with pytest.raises(IllegalTransitionError, match="from ended to intended"):
        ended.intended(2.0)


def test_what_was_refused_may_be_handed_over_again() -> None:
    """It has never run. What the batch system has is not handed over twice."""
    refused = record().intended(1.0).refused("no such queue")
    assert (refused.over, refused.status.native, refused.status.reason) == (True, "no such queue", Reason.LAUNCH)
    assert refused.intended(2.0).phase is Phase.INTENDED
    with pytest.raises(IllegalTransitionError, match="from placed to intended"):
        record().intended(1.0).placed("7").intended(2.0)


def test_another_attempt_is_another_record() -> None:
    """Its files have other names; it knows what it repeats."""
    first = record(epilogue="true").intended(1.0).placed("7").ended(Status(JobState.terminated))
    second = first.again()
    assert (second.attempt, second.previous, second.phase, second.epilogue) == (1, first.hash, Phase.NEW, "true")
    assert second.hash != first.hash


def test_a_record_is_the_same_after_it_was_written() -> None:
    end = Status(JobState.terminated, "X", Reason.TIME, 143, 1.5, 2.5, "n[1-2]")
    made = record(after=(Needed("7", "r", "e"),), attempt=2).intended(1.0).placed("8").ended(end)
    assert single.from_dict(json.loads(json.dumps(single.to_dict(made)))) == made


# --- the store ----------------------------------------------------------------------------------------------------------------


def test_records_are_for_their_user_only(tmp_path: Path) -> None:
    made = store.create(record())
    path = tmp_path / "home/batch-jobs" / f"{made.hash}.json"
    assert (oct(path.stat().st_mode)[-3:], oct(path.parent.stat().st_mode)[-3:]) == ("600", "700")
    assert store.load(made.hash) == made


def test_a_password_is_not_written_and_not_lost(tmp_path: Path) -> None:
    profile = {"hostname": "far", "password": "s3cret"}
    machine = parse_machine({**GIVEN, "context_type": "SSH", "remote_root": "/r", "remote_profile": profile})
    made = store.create(record(machine=machine))
    assert "s3cret" not in "".join(path.read_text() for path in (tmp_path / "home/batch-jobs").glob("*.json"))
    assert store.change(made, lambda each: each.intended(1.0)).machine.profile["password"] == "s3cret"


def test_a_step_starts_from_what_is_on_disk() -> None:
    """A handle from before knows less, and undoes nothing."""
    old = store.create(record().intended(1.0))
    store.change(old, lambda each: each.placed("7"))
    store.change(old, lambda each: dataclasses.replace(each, fetched=True))
    assert (store.load(old.hash).id, store.load(old.hash).fetched) == ("7", True)


def test_programs_that_change_a_record_at_once_lose_no_step() -> None:
    made = store.create(record())
    counts = [
        threading.Thread(
            target=lambda: [
                store.change(made, lambda each: dataclasses.replace(each, attempt=each.attempt + 1)) for _ in range(5)
            ]
        )
        for _ in range(4)
    ]
    for each in counts:
        each.start()
    for each in counts:
        each.join()
    assert store.load(made.hash).attempt == 20


def test_a_record_that_was_removed_stays_removed() -> None:
    made = store.create(record().intended(1.0).placed("7"))
    store.forget(made)
    assert store.change(made, lambda each: each.seen(Status(JobState.running))).state is JobState.running
    assert list(store.all_records()) == []


@pytest.mark.parametrize(
    "text", ["", "{}", "[1]", '{"version": 9, "job": {}}', '{"version": 1, "job": {"hash": 1}}', "\0"]
)
def test_a_broken_record_names_its_file_and_hides_no_other(text: str, tmp_path: Path) -> None:
    good, bad = store.create(record()), store.create(record())
    path = tmp_path / "home/batch-jobs" / f"{bad.hash}.json"
    path.write_text(text)
    with pytest.raises(JournalError, match=rf"{bad.hash}.json: cannot be read"):
        store.load(bad.hash)
    assert list(store.all_records()) == [good]


def test_jobs_are_found_by_id_and_by_hash() -> None:
    first, second = (store.create(record(created_s=n, id=f"{n}7")) for n in (1.0, 2.0))
    assert store.find("1.07") == first
    assert store.find(second.hash[:9]) == store.find("last") == second
    for wrong in ("", "zz"):
        with pytest.raises(store.UnknownBatchJobError, match="`pilotfish job list` lists them"):
            store.find(wrong)


# --- jobs and their records ---------------------------------------------------------------------------------------------------


def test_the_record_is_there_before_the_batch_system_is_asked(wd: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[JobRecord] = []

    def submit(self: Shell, *_: Any) -> str:
        seen.extend(store.all_records())
        raise QueueFullError("not now")

    monkeypatch.setattr(Shell, "submit", submit)
    made = job(wd)
    with pytest.raises(QueueFullError):
        made.submit(Script("true"))
    assert [each.phase for each in seen] == [Phase.INTENDED]
    (kept,) = store.all_records()
    assert (kept.phase, kept.status.native) == (Phase.REFUSED, "not now")


def test_a_job_that_was_refused_can_be_submitted_again(wd: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made, taken = job(wd), Shell.submit
    answers: list[Any] = [QueueFullError("full"), MachineBusyError("asleep")]

    def submit(self: Shell, *given: Any) -> str:
        if answers:
            raise answers.pop(0)
        return taken(self, *given)

    monkeypatch.setattr(Shell, "submit", submit)
    for error in (QueueFullError, MachineBusyError):
        with pytest.raises(error):
            made.submit(Script("echo x >>ran"))
    made.submit(Script("echo x >>ran"))
    made.submit(Script("echo x >>ran"))
    while not look_at([made])[0].state.ended:
        pass
    assert (wd / "ran").read_text() == "x\n"


def test_a_batch_system_that_does_not_answer_leaves_jobs_where_they_were(
    wd: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever waits goes on waiting; and the job's own record still tells the end."""
    made = job(wd)
    made.submit(Script(UNTIL_GO))
    assert look_at([made])[0].state is JobState.running

    def query(*_: Any) -> Any:
        raise MachineBusyError("no answer")

    monkeypatch.setattr(Shell, "query", query)
    assert [look_at([made])[0].state for _ in range(5)] == [JobState.running] * 5
    (wd / "go").touch()
    while not look_at([made])[0].state.ended:
        pass
    assert made.status.state is JobState.finished


def test_a_job_without_an_id_is_found_by_its_claim(wd: Path, wait_until: Callable[..., None]) -> None:
    """Where the command that submits it broke off before it could write the id down."""
    made = job(wd)
    made.submit(Script(UNTIL_GO))
    known = made.id
    wait_until((wd / f".{made.hash}.0.claim").exists, "the claim")
    (wd / f".{made.hash}.0.id").unlink()
    made.step(lambda each: dataclasses.replace(each, phase=Phase.INTENDED, id=""))
    assert look_at([made])[0].state is JobState.running
    assert made.id == known


def test_jobs_of_all_makers_are_recorded(wd: Path) -> None:
    """What made it, its name, its id and how it ended."""
    JobScript("exit 4", "script").submit().get()
    fyrd.submit("true", name="command", machine=GIVEN).wait()
    found = [(each.maker, each.name, each.status.exit_code, bool(each.id)) for each in store.all_records()]
    assert sorted(found) == [("JobScript", "script", 4, True), ("fyrd", "command", 0, True)]


def test_a_script_that_nothing_was_submitted_of_is_recorded_too(wd: Path) -> None:
    assert JobScript("true", "j", prologue="exit 3").submit().status == FAILED
    (kept,) = store.all_records()
    assert (kept.phase, kept.status.native) == (Phase.REFUSED, "the prologue ended with 3")


def test_an_end_that_one_handle_sees_is_told_by_all_without_asking(wd: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    result = JobScript("exit 4", "j").submit()
    result.dump("kept")
    other = AsyncResult.load("kept")
    assert result.get() == FAILED

    def refuse(*_: Any, **__: Any) -> Any:
        raise AssertionError("the machine is asked")

    monkeypatch.setattr(LazyLocalContext, "run", refuse)
    monkeypatch.setattr(LazyLocalContext, "read", refuse)
    assert (other.status, other.exit_code, AsyncResult.load("kept").status) == (FAILED, 4, FAILED)


def test_a_dump_serves_where_the_record_is_not(wd: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """On another host, or with another home: the end is on the job's machine."""
    result = JobScript(UNTIL_GO, "j").submit()
    result.dump("kept")
    monkeypatch.setenv("PILOTFISH_HOME", str(tmp_path / "other"))
    other = AsyncResult.load("kept")
    assert other.status in (PENDING, -1)
    (wd / "go").touch()
    assert other.get() == COMPLETED
    assert list(store.all_records()) == []
    monkeypatch.setenv("PILOTFISH_HOME", str(tmp_path / "home"))
    assert result.get() == COMPLETED


def test_a_retry_knows_what_it_repeats(wd: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(JobScript, "cache_folder", str(wd / "cache"))
    first, second = (JobScript("exit 1", "j").submit(block=True) for _ in range(2))
    assert first.job is not None
    assert second.job is not None
    assert (second.job.record.attempt, second.job.record.previous) == (1, first.job.hash)
    again = fyrd.submit("exit 1", machine=GIVEN)
    again.wait()
    again.resubmit().wait()
    assert isinstance(again.place, SingleJob)
    assert again.place.record.attempt == 1
    assert len(list(store.all_records())) == 4


def test_a_job_that_is_not_over_is_not_forgotten(wd: Path) -> None:
    made = job(wd)
    made.submit(Script(UNTIL_GO))
    with pytest.raises(RefusedError, match="is not over"):
        made.forget()
    assert store.load(made.hash).id == made.id


def test_what_is_removed_is_gone_everywhere(wd: Path, tmp_path: Path) -> None:
    """The record, what is kept of the end and of the id on the machine, and files that a killed job has left behind."""
    made = job(wd)
    made.submit(Script("echo out >out"))
    while not look_at([made])[0].state.ended:
        pass
    (wd / f".{made.hash}.late").touch()
    made.forget()
    assert list(store.all_records()) == []
    assert list((tmp_path / "home/jobs").iterdir()) == []
    assert [path.name for path in wd.iterdir()] == ["out"]


def test_jobs_in_a_queue_are_counted_whoever_made_them(wd: Path) -> None:
    """For limits of how many jobs may be under way."""
    JobScript("true", "over").submit().get()
    living = JobScript(UNTIL_GO, "j").submit()
    more = [job(wd, name) for name in "ab"]
    for each in more:
        each.submit(Script(UNTIL_GO))
    assert living_beside(job(wd)) == 3
    fyrd.Job("true", machine=GIVEN).submit(max_jobs=4).wait()
    (wd / "go").touch()
    assert living.get() == COMPLETED


def test_a_program_that_dies_while_it_submits_leaves_a_job_that_is_found(wd: Path) -> None:
    """Killed after the batch system had taken it: no id is known, and the job is listed and comes to its end."""
    code = f"""
import os
from pilotfish import JobScript
from pilotfish.launcher.machines.shell import Shell
taken = Shell.submit
def submit(self, *given):
    taken(self, *given)
    os._exit(1)
Shell.submit = submit
JobScript("echo x >>ran; {UNTIL_GO}", "j", backend="shell").submit()
"""
    assert subprocess.run([sys.executable, "-c", code], timeout=PATIENCE_S, check=False).returncode == 1
    (kept,) = store.all_records()
    assert (kept.phase, kept.id) == (Phase.INTENDED, "")
    found = SingleJob(kept)
    assert look_at([found])[0].state is JobState.running
    (wd / "go").touch()
    while not look_at([found])[0].state.ended:
        pass
    assert (found.status.state, (wd / "ran").read_text()) == (JobState.finished, "x\n")


# --- ends without a record ----------------------------------------------------------------------------------------------------


def test_a_job_that_can_never_start_is_taken_out_of_the_queue(wd: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When the batch system has said so three times in a row: somebody may be just mending it."""
    made = job(wd)
    made.submit(Script("sleep 1000"))
    waits = Status(JobState.waiting, "PENDING", why="Priority")
    never = Status(JobState.waiting, "PENDING", why="PartitionNodeLimit", hopeless=True)
    answers = [never, never, waits, never, never, never]
    monkeypatch.setattr(Shell, "query", lambda *_: Listing({made.id: answers.pop(0)}))
    whys = []
    while not look_at([made])[0].state.ended:
        whys.append(made.status.why)
    assert whys == ["PartitionNodeLimit"] * 2 + ["Priority"] + ["PartitionNodeLimit"] * 2
    assert made.status.reason == "can never start: PartitionNodeLimit"


def test_a_job_that_leaves_no_record_is_told_with_its_last_words(wd: Path, wait_until: Callable[..., None]) -> None:
    made = job(wd)
    made.submit(Script("echo dying words; touch begun; sleep 1000"))
    wait_until((wd / "begun").exists, "the job to begin")
    os.killpg(int(made.id.partition(":")[0]), signal.SIGKILL)
    while not look_at([made])[0].state.ended:
        pass
    assert (made.status.reason, made.status.why) == ("vanished", "dying words")
    made.record = dataclasses.replace(store.load(made.hash), phase=Phase.PLACED, end=None)
    store.create(made.record)
    assert look_at([SingleJob(made.record)])[0].why == "dying words", "by what is on the machine too"


FAKE_LSF = r"""#!/bin/sh
cd "$FAKE"
case ${0##*/} in
  bsub) echo x >>ids; echo "Job <$(wc -l <ids)> is submitted to queue <q>." ;;
  bjobs) while read -r number; do echo "$number|PEND|||"; done <numbers ;;
esac
"""


@pytest.fixture
def lsf(wd: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A batch system in whose queue all jobs stay."""
    for name in ("bsub", "bjobs", "bhist", "bkill"):
        (wd / "bin").mkdir(exist_ok=True)
        (wd / "bin" / name).write_text(FAKE_LSF)
        (wd / "bin" / name).chmod(0o700)
    (wd / "bin/numbers").write_text("1\n2\n")
    monkeypatch.setenv("PATH", f"{wd}/bin:/usr/bin:/bin")
    monkeypatch.setenv("FAKE", str(wd / "bin"))


def test_what_the_batch_system_keeps_beside_the_output_of_a_job_goes_too(lsf: None, wd: Path) -> None:
    """Empty files at once, others when the job's own output is removed; and what a killed job writes after its end."""
    made = fyrd.submit("true", qtype="lsf", runpath="run")
    (wd / "run/1.out").touch()
    (wd / "run/1.err").write_text("noise")
    assert made.kill(confirm=False)
    assert isinstance(made.place, SingleJob)
    (wd / f"run/.{made.place.hash}.late").touch()
    assert sorted(path.name for path in (wd / "run").glob("[!f-z]*")) == [f".{made.place.hash}.late", "1.err"]
    made.clean(delete_outputs=True)
    assert list((wd / "run").iterdir()) == []


def test_a_script_that_waits_for_another_by_its_id_looks_how_that_ended(lsf: None, wd: Path) -> None:
    """Not all batch systems see to that; where the other is one of ours its own record tells."""
    first = JobScript("exit 3", "first", backend="lsf").submit()
    second = JobScript("touch ran", "second", backend="lsf", w=f"done({first.job_id})").submit()
    assert first.job is not None
    assert second.job is not None
    (needed,) = second.job.record.after
    assert (needed.id, needed.record) == (first.job_id, first.job.record_paths[0])
    assert "pf_needs 1 " in (wd / f".{second.job.hash}.sub").read_text()
