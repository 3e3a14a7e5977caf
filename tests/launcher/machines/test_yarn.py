"""Jobs in containers of YARN: `hadoop` and `yarn` are stand-ins that really run them (`hadoop.py`)."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import pytest
from answers import answered, garbled, rows
from hadoop import Hadoop
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from patience import PATIENCE_S, only_when_thorough

import pilotfish
from pilotfish.launcher.cli.doctor import examine
from pilotfish.launcher.contexts.base import Done
from pilotfish.launcher.contexts.hdfs import HDFSContext
from pilotfish.launcher.contexts.registry import build_context
from pilotfish.launcher.description.machine import parse_machine
from pilotfish.launcher.description.resources import Resources
from pilotfish.launcher.description.schema import DescriptionError
from pilotfish.launcher.job.states import JobState
from pilotfish.launcher.machines.base import MachineBusyError
from pilotfish.launcher.machines.registry import build_machine
from pilotfish.launcher.machines.yarn import DIALECT
from pilotfish.launcher.submission.placement import Placement
from pilotfish.launcher.submission.runner import SubmissionFailedError

Make = Callable[..., Placement]


def soon(seconds: float) -> None:
    time.sleep(seconds / 10)


@pytest.fixture
def make(wd: Path, hadoop: Hadoop, submission: Callable[..., Placement]) -> Callable[..., Placement]:
    """`make(command, ...)`: a task for each, which reads `in`, has `common` beside it and makes `out*`."""
    told: list[str] = []

    def made(*commands: str, **given: Any) -> Placement:
        tasks = []
        for at, command in enumerate(commands):
            folder = wd / "here/w" / f"t{at}"
            folder.mkdir(parents=True, exist_ok=True)
            (folder / "in").write_text(f"{at}\n")
            tasks.append(
                {"command": command, "task_work_path": f"t{at}", "forward_files": ["in"], "backward_files": ["out*"]}
            )
        (wd / "here/w/common").write_text("common\n")
        machine = {"batch_type": "DistributedShell", "context_type": "HDFS", "remote_root": "hdfs://nn:8020/user/ann"}
        kwargs = {"yarn_path": str(hadoop.folder / "jars"), "img_name": "registry/image:1", "mem_limit": 4}
        resources = {"queue_name": "q", "kwargs": kwargs, **given.pop("resources", {})}
        machine |= given.pop("machine", {})
        found = submission(
            *tasks,
            machine=machine,
            resources=resources,
            forward_common_files=["common"],
            tools={"tell": told.append, "sleep": soon},
            **given,
        )
        found.told = told  # type: ignore[attr-defined]
        return found

    return made


def test_jobs_run_in_containers_and_their_results_come_home(
    make: Callable[..., Placement], hadoop: Hadoop, wd: Path
) -> None:
    """Each task sees its inputs and the common ones; nothing is left behind."""
    made = make("cat in ../common >out1; echo told", "cat in >out; ls -a .. >out2")
    assert made.run(check_interval_s=0.5).over
    assert (wd / "here/w/t0/out1").read_text() == "0\ncommon\n"
    assert (wd / "here/w/t1/out").read_text() == "1\n"
    assert "t0" not in (wd / "here/w/t1/out2").read_text().split(), "a job has its own inputs only"
    assert not (wd / "here/w/t0/log").exists()
    assert list(hadoop.file("user/ann").iterdir()) == []
    assert len(hadoop.applications()) == 2


def test_a_task_that_failed_is_told_with_its_last_words_and_tried_again(make: Make, hadoop: Hadoop, wd: Path) -> None:
    """What is done stays done: the second attempt runs the other task only."""
    made = make("echo once >>out", "echo no room >&2; exit 3", resources={"group_size": 0}, machine={"retry_count": 1})
    with pytest.raises(SubmissionFailedError, match=r"(?s)exit code 3.*no room"):
        made.run(check_interval_s=0.5)
    assert [name.rpartition(".")[2] for name in hadoop.applications()] == ["0", "1"]
    assert (wd / "here/w/t0/out").read_text() == "once\n"
    assert (wd / "here/w/t1/err").read_text() == "no room\n" * 2


def test_a_time_limit_ends_a_job_and_its_tasks(make: Make, hadoop: Hadoop) -> None:
    with pytest.raises(SubmissionFailedError, match="time limit"):
        make("sleep 1000", resources={"walltime": 1}).run(check_interval_s=0.5)


def test_jobs_are_cancelled(make: Make, hadoop: Hadoop) -> None:
    assert not make("sleep 1000").run(detach=True).over
    assert make("sleep 1000").cancel() == 1
    assert list(hadoop.folder.glob("apps/*/killed"))


def test_a_job_whose_id_got_lost_is_found_by_its_name(make: Make, hadoop: Hadoop, wd: Path) -> None:
    """The submitting shell is killed after the application has been made."""
    (hadoop.folder / "lose").touch()
    made = make(f"echo a >>{wd}/ran; cp in out")
    assert made.run(check_interval_s=0.5).over
    assert len(hadoop.applications()) == 1
    assert (wd / "ran").read_text() == "a\n"
    assert any("had been submitted as application_" in line for line in made.told)  # type: ignore[attr-defined]


def test_of_an_attempt_that_was_handed_over_twice_one_runs(make: Make, hadoop: Hadoop, wd: Path) -> None:
    """The list has forgotten the first, which has the attempt's folder in HDFS all the same."""
    (hadoop.folder / "lose").touch()
    (hadoop.folder / "forget").touch()
    made = make(f"echo a >>{wd}/ran; cp in out")

    def tell(text: str) -> None:
        if "submitted as" in text:
            (hadoop.folder / "forget").unlink()

    made._tools = dataclasses.replace(made._tools, tell=tell)
    assert made.run(check_interval_s=0.5).over
    assert len(hadoop.applications()) == 2
    assert (wd / "ran").read_text() == "a\n"


class Died(BaseException):
    """The launcher is gone."""


@pytest.mark.parametrize("when", [pytest.param("before", marks=only_when_thorough), "after"])
def test_a_launcher_may_die_at_any_command_of_hadoop(
    make: Make, hadoop: Hadoop, wd: Path, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    """Each run dies one command later than the one before it, until one comes to the end."""
    ran, run, count, deaths = wd / "ran", HDFSContext.run, 0, 0

    def dying(self: HDFSContext, command: Any, **more: Any) -> Any:
        nonlocal count
        count -= "hadoop " in command or "yarn " in command
        if not count and when == "before":
            raise Died
        done = run(self, command, **more)
        if not count:
            count = -1
            raise Died
        return done

    monkeypatch.setattr(HDFSContext, "run", dying)
    for at in range(1, 30):
        count = at
        try:
            make(f"echo a >>{ran}; cp in out").run(check_interval_s=0.5)
            break
        except Died:
            deaths += 1
    assert deaths > 2
    assert ran.read_text() == "a\n"
    assert (wd / "here/w/t0/out").read_text() == "0\n"


def test_a_cluster_that_is_away_for_a_while(make: Make, hadoop: Hadoop, wd: Path) -> None:
    """HDFS and the ResourceManager do not answer now and then; nothing is done twice."""
    for name in ("fs-mkdir", "fs-copyFromLocal", "fs-copyToLocal", "yarn"):
        (hadoop.folder / f"fail-{name}").write_text("1")
    assert make(f"echo a >>{wd}/ran; cp in out").run(check_interval_s=0.5).over
    assert not list(hadoop.folder.glob("fail-*"))
    assert (wd / "ran").read_text() == "a\n"


@pytest.mark.parametrize(
    "said",
    [
        "",
        "<html>proxy</html>\n",
        "Total number of applications (application-types: [], states: [] and tags: []):1\napplication_1_",
        "application_1700000000000_0001\tx\tYARN\n",
        "Application Report : \n\tApplication-Id : application_1700000000000_0001\n",
    ],
)
def test_an_answer_that_is_not_understood_ends_no_job(hadoop: Hadoop, said: str, wd: Path) -> None:
    """It is not known now where the job is, or it is only doubted; it is never gone."""
    (hadoop.folder / "says").write_text(said)
    name = "application_1700000000000_0001"
    given = {"batch_type": "yarn", "context_type": "HDFS", "local_root": str(wd), "remote_root": "/user/ann"}
    with build_context(parse_machine(given)) as context:
        told = build_machine("DistributedShell").query(context, [name])
    assert name in told.unclear or name in told.doubted


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(random=st.randoms(use_true_random=False), count=st.integers(1, 3))
def test_no_garbled_answer_makes_a_running_job_be_gone(wd: Path, random: Random, count: int) -> None:
    """It is known to run, or it is not known, or it is doubted; its results are not looked for."""
    ids = [f"application_1700000000000_{number:04d}" for number in range(1, count + 1)]
    spoilt = garbled(rows("DistributedShell", ids), random)

    def answer(command: str) -> Done:
        return spoilt if "-list" in command else garbled(rows("DistributedShell", ids[:1]), random)

    given = {"batch_type": "yarn", "context_type": "HDFS", "local_root": str(wd), "remote_root": "/user/ann"}
    with build_context(parse_machine(given)) as context:
        context.run = lambda command, **more: answered(command, answer)[1]  # type: ignore[method-assign]
        try:
            told = build_machine("DistributedShell").query(context, ids)
        except MachineBusyError:
            return
    for name in ids:
        status = told.get(name)
        assert name in told.doubted if status is None else not status.state.ended


def test_what_yarn_says_of_a_job() -> None:
    """Rows of the list; of one that is over the final state tells how."""
    row = "{}\tdistributedshell\tYARN\tann\tdefault\t{}\t{}\t0%\tN/A\n"
    words = {
        "ACCEPTED UNDEFINED": 2,
        "RUNNING UNDEFINED": 3,
        "FINISHED SUCCEEDED": 5,
        "FINISHED FAILED": 4,
        "KILLED KILLED": 4,
    }
    for number, word in enumerate([*words, "NEWER UNDEFINED"]):
        name = f"application_1_{number:04d}"
        told = DIALECT.read_listing(row.format(name, *word.split()))
        assert told[name].state is JobState(words.get(word, 100))
        assert told.unread == []


def test_the_doctor_runs_a_job(hadoop: Hadoop, wd: Path) -> None:
    given = {"batch_type": "yarn", "context_type": "HDFS", "local_root": str(wd), "remote_root": "/user/ann"}
    machine, resources = parse_machine(given), Resources(kwargs={"yarn_path": str(hadoop.folder / "jars")})
    with build_context(machine) as context:
        found = list(examine(machine, context, resources=resources, wait_s=PATIENCE_S))
    assert [each for each in found if not each.ok and not each.warning] == []
    assert "job of one second" in [each.what for each in found]


def test_a_remote_root_that_is_no_folder_of_hdfs(make: Make, hadoop: Hadoop) -> None:
    """Nothing is begun."""
    with pytest.raises(DescriptionError, match="is no folder of HDFS"):
        make("true", machine={"remote_root": "-rm"}).run()
    assert not (hadoop.folder / "dfs").exists()


def test_from_the_command_line_and_with_names_of_dpdispatcher(hadoop: Hadoop, wd: Path) -> None:
    """A dry run asks Hadoop for nothing."""
    (wd / "w/a").mkdir(parents=True)
    machine = {"batch_type": "DistributedShell", "context_type": "HDFSContext", "local_root": ".", "remote_root": "/u"}
    resources = {"group_size": 1, "kwargs": {"yarn_path": str(hadoop.folder / "jars")}}
    task = {"command": "echo done >out", "task_work_path": "a", "backward_files": ["out"]}
    given = {"work_base": "w", "machine": machine, "resources": resources, "task_list": [task]}
    (wd / "run.json").write_text(json.dumps(given))
    command = [sys.executable, "-m", "pilotfish", "submit", "run.json"]
    shown = subprocess.run([*command, "--dry-run"], cwd=wd, capture_output=True, text=True, check=True).stdout
    assert "hadoop fs -get" in shown
    assert hadoop.applications() == []
    subprocess.run([*command, "--check-interval", "1"], cwd=wd, check=True, timeout=PATIENCE_S)
    assert (wd / "w/a/out").read_text() == "done\n"
    made = pilotfish.Machine.load_from_dict(machine)
    assert isinstance(made, pilotfish.DistributedShell)
    assert isinstance(made.context, pilotfish.HDFSContext)
