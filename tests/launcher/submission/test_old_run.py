"""Runs that DPDispatcher has begun are gone on with."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from patience import PATIENCE_S
from sshd import Sshd

from pilotfish import Machine, Resources, Submission, Task
from pilotfish.launcher.description.schema import DescriptionError
from pilotfish.launcher.job.states import JobState
from pilotfish.launcher.submission import adopt as old_run
from pilotfish.launcher.submission.adopt import OldJob
from pilotfish.launcher.submission.batch_job import BatchJob, Phase
from pilotfish.launcher.submission.events import Ended, Submitted
from pilotfish.launcher.submission.store import UnknownSubmissionError

RECORD = (Path(__file__).parents[1] / "golden" / "dpdispatcher_record.json").read_text()
"""As DPDispatcher 1.1.0 wrote it, with @HERE@ for the folder in which it ran."""
FOLDER = "d7354f3302d26f5b3fefea733ee952f19ac08103"
A, B, C = (
    "b24b12ebf3ddbe7e2f6803a2d4c0bb4b41251775",
    "7921596abdc92f1a55a8bedc48a50922d6ee7583",
    "9e38f1319ed2a66aa290cc93c55c720541e93e00",
)
COMMANDS = {"a": "echo a > out", "b": "until [ -e ../go ]; do sleep 0.1; done; echo b > out", "c": "exit 3"}


def submission(wd: Path, tell: Callable[[str], None] = print, **machine: Any) -> Submission:
    given = {"batch_type": "Shell", "context_type": "LocalContext", "local_root": str(wd)}
    made = Machine.load_from_dict(given | {"remote_root": str(wd / "there")} | machine)
    tasks = [Task(command, name, backward_files=["out"]) for name, command in COMMANDS.items()]
    return Submission("work", made, Resources(group_size=1), task_list=tasks, tell=tell)


# --- what a record says -----------------------------------------------------------------------------------------------------


def test_a_record_of_dpdispatcher_is_read(wd: Path) -> None:
    text = RECORD.replace("@HERE@", str(wd)).encode()
    assert old_run.parse(text, wd / "work") == {
        A: OldJob(JobState.finished, "26030", 0),
        B: OldJob(JobState.running, "26027", 0),
        C: OldJob(JobState.terminated, "26101", 4),
    }
    assert old_run.parse(text, wd / "other") == {}, "the same tasks in another project"
    assert old_run.parse(text[:-100], wd / "work") == {}


@pytest.mark.parametrize(
    ("local_root", "work_base", "began_in", "expected"),
    [
        (".", "w", "/p/w", "/p/w"),
        ("sub", "w/x", "/p/w/x", "/p/sub/w/x"),
        ("/r", "w", "/p/w", "/r/w"),
        ("..", "./w/", "/p/q/w", "/p/w"),
        (".", "/abs/w", "/abs/w", "/abs/w"),
    ],
)
def test_the_folder_of_a_record(local_root: str, work_base: str, began_in: str, expected: str) -> None:
    entry = {"job_state": 3, "job_id": "1", "fail_count": 0}
    found = {
        "work_base": work_base,
        "_abs_work_base": began_in,
        "machine": {"local_root": local_root},
        "belonging_jobs": [{A: entry}],
    }
    assert list(old_run.parse(json.dumps(found).encode(), Path(expected))) == [A]


def ended(job: str, attempt: int, counts: bool = True, again: bool = True) -> Ended:
    reason = "program" if counts else "vanished"
    return Ended(job, attempt, reason, "before this launcher", None, counts, again, ())


@pytest.mark.parametrize(
    ("old", "attempts", "expected"),
    [
        (OldJob(JobState.waiting, "7", 0), {}, [Submitted(A, 0, "7")]),
        (OldJob(JobState.running, "7", 2), {}, [ended(A, 0), ended(A, 1), Submitted(A, 2, "7")]),
        (OldJob(JobState.unknown, "7", 0), {}, [Submitted(A, 0, "7")]),
        (OldJob(JobState.unsubmitted, "", 0), {}, []),
        (OldJob(JobState.finished, "7", 0), {}, []),
        (OldJob(JobState.terminated, "7", 1), {}, [ended(A, 0)]),
        (OldJob(JobState.terminated, "7", 2), {}, [ended(A, 0), ended(A, 1, again=False)]),
        (OldJob(JobState.running, "7", 0), {A: 1}, [ended(A, 0, counts=False), Submitted(A, 1, "7")]),
        (OldJob(JobState.unsubmitted, "", 0), {A: 0}, [ended(A, 0, counts=False)]),
    ],
)
def test_what_is_written_down(old: OldJob, attempts: dict[str, int], expected: list[Any]) -> None:
    assert old_run.to_events({A: old}, [BatchJob(A, ("t",))], attempts, retry_count=1) == expected


def test_what_is_known_here_counts_more() -> None:
    old = {A: OldJob(JobState.running, "7", 2)}
    assert old_run.to_events(old, [BatchJob(A, ("t",), Phase.PLACED)], {}, retry_count=1) == []
    assert old_run.to_events(old, [BatchJob(A, ("t",), attempt=1, failures=1)], {}, retry_count=1) == [
        ended(A, 1),
        Submitted(A, 2, "7"),
    ]


def test_attempts_by_the_files_of_our_jobs() -> None:
    names = [f".{A}.0.id", f".{A}.2.1.claim", f".{A}.1.id", f"{A}.json", f".{A}.sub"]
    assert old_run.attempts(names) == {A: 2}


# --- the whole way ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def begun(wd: Path, wait_until: Any) -> Iterator[Callable[..., Path]]:
    """`begun(folder, name)`: a record, the tag of a, and a job that runs b, as DPDispatcher leaves them."""
    started: list[subprocess.Popen[bytes]] = []

    def make(root: Path, name: str) -> Path:
        for task in COMMANDS:
            (root / task).mkdir(parents=True, exist_ok=True)
        (root / "a/out").write_text("from before\n")
        (root / "a/f1c491e0e65aec5c4390115a17c76cedef9674de_task_tag_finished").touch()
        tag = Task(COMMANDS["b"], "b", backward_files=["out"]).task_hash
        script = (
            f'cd "{root}"/b; touch started; {COMMANDS["b"]}; cd "{root}"/b && touch {tag}_task_tag_finished; exit 0\n'
        )
        (root / f".{B}.sub").write_text(script)
        started.append(subprocess.Popen(["bash", f".{B}.sub"], cwd=root))
        wait_until((root / "b/started").exists, "the job to begin")
        record = RECORD.replace("@HERE@", str(wd)).replace("26027", str(started[-1].pid))
        (root / f"{name}.json").write_text(record)
        return root

    (wd / "work").mkdir()
    yield make
    for process in started:
        process.kill()
        process.wait()


def run(made: Submission, go: Path) -> str:
    """Hand over, let b end, go on; the message of the job that has failed for good."""
    with pytest.raises(RuntimeError) as caught:
        made.run_submission(exit_on_submit=True)
        go.touch()
        made.run_submission(check_interval=1)
    return str(caught.value)


@pytest.mark.parametrize("context", ["LocalContext", "LazyLocalContext"])
def test_going_on_in_the_folder_of_an_old_run(wd: Path, begun: Callable[..., Path], context: str) -> None:
    lazy = context == "LazyLocalContext"
    old = begun(wd / "work" if lazy else wd / "there" / FOLDER, FOLDER)
    told: list[str] = []
    made = submission(wd, told.append, context_type=context)
    text = run(made, old / "go")
    assert f"taken over from {old}/{FOLDER}.json: 1 jobs that may still run, 4 failures" in told
    assert "1 task was finished before" in told
    assert f"1 of 3 jobs failed for good\njob {C} (never submitted) failed 4 times: program" in text
    assert not any("submitted" in line for line in told), "nothing was run again"
    assert (wd / "work/a/out").read_text() == "from before\n"
    assert (wd / "work/b/out").read_text() == "b\n"
    with made.opened() as opened:
        opened.runner.clean()
    assert lazy or os.listdir(wd / "there") == []


def test_going_on_over_ssh(wd: Path, begun: Callable[..., Path], sshd: Sshd) -> None:
    old = begun(wd / "there" / FOLDER, FOLDER)
    told: list[str] = []
    text = run(submission(wd, told.append, context_type="SSH", remote_profile=sshd.profile), old / "go")
    assert f"taken over from {old}/{FOLDER}.json: 1 jobs that may still run, 4 failures" in told
    assert "never submitted" in text
    assert [(wd / "work" / name / "out").read_text() for name in "ab"] == ["from before\n", "b\n"]


def test_with_other_resources_after_an_old_run(wd: Path, begun: Callable[..., Path], wait_until: Any) -> None:
    old = begun(wd / "there" / FOLDER, FOLDER)
    told: list[str] = []

    def again(previous: str, cores: int = 2) -> Submission:
        made = submission(wd, told.append, retry_count=0)
        made.resources = Resources(group_size=0, cpu_per_node=cores)
        made.previous_submission_hash = previous
        made.belonging_tasks = made.belonging_tasks[:2]
        return made

    with pytest.raises(DescriptionError, match="the previous submission has living jobs"):
        again(FOLDER).run_submission()
    (old / "go").touch()
    wait_until(lambda: list((old / "b").glob("*_task_tag_finished")), "b to end")
    again(FOLDER).run_submission(check_interval=1, clean=False)
    assert "2 tasks were finished before" in told
    assert not old.exists()
    assert [(wd / "work" / name / "out").read_text() for name in "ab"] == ["from before\n", "b\n"]
    with pytest.raises(UnknownSubmissionError):
        again("0" * 40, cores=3).run_submission()


def test_a_job_of_an_old_run_is_cancelled_with_all_that_runs_in_it(wd: Path, begun: Callable[..., Path]) -> None:
    old = begun(wd / "there" / FOLDER, FOLDER)
    made = submission(wd)
    made.run_submission(exit_on_submit=True, retry_failed=True)
    (pid,) = (job.job_id.partition(":")[0] for job in made.belonging_jobs if job.job_hash == B)
    assert made.cancel() == 2
    assert Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    assert not (old / "b/out").exists()


def test_a_launcher_that_died_while_taking_over(wd: Path, begun: Callable[..., Path]) -> None:
    """After the folder got its new name, before the old one was a link, and before anything was written down."""
    old = begun(wd / "there" / FOLDER, FOLDER)
    told: list[str] = []
    made = submission(wd, told.append)
    old.rename(made.remote_root)
    run(made, Path(made.remote_root) / "go")
    assert old.is_symlink()
    assert not any("submitted" in line for line in told), told
    assert [(wd / "work" / name / "out").read_text() for name in "ab"] == ["from before\n", "b\n"]


def test_a_launcher_that_died_while_it_wrote_that_down(wd: Path, begun: Callable[..., Path]) -> None:
    begun(wd / "there" / FOLDER, FOLDER)
    made = submission(wd)
    made.run_submission(exit_on_submit=True)
    journal = Path(os.environ["PILOTFISH_HOME"], "submissions", made.submission_hash, "journal")
    journal.write_text("".join(journal.read_text().splitlines(keepends=True)[:1]))
    told: list[str] = []
    run(submission(wd, told.append), Path(made.remote_root) / "go")
    assert not any("submitted" in line for line in told), told
    assert (wd / "work/b/out").read_text() == "b\n"


def test_other_peoples_runs_are_left_alone(wd: Path, begun: Callable[..., Path]) -> None:
    old = begun(wd / "there" / FOLDER, FOLDER)
    record = old / f"{FOLDER}.json"
    record.write_text(record.read_text().replace(str(wd), "/elsewhere"))
    made = submission(wd, retry_count=0)
    made.belonging_tasks = made.belonging_tasks[:1]
    made.run_submission(check_interval=1)
    assert (wd / "work/a/out").read_text() == "a\n"
    assert old.is_dir()


def test_our_own_run_when_its_record_here_is_lost(wd: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (wd / "work").mkdir()
    made = submission(wd)
    made.belonging_tasks = made.belonging_tasks[:2]
    made.run_submission(exit_on_submit=True)
    ids = [job.job_id for job in made.belonging_jobs]
    monkeypatch.setenv("PILOTFISH_HOME", str(wd / "another"))
    told: list[str] = []
    again = submission(wd, told.append)
    again.belonging_tasks = again.belonging_tasks[:2]
    Path(again.remote_root, "go").touch()
    again.run_submission(check_interval=1)
    assert sorted(job.job_id for job in again.belonging_jobs if job.job_id) <= sorted(ids)
    assert not any("submitted" in line for line in told)
    assert (wd / "work/b/out").read_text() == "b\n"


@pytest.mark.parametrize("context", ["LocalContext", "LazyLocalContext"])
def test_a_run_of_the_real_dpdispatcher(wd: Path, context: str) -> None:
    python = os.environ.get("DPDISPATCHER_PYTHON", "/tmp/dpd-venv-chief/bin/python")
    if not Path(python).exists():
        pytest.skip("DPDispatcher is no dependency: DPDISPATCHER_PYTHON names a Python that has it")
    for name in "ab":
        (wd / "work" / name).mkdir(parents=True)
    script = f"""
from dpdispatcher import Machine, Resources, Task, Submission
given = {{"batch_type": "Shell", "context_type": "{context}", "local_root": ".", "remote_root": "there"}}
tasks = [Task(command=command, task_work_path=name, backward_files=["out"])
         for name, command in {[(name, COMMANDS[name]) for name in "ab"]}]
machine = Machine.load_from_dict(given | {{"remote_profile": {{}}}})
made = Submission("work", machine, Resources(1, 1, 0, "", 1), task_list=tasks)
made.run_submission(exit_on_submit=True)
"""
    subprocess.run([python, "-c", script], cwd=wd, env={**os.environ, "HOME": str(wd)}, check=True, timeout=PATIENCE_S)
    told: list[str] = []
    made = submission(wd, told.append, context_type=context)
    made.belonging_tasks = made.belonging_tasks[:2]
    made.run_submission(exit_on_submit=True)
    Path(made.remote_root, "go").touch()
    made.run_submission(check_interval=1)
    assert any("1 jobs that may still run" in line for line in told)
    assert not any("submitted" in line for line in told)
    assert [(wd / "work" / name / "out").read_text() for name in "ab"] == ["a\n", "b\n"]
