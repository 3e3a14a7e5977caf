"""One job, many handles: what was submitted runs, and all that look at it, in whatever program, tell the same."""

from __future__ import annotations

import copy
import dataclasses
import errno
import fcntl
import json
import pickle
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pilotfish import AsyncResult, JobScript
from pilotfish.launcher.compat.clusterjob.headers import ResourcesNotSupportedError
from pilotfish.launcher.compat.clusterjob.status import CANCELLED, COMPLETED, FAILED, PENDING
from pilotfish.launcher.job import store
from pilotfish.launcher.job.single import Phase
from pilotfish.launcher.submission.single import SingleJob
from pilotfish.pilot import locks
from pilotfish.pilot.model.errors import TransientError

UNTIL_GO = "until [ -e go ]; do sleep 0.05; done"


@pytest.fixture(autouse=True)
def pristine(wd: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.chdir(wd)
    monkeypatch.setattr(JobScript, "backend", "shell")
    monkeypatch.setattr(JobScript, "cache_folder", None)
    monkeypatch.setattr(JobScript, "max_sleep_interval", 0.05)
    yield
    JobScript.read_defaults()


def start(code: str) -> subprocess.Popen[str]:
    """Another program of the same user, in the same folder."""
    lines = ["from pilotfish import AsyncResult, JobScript", "JobScript.backend = 'shell'"]
    text = "\n".join([*lines, "JobScript.max_sleep_interval = 0.05", code])
    return subprocess.Popen([sys.executable, "-c", text], stdout=subprocess.PIPE, text=True)


def printed(program: subprocess.Popen[str]) -> str:
    out, _ = program.communicate(timeout=120)
    assert program.returncode == 0
    return out


# --- what was submitted is what runs ------------------------------------------------------------------------------------------


def test_jobs_of_one_name_run_their_own_texts(wd: Path) -> None:
    """A sweep: each job has its own script and its own auxiliary scripts, which may use each other."""
    aux = {"tool": "./part {num}", "part": "echo $1 {num}", "deep/er": "echo deep{num}"}
    text = UNTIL_GO + '; echo {num} >> bodies; ./tool >> tools; "./deep/er" >> deeps'
    results = [JobScript(text, "sweep", aux, num=num).submit() for num in range(3)]
    Path("go").touch()
    assert [result.get() for result in results] == [COMPLETED] * 3
    assert sorted((wd / "bodies").read_text().split()) == ["0", "1", "2"]
    assert sorted((wd / "tools").read_text().splitlines()) == ["0 0", "1 1", "2 2"]
    assert sorted((wd / "deeps").read_text().split()) == ["deep0", "deep1", "deep2"]
    assert not [path.name for path in wd.iterdir() if path.name.startswith(".")]


def test_jobs_of_one_name_that_run_at_the_same_time_do_not_mix_their_output(wd: Path) -> None:
    """The first has the file of that name; a later run has it anew."""
    results = [
        JobScript(f"echo {num}; echo e{num} >&2; touch begun{num}; {UNTIL_GO}", "s").submit() for num in range(3)
    ]
    while len(list(wd.glob("begun*"))) < 3:
        assert all(result.status < COMPLETED for result in results)
    Path("go").touch()
    AsyncResult.wait_all(results)
    outs, errs = ({path.name: path.read_text() for path in wd.glob(f"s.*{end}")} for end in ("out", "err"))
    assert sorted(outs.values()) == ["0\n", "1\n", "2\n"]
    assert sorted(errs.values()) == ["e0\n", "e1\n", "e2\n"]
    assert JobScript("echo later", "s").submit().get() == COMPLETED
    assert (wd / "s.out").read_text() == "later\n"


@pytest.mark.parametrize(
    "call",
    [
        *["./tool", "cd $CLUSTERJOB_WORKDIR; ./tool", 'cd "${{CLUSTERJOB_WORKDIR}}"\n./tool', "(./tool)", '"./tool"'],
        *["$CLUSTERJOB_WORKDIR/tool", "cd /; ${{CLUSTERJOB_WORKDIR}}/tool", "bash ./tool", "X=1 ./tool;"],
    ],
)
def test_auxiliary_scripts_are_the_jobs_own_however_they_are_called(wd: Path, call: str) -> None:
    """Also while another job of that name runs with another one."""
    results = [JobScript(f"{UNTIL_GO}; {call}", "s", {"tool": f"echo {num} >> {wd}/out"}).submit() for num in range(2)]
    while len(list(wd.glob(".*.claim"))) < 2 or list(wd.glob(".*.given.tmp")):
        assert all(result.status < COMPLETED for result in results)
    Path("go").touch()
    assert [result.get() for result in results] == [COMPLETED] * 2
    assert sorted((wd / "out").read_text().split()) == ["0", "1"]


def test_files_that_change_after_the_submission_change_nothing(wd: Path) -> None:
    """Not even an auxiliary script that is not called by its path."""
    result = JobScript(UNTIL_GO + "; ./tool; bash tool", "j", {"tool": "echo submitted"}).submit()
    for name in ("j.sh", "tool"):
        (wd / name).write_text("echo changed\nexit 9\n")
    Path("go").touch()
    assert result.get() == COMPLETED
    assert (wd / "j.out").read_text() == "submitted\nsubmitted\n"


def test_a_path_that_only_looks_like_an_auxiliary_script_stays(wd: Path) -> None:
    (wd / "sub").mkdir()
    (wd / "sub/tool").write_text("#!/bin/sh\necho other\n")
    (wd / "sub/tool").chmod(0o700)
    aux = {"tool": "echo mine"}
    assert JobScript("cd sub && ./tool", "a", aux).submit().get() == COMPLETED
    assert JobScript("sub/./tool; ./tool; echo ./tool.log ./tools", "b", aux).submit().get() == COMPLETED
    assert [(wd / name).read_text() for name in ("a.out", "b.out")] == ["other\n", "other\nmine\n./tool.log ./tools\n"]


# --- several handles ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("body", "status", "code"), [("true", COMPLETED, 0), ("exit 4", FAILED, 4)])
def test_handles_that_come_later_tell_the_same(wd: Path, body: str, status: int, code: int) -> None:
    result = JobScript(body, "j").submit()
    result.dump("one")
    result.dump("two")
    assert result.get() == status
    for name in ("one", "two", "one"):
        found = AsyncResult.load(name)
        assert (found.get(), found.exit_code, found.message) == (status, code, result.message)


def test_programs_that_wait_at_the_same_time_tell_the_same(wd: Path, tmp_path: Path) -> None:
    """Some by one file, some by a file of their own; what is in the files too."""
    result = JobScript(UNTIL_GO, "j", epilogue="echo x >> ran").submit()
    for name in ("shared", "own"):
        result.dump(name)
    loads = ["shared", "shared", "own"]
    programs = [start(f"print(AsyncResult.load('{name}').get(), flush=True)") for name in loads]
    Path("go").touch()
    assert [printed(program) for program in programs] == ["0\n"] * 3
    assert result.get() == COMPLETED
    shutil.rmtree(tmp_path / "home")
    assert [AsyncResult.load(name).status for name in ("shared", "own")] == [COMPLETED] * 2
    assert (wd / "ran").read_text() == "x\n", "once over all of them"


def test_a_handle_that_knows_less_does_not_overwrite_the_end(wd: Path) -> None:
    result = JobScript("true", "j").submit()
    result.dump("kept")
    older = AsyncResult.load("kept")
    assert AsyncResult.load("kept").get() == COMPLETED
    older.dump()
    assert AsyncResult.load("kept").status == older.status == COMPLETED


def test_a_cancelled_job_is_cancelled_for_all() -> None:
    result = JobScript("sleep 1000", "j").submit()
    result.dump("kept")
    other = AsyncResult.load("kept")
    result.cancel()
    assert [other.status, AsyncResult.load("kept").status] == [CANCELLED] * 2


def test_a_job_that_was_over_is_not_cancelled(wd: Path, wait_until: Callable[..., None]) -> None:
    result = JobScript("true", "j").submit()
    wait_until(lambda: list(wd.glob("*_result.json")), "the job to end")
    assert result.job is not None
    assert result.job.cancel().reason == ""
    assert result.status == COMPLETED


def test_a_handle_from_before_the_job_had_an_id_finds_it(wd: Path) -> None:
    """Also when another handle has seen its end by then; while it is being submitted it is pending, not lost."""
    result = JobScript(UNTIL_GO, "j").submit()
    assert result.job is not None
    known, record = result.job_id, result.job.record
    result.job.step(lambda record: dataclasses.replace(record, phase=Phase.INTENDED, id=""))
    result.dump("early")
    store.create(dataclasses.replace(result.job.record, hash="0" * 40))
    result.dump("later")
    early, not_yet = AsyncResult.load("early"), AsyncResult(job=SingleJob(store.load("0" * 40)))
    assert [not_yet.status for _ in range(9)] == [PENDING] * 9
    with pytest.raises(TransientError, match="just submitting it"):
        not_yet.cancel()
    Path("go").touch()
    assert early.get() == COMPLETED
    assert early.job_id == known == record.id
    assert AsyncResult.load("later").get() == COMPLETED


def test_the_epilogue_runs_once_over_handles_files_and_cache(wd: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(JobScript, "cache_folder", str(wd / "cache"))
    script = JobScript("true", "j", epilogue="echo x >> ran")
    result = script.submit()
    for name in ("one", "two"):
        result.dump(name)
    assert [AsyncResult.load("one").get(), result.get(), script.submit().get()] == [COMPLETED] * 3
    AsyncResult.load("two").run_epilogue()
    assert (wd / "ran").read_text() == "x\n"


def test_what_is_kept_of_a_job_goes_when_it_is_asked_to(wd: Path, tmp_path: Path) -> None:
    result = JobScript("true", "j", epilogue="true").submit()
    result.cache_file = "kept"
    assert result.get() == COMPLETED
    kept = tmp_path / "home/jobs"
    assert sorted(path.suffix for path in kept.iterdir()) == [".epilogue", ".id", ".json"]
    result.forget()
    assert list(kept.iterdir()) == []
    assert not Path("kept").exists()


def test_garbage_where_an_end_is_kept_is_no_end(wd: Path) -> None:
    result = JobScript("true", "j").submit()
    assert result.job is not None
    for text in ("", "{}", "[1]", '{"job": 1, "state": "running"}', "\x00\xff"):
        Path(result.job.end_path).write_text(text)
        assert AsyncResult(job=result.job).status in (PENDING, -1, COMPLETED)


def test_a_result_loads_what_was_kept_into_itself(wd: Path) -> None:
    """As in clusterjob 1.1.3; where there is nothing it is an OSError."""
    result = JobScript("exit 4", "j").submit()
    result.dump("kept")
    other = AsyncResult()
    other.load("kept")
    assert (other.get(), other.job_id) == (FAILED, result.job_id)
    for load in (AsyncResult.load, other.load):
        with pytest.raises(OSError, match="nothing: there is no kept result"):
            load("nothing")


def test_errors_are_those_that_programs_catch() -> None:
    with pytest.raises(ValueError, match="has invalid pattern"):
        JobScript("true", "j", time="soon").submit()
    with pytest.raises(KeyError, match="is not known"):
        JobScript("{unknown}", "j").submit()
    with pytest.raises(ValueError, match="Unknown backend"):
        JobScript("true", "j", backend="slurmm").submit()


# --- block --------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("body", "status"), [("true", COMPLETED), ("exit 7", FAILED)])
def test_block_gives_the_status(body: str, status: int) -> None:
    """As a number, as in clusterjob, that also is the result."""
    found = JobScript(body, "j").submit(block=True)
    assert found == status
    assert bool(found) == bool(status)
    assert (isinstance(found, int), f"{found}", json.dumps([found])) == (True, str(status), f"[{status}]")
    assert (found.status, found.successful(), found.get()) == (status, status == COMPLETED, status)


def test_the_status_of_block_goes_to_other_processes_as_a_number() -> None:
    """Pools of processes pickle what their functions return."""
    found = JobScript("exit 7", "j").submit(block=True)
    assert [pickle.loads(pickle.dumps(found)), copy.copy(found), copy.deepcopy([found])] == [FAILED, FAILED, [FAILED]]


@pytest.mark.parametrize("resource", [{"dependency": "afterok:7"}, {"depend": "afterany:7"}, {"-hold_jid": 7}])
def test_a_script_without_a_batch_system_cannot_depend_on_another(wd: Path, resource: dict[str, Any]) -> None:
    """It would start at once."""
    with pytest.raises(ResourcesNotSupportedError, match="starts at once, whatever it depends on"):
        JobScript("touch ran", "j", **resource).submit()
    assert not (wd / "ran").exists()


def test_block_gives_failed_where_nothing_was_submitted() -> None:
    assert JobScript("true", "j", prologue="exit 1").submit(block=True) == FAILED


# --- the cache ----------------------------------------------------------------------------------------------------------------


def submit_at_once(wd: Path) -> list[str]:
    """Ids that two programs get for one script that they submit at the same time."""
    code = (
        "import os, time\nJobScript.cache_folder = 'cache'\n"
        "open(f'ready{os.getpid()}', 'w').close()\nwhile not os.path.exists('start'): time.sleep(0.01)\n"
        "result = JobScript('echo x >> runs', 'j', prologue='sleep 0.3').submit()\nprint(result.job_id, result.get())"
    )
    programs = [start(code) for _ in range(3)]
    while len(list(wd.glob("ready*"))) < 3:
        assert all(program.poll() is None for program in programs)
    (wd / "start").touch()
    return [printed(program) for program in programs]


def test_programs_that_submit_the_same_script_at_once_share_one_job(wd: Path) -> None:
    assert len(set(submit_at_once(wd))) == 1
    assert (wd / "runs").read_text() == "x\n"


def test_where_the_file_system_knows_no_locks_they_share_one_job_too(wd: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(file: Any, how: int) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)
    monkeypatch.setattr(JobScript, "cache_folder", str(wd / "cache"))
    ids: list[str | None] = []
    script = JobScript("echo x >> runs", "j", prologue="sleep 0.2")
    threads = [threading.Thread(target=lambda: ids.append(script.submit(True, "mine").job_id)) for _ in range(3)]
    ended = subprocess.Popen(["sleep", "100"])
    owner = dataclasses.replace(locks.Owner.this(), pid=ended.pid)
    ended.kill()
    ended.wait()
    (wd / "cache").mkdir()
    lock = wd / "cache/clusterjob.mine.cache.lock.held"
    lock.symlink_to(str(owner))  # left by a program that died
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(ids) == 3
    assert len(set(ids)) == 1
    assert (wd / "runs").read_text() == "x\n"
    assert not list((wd / "cache").glob("*.held"))


OTHERS: dict[str, Callable[[JobScript], Any]] = {
    "body": lambda script: setattr(script, "body", "echo other >> runs"),
    "auxiliary script": lambda script: script.aux_scripts.update(tool="echo 2 >> runs"),
    "one more": lambda script: script.aux_scripts.update(more="true"),
    "prologue": lambda script: setattr(script, "prologue", "echo 2 > given"),
    "epilogue": lambda script: setattr(script, "epilogue", "true"),
    "shell": lambda script: setattr(script, "shell", "/bin/sh"),
    "folder": lambda script: setattr(script, "workdir", "other"),
    "root": lambda script: setattr(script, "rootdir", "other"),
    "resources": lambda script: script.resources.update(time="10"),
    "placeholder": lambda script: setattr(script, "value", "2"),
    "machine": lambda script: setattr(
        script, "machine", {"batch_type": "Shell", "context_type": "Local", "local_root": ".", "remote_root": "far"}
    ),
}


def test_a_kept_result_is_only_for_the_same_work(wd: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever decides what is run, or where, makes it another job."""
    monkeypatch.setattr(JobScript, "cache_folder", str(wd / "cache"))

    def made() -> JobScript:
        script = JobScript(f"echo {{value}} >> {wd}/runs; ./tool", "j", {"tool": "true"}, prologue="echo 1 > given")
        script.value = "1"
        return script

    first = made().submit()
    assert made().submit().job_id == first.job_id
    results = {"same": first}
    for name, change in OTHERS.items():
        changed = made()
        change(changed)
        results[name] = changed.submit()
    AsyncResult.wait_all(list(results.values()))
    assert {name for name, result in results.items() if result.job_id == first.job_id} == {"same"}
    assert all(result.successful() for result in results.values())


def test_a_kept_result_belongs_to_the_folder_where_it_ran(wd: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(JobScript, "cache_folder", str(wd / "cache"))
    for name in ("a", "b"):
        (wd / name).mkdir()
        monkeypatch.chdir(wd / name)
        assert JobScript("touch ran", "j").submit().get() == COMPLETED
        assert Path("ran").exists()
