"""What the launcher does when batch system, files and people do not behave. The batch system is four scripts."""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from patience import only_when_thorough

from pilotfish.launcher.contexts.local import LocalContext
from pilotfish.launcher.submission.batch_job import BatchJob, Phase
from pilotfish.launcher.submission.pilot_jobs import PilotWork
from pilotfish.launcher.submission.placement import Placement
from pilotfish.launcher.submission.runner import SubmissionFailedError
from pilotfish.launcher.submission.tunnel import remote_pilot
from pilotfish.pilot.model.errors import TransientError
from pilotfish.pilot.wire import connection

PROGRAMS = {
    "sbatch": """\
if grep -q 'too much' $2.run; then echo 'sbatch: error: Memory specification can not be satisfied' >&2; exit 1; fi
number=$(($(cat $FAKE/last 2>/dev/null) + 1))
if [ -e $FAKE/full ] || [ $number -gt $(cat $FAKE/room 2>/dev/null || echo 999) ]; then
  echo 'sbatch: error: Job violates accounting/QOS policy' >&2
  exit 1
fi
echo $number >$FAKE/last
SLURM_JOB_ID=$number setsid bash $2 >/dev/null 2>&1 </dev/null &
echo $! >$FAKE/$number.pid
[ $number != "$(cat $FAKE/breaks 2>/dev/null)" ] || { rm $FAKE/breaks; kill -9 0; }
echo $number
""",
    "squeue": """\
while [ $1 != -j ]; do shift; done
for number in $(echo $2 | tr , ' '); do
  [ -e $FAKE/forgotten ] || ! kill -0 $(cat $FAKE/$number.pid) 2>/dev/null || echo "$number|RUNNING|node1"
done
""",
    "sacct": "exit 1\n",
    "scontrol": "exit 1\n",
    "scancel": """\
shift
rm -f $FAKE/forgotten
for number in "$@"; do echo $number >>$FAKE/cancelled; kill -TERM -- -$(cat $FAKE/$number.pid) 2>/dev/null; done; true
""",
}


Make = Callable[..., Placement]
SLURM: Mapping[str, Any] = {"batch_type": "Slurm"}
SHELL: Mapping[str, Any] = {"batch_type": "Shell"}
LAZY: Mapping[str, Any] = {"batch_type": "Shell", "context_type": "LazyLocal"}


class World:
    """A clock that sleeping moves, and things that happen at the n-th sleep."""

    def __init__(self) -> None:
        self.now = 1_000_000.0
        self.sleeps = 0
        self.at: dict[int, Callable[[], object]] = {}
        self.told: list[str] = []
        self.counted: list[dict[str, int]] = []

    def clock(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.sleeps += 1
        assert self.sleeps < 400, "the launcher waits for something that does not come"
        self.now += seconds
        time.sleep(0.005)  # the jobs are real, and need a little
        self.at.pop(self.sleeps, lambda: None)()


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
def fake(wd: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Folder of the batch system's state; `full` and `forgotten` are files that make it so (until something is cancelled)."""
    folder = wd / "fake"
    folder.mkdir()
    programs = wd / "bin"
    programs.mkdir()
    for name, text in PROGRAMS.items():
        (programs / name).write_text(f"#!/bin/bash\n{text}")
        (programs / name).chmod(stat.S_IRWXU)
    monkeypatch.setenv("FAKE", str(folder))
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    return folder


@pytest.fixture
def make(wd: Path, world: World, submission: Callable[..., Placement]) -> Callable[..., Placement]:
    """As the fixture `submission`, with the tests' time, Slurm where nothing else is said, and folders for the tasks."""
    tools = {"tell": world.told.append, "count": world.counted.append, "clock": world.clock, "sleep": world.sleep}

    def made(*tasks: dict[str, Any], machine: Mapping[str, Any] = SLURM, **given: Any) -> Placement:
        for each in tasks:
            (wd / "here/w" / each["task_work_path"]).mkdir(parents=True, exist_ok=True)
        return submission(*tasks, machine=machine, tools=tools, **given)

    return made


def task(folder: str, command: str, **more: Any) -> dict[str, Any]:
    return {"command": command, "task_work_path": folder, **more}


def written(path: Path) -> bool:
    """Whether something is in the file by now; the shell makes it before it writes."""
    return path.exists() and path.stat().st_size > 0


# --- the batch system -----------------------------------------------------------------------------------------------------


def test_a_queue_that_is_full_with_the_jobs_of_others_is_tried_again(make: Make, fake: Path, world: World) -> None:
    (fake / "full").touch()
    world.at[3] = (fake / "full").unlink
    assert make(task("a", "true")).run(check_interval_s=2).over
    assert any("takes no job now" in line for line in world.told)


def test_a_queue_that_fills_up_takes_the_rest_later(make: Make, fake: Path, wd: Path, world: World) -> None:
    (fake / "room").write_text("3")
    world.at[3] = (fake / "room").unlink
    made = make(*(task(name, f"echo {name} >>../starts") for name in "abcde"))
    assert made.run(check_interval_s=2, clean=False).over
    (root,) = (wd / "there").iterdir()
    assert sorted((root / "starts").read_text().split()) == list("abcde")


def test_a_command_that_breaks_off_leaves_no_job_unknown_and_runs_none_twice(
    make: Make, fake: Path, wd: Path, world: World
) -> None:
    """It hands several jobs over, and dies when the second has been taken."""
    (fake / "breaks").write_text("2")
    made = make(*(task(name, f"echo {name} >>../starts") for name in "abcde"))
    assert made.run(check_interval_s=2, clean=False).over
    (root,) = (wd / "there").iterdir()
    assert sorted((root / "starts").read_text().split()) == list("abcde")
    assert sum("not known whether" in line for line in world.told) == 4


def test_a_job_that_is_refused_holds_up_no_other(make: Make, fake: Path, wd: Path) -> None:
    made = make(*(task(name, "hostname >out", backward_files=["out"]) for name in "abcd"), task("e", ": too much"))
    with pytest.raises(SubmissionFailedError, match="1 of 5 jobs failed for good") as caught:
        made.run(check_interval_s=1)
    assert "Memory specification" in str(caught.value)
    assert all((wd / "here/w" / name / "out").exists() for name in "abcd")


def test_a_job_that_the_batch_system_forgets_is_ended_before_it_is_placed_again(
    make: Make, fake: Path, wd: Path, world: World, wait_until: Callable[..., None]
) -> None:
    """It still runs; the record of it is lost. Two of them at once would write into the same folder."""
    made = make(task("a", "echo x >>../starts; [ $(wc -l <../starts) -gt 1 ] || exec sleep 1000"))
    root = Path(made.context().root_for(made.hash, "w"))
    made.run(detach=True)
    wait_until(lambda: written(root / "starts"), "the job to start")
    (fake / "forgotten").touch()
    before = world.now
    made.run(check_interval_s=30)
    assert (fake / "cancelled").read_text().split() == ["1"]
    assert world.now - before > 60, "files of another host may take a minute to be seen"


def test_one_job_of_many_tasks_may_leave_some_undone(make: Make, fake: Path, wd: Path) -> None:
    tasks = [task(name, "hostname >out", backward_files=["out"]) for name in "abc"]
    tasks.append(task("d", "sleep 1000"))
    resources = {"group_size": 0, "para_deg": 4, "strategy": {"ratio_unfinished": 0.3}}
    assert make(*tasks, resources=resources).run(check_interval_s=1).over
    assert all((wd / "here/w" / name / "out").exists() for name in "abc"), "what was done has come home"


def test_a_result_that_was_begun_before_a_look_is_seen_by_the_next(make: Make, wd: Path) -> None:
    """It gets its name after it has been written; and one of a second attempt replaces that of the first."""
    made = make(task("a", "true"), machine=SHELL)
    (job,) = made.peek().jobs.values()
    folder = Path(made.context().root_for(made.hash, "w"), f".{job.hash}.tasks")
    folder.mkdir(parents=True)
    work = made.work(made.context())

    def seen() -> list[int]:
        found = work.partial(made.context(), [job])[job.hash]
        return [result.exit_code for result in found.values()]

    assert [seen(), seen()] == [[], []]
    for code in (3, 0):
        (folder / f".{job.tasks[0]}").write_text(f"{job.tasks[0]} {code} 1.0 2.0 node 0\n")
        assert seen() == []
        (folder / f".{job.tasks[0]}").rename(folder / job.tasks[0])
        assert seen() == [code]
        assert seen() == []


def test_what_is_counted_for_people(make: Make, fake: Path, wd: Path, world: World) -> None:
    tasks = [task(name, "while [ ! -e ../go ]; do sleep 0.02; done") for name in "abcd"]
    made = make(*tasks, resources={"group_size": 0, "para_deg": 2})
    world.at[5] = Path(made.context().root_for(made.hash, "w"), "go").touch
    assert made.run(check_interval_s=1).over
    assert {"tasks": 4, "done": 0, "failed": 0, "running": 2} in world.counted


@only_when_thorough
def test_one_job_of_thousands_of_tasks(make: Make, fake: Path, wd: Path) -> None:
    """More names than a command line may hold."""
    tasks = [task("a", f": {number}") for number in range(1500)]
    made = make(*tasks, resources={"group_size": 0, "para_deg": 2})
    assert made.run(check_interval_s=1).over
    assert made.last is not None
    assert made.last.counts() == {"tasks": 1500, "done": 1500, "failed": 0}


# --- files ----------------------------------------------------------------------------------------------------------------


def test_a_download_that_fails_is_tried_again_while_the_other_jobs_are_watched(
    make: Make, wd: Path, world: World
) -> None:
    made = make(
        task("a", "mkdir sub; echo 1 >sub/out", backward_files=["sub/out"]),
        task("b", "sleep 0.5; echo 2 >out", backward_files=["out"]),
        machine=SHELL,
    )
    (wd / "here/w/a/sub").write_text("a file where a folder shall be")
    world.at[30] = (wd / "here/w/a/sub").unlink
    assert made.run(check_interval_s=1).over
    assert (wd / "here/w/a/sub/out").read_text() == "1\n"


def test_a_download_that_never_works_is_an_error_and_nothing_is_removed(make: Make, wd: Path, world: World) -> None:
    made = make(task("a", "mkdir sub; echo 1 >sub/out", backward_files=["sub/out"]), machine=SHELL)
    (wd / "here/w/a/sub").write_text("a file where a folder shall be")
    with pytest.raises(TransientError, match="cannot fetch"):
        made.run(check_interval_s=30)
    (root,) = (wd / "there").iterdir()
    assert (root / "a/sub/out").exists()


def test_inputs_that_change_under_a_running_job_make_it_begin_anew(
    make: Make, wd: Path, wait_until: Callable[..., None]
) -> None:
    def made(text: str) -> Placement:
        given = task(
            "a", "cat in >>seen; [ $(cat in) = 2 ] || exec sleep 1000", forward_files=["in"], backward_files=["seen"]
        )
        submission = make(given, task("b", "true"), machine={**SHELL, "remote_profile": {"symlink": False}})
        (wd / "here/w/a/in").write_text(text)
        return submission

    first = made("1")
    seen = Path(first.context().root_for(first.hash, "w"), "a/seen")
    first.run(detach=True)
    wait_until(lambda: written(seen), "the job to read its input")
    assert made("2").run(check_interval_s=1).over
    assert (wd / "here/w/a/seen").read_text() == "12"


def test_an_input_that_is_gone_here_is_removed_there_and_counts_as_a_change(make: Make, wd: Path) -> None:
    def run() -> None:
        given = task("a", "ls *.dat >found", forward_files=["*.dat"], backward_files=["found"])
        make(given, machine=SHELL).run(clean=False, check_interval_s=1)

    (wd / "here/w/a").mkdir(parents=True)
    for name in ("1.dat", "2.dat"):
        (wd / "here/w/a" / name).touch()
    run()
    (wd / "here/w/a/2.dat").unlink()
    run()
    assert (wd / "here/w/a/found").read_text() == "1.dat\n"


def test_a_second_run_writes_nothing_down_when_nothing_is_new(make: Make, wd: Path) -> None:
    given = task("a", "true")
    made = make(given, machine=SHELL)
    assert made.run(clean=False).over
    (journal,) = Path(os.environ["PILOTFISH_HOME"]).glob("submissions/*/journal")
    before = journal.read_bytes()
    assert make(given, machine=SHELL).run(clean=False).over
    assert journal.read_bytes() == before


# --- what was there before ------------------------------------------------------------------------------------------------


def tag(wd: Path, submission: Placement) -> Path:
    (one,) = submission.description.tasks
    return wd / "here/w" / one.task_work_path / f"{one.task_hash}_task_tag_finished"


def test_tags_of_dpdispatcher_count_when_no_input_is_newer(make: Make, wd: Path, world: World) -> None:
    given = task("a", "echo x >>count", forward_files=["in"])
    made = make(given, machine=LAZY)
    (wd / "here/w/a/in").write_text("1")
    tag(wd, made).touch()
    assert made.run(check_interval_s=1).over
    assert not (wd / "here/w/a/count").exists()
    assert any("1 task was finished before" in line for line in world.told)


def test_tags_older_than_an_input_do_not_count(make: Make, wd: Path) -> None:
    made = make(task("a", "echo x >>count", forward_files=["in"]), machine=LAZY)
    tag(wd, made).touch()
    os.utime(tag(wd, made), (1, 1))
    (wd / "here/w/a/in").write_text("1")
    assert made.run(check_interval_s=1).over
    assert (wd / "here/w/a/count").read_text() == "x\n"


def test_when_the_record_here_is_lost_running_jobs_are_found_on_the_machine(
    make: Make, wd: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tasks = [task(name, "echo x >>count; sleep 0.3", backward_files=["count"]) for name in "ab"]
    make(*tasks, machine=SHELL).run(detach=True)
    monkeypatch.setenv("PILOTFISH_HOME", str(wd / "elsewhere"))
    made = make(*tasks, machine=SHELL)
    assert made.run(check_interval_s=1).over
    assert [(wd / "here/w" / name / "count").read_text() for name in "ab"] == ["x\n", "x\n"]
    assert made.last is not None
    assert {job.attempt for job in made.last.jobs.values()} == {0}


def test_what_was_cancelled_is_placed_again_by_the_next_submit_but_not_by_watching(
    make: Make, wd: Path, wait_until: Callable[..., None]
) -> None:
    given = task("a", "echo x >>../count; [ $(wc -l <../count) -gt 1 ] || exec sleep 1000")
    made = make(given, machine=SHELL)
    count = Path(made.context().root_for(made.hash, "w"), "count")
    made.run(detach=True)
    wait_until(lambda: written(count), "the job to start")
    assert made.cancel() == 1
    assert made.run(clean=False, only_watch=True).over
    assert count.read_text() == "x\n"
    assert made.run(clean=False, check_interval_s=1).over
    assert count.read_text() == "x\nx\n"
    assert {job.phase for job in made.peek().jobs.values()} == {Phase.DONE}


# --- pilots ---------------------------------------------------------------------------------------------------------------


def test_jobs_that_only_bring_nodes_do_not_swallow_what_the_pilot_tells(make: Make, wd: Path) -> None:
    made = make(task("a", "true"), task("b", "true"), pilot={"pilots": 2})
    context = LocalContext(wd, str(wd), {})
    work = PilotWork(made.description, str(wd))
    (pilot, guest) = (BatchJob(name, tasks) for name, tasks in work.jobs())
    report = wd / ".qcgpjm-service-1/jobs.report"
    report.parent.mkdir(mode=0o700)
    report.write_text('{"name": "task-0", "state": "SUCCEED"}\n')
    work.partial(context, [guest])
    assert work.collect(context, [guest])[guest.hash].results == {}
    assert set(work.partial(context, [pilot])[pilot.hash]) == {pilot.tasks[0]}


def test_what_is_in_a_folder_of_somebody_else_is_not_a_result(make: Make, wd: Path) -> None:
    """Others may be able to write where the pilot works; the pilot's own folder is closed to them, and only that counts."""
    made = make(task("a", "true"), pilot={})
    context = LocalContext(wd, str(wd), {})
    work = PilotWork(made.description, str(wd))
    (pilot,) = (BatchJob(name, tasks) for name, tasks in work.jobs())
    planted = wd / ".qcgpjm-service-0"
    planted.mkdir()
    planted.chmod(0o777)
    for folder, state in ((planted, "SUCCEED"), (wd / ".qcgpjm-service-1", "FAILED")):
        folder.mkdir(mode=0o700, exist_ok=True)
        (folder / "jobs.report").write_text(f'{{"name": "task-0", "state": "{state}"}}\n')
    (result,) = work.partial(context, [pilot])[pilot.hash].values()
    assert result.exit_code != 0
    work.forget(context, pilot, pilot.tasks)
    assert [path.name for path in wd.glob(".qcgpjm-service-*")] == [planted.name]


def test_the_pilot_that_a_tunnel_leads_to_is_ours(make: Make, wd: Path) -> None:
    """Its connection file says where to connect to: another's, newer, in a folder that others can write to, is passed over."""
    made = make(task("a", "true"), pilot={})
    with made.context() as context:
        root = Path(made.work(context).root)
    for name, mode, mtime_s in (("mine", 0o700, 1000), ("planted", 0o777, 2000)):
        folder = root / f".qcgpjm-service-{name}"
        folder.mkdir(parents=True)
        folder.chmod(mode)
        info = connection.ConnectionFile(
            instance_id=name,
            pid=1,
            host="h",
            started_s=1.0,
            aux_dir=str(folder),
            request_addresses={},
            event_addresses={},
            agent_addresses={},
        )
        connection.write(folder / "connection.json", info)
        os.utime(folder / "connection.json", (mtime_s, mtime_s))
    with remote_pilot(made) as path:
        assert connection.read(path).instance_id == "mine"
