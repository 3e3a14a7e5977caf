"""`LocalManager` end to end: real service, real agent, real tasks."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any, get_args, get_type_hints

import pytest
from patience import PATIENCE_S

from pilotfish import Jobs, LocalManager, Manager, Run
from pilotfish.api.errors import (
    ConnectionError,
    InvalidJobDescriptionError,
    RequestRefusedError,
    ServiceError,
    TimeoutElapsed,
    WrongArgumentsError,
)
from pilotfish.api.service_options import ServiceOptions, words_of
from pilotfish.pilot.options import PYTHON_OPTIONS

QUIET = {"log_file": "/dev/null"}


@pytest.fixture
def pilot(wd: Path) -> Iterator[LocalManager]:
    with LocalManager(["--wd", str(wd), "--nodes", "2"], QUIET) as manager:
        yield manager


def test_a_hundred_tasks_run_and_are_known_by_name(pilot: LocalManager, wd: Path) -> None:
    jobs = Jobs().add(name="a", exec="sh", args=["-c", "echo $$$$1", "-", "${it}"], stdout="o-${it}", iteration=100)
    assert pilot.submit(jobs) == ["a"]
    assert pilot.wait4("a", PATIENCE_S) == {"a": "SUCCEED"}
    assert (wd / "o-41").read_text() == "41\n"
    info = pilot.info_parsed("a", withChilds=True)["a"]
    assert [child.status for child in info.childs] == ["SUCCEED"] * 100
    assert pilot.info_parsed("a:41")["a:41"].exit_code == 0


def test_waiting_stops_when_its_time_is_over(pilot: LocalManager) -> None:
    pilot.submit(Jobs().add(name="long", exec="sleep", args=["100"]))
    with pytest.raises(TimeoutElapsed):
        pilot.wait4("long", 0.05)
    with pytest.raises(TimeoutElapsed):
        pilot.wait4all(0.05)
    pilot.cancel("long")
    assert pilot.wait4("long", PATIENCE_S) == {"long": "CANCELED"}
    pilot.wait4all(PATIENCE_S)
    pilot.remove("long")
    assert pilot.list() == {}


def test_waiting_for_a_job_that_partly_failed_tells_the_jobs_own_state(pilot: LocalManager) -> None:
    pilot.submit(Jobs().add(name="a", script="[ ${it} != 1 ]", iteration=3))
    assert pilot.wait4("a", PATIENCE_S) == {"a": "FAILED"}


def test_the_first_job_to_end_is_named(pilot: LocalManager, wd: Path) -> None:
    pilot.submit(Jobs().add(name="waits", script="while [ ! -e go ]; do sleep 0.02; done"))
    (wd / "go").touch()
    assert pilot.wait4_any_job_finish(PATIENCE_S) == ("waits", "SUCCEED")


def test_unknown_names_and_wrong_jobs_are_errors_that_change_nothing(pilot: LocalManager) -> None:
    with pytest.raises(ConnectionError, match="Job 'x' doesn't exist"):
        pilot.wait4("x", PATIENCE_S)
    with pytest.raises(ConnectionError, match=r"jobs\[1\].resources.numCores.max: 2 is less than min 4"):
        pilot.submit(Jobs().add(name="a", exec="true").add(name="b", exec="true", numCores={"min": 4, "max": 2}))
    with pytest.raises(ConnectionError, match="Not enough resources for job c"):
        pilot.submit(Jobs().add(name="c", exec="true", numCores=99))
    with pytest.raises(InvalidJobDescriptionError, match="Unknown attribute cores"):
        Jobs().add(name="d", exec="true", cores=1)
    assert pilot.list() == {}


def test_an_exception_in_the_block_stops_tasks_and_pilot(wd: Path) -> None:
    with pytest.raises(ZeroDivisionError), LocalManager(["--wd", str(wd)], QUIET) as pilot:
        pilot.submit(Jobs().add(name="long", exec="sleep", args=["1000"]))
        raise ZeroDivisionError


def test_ctrl_c_in_the_block_keeps_what_is_left_for_a_resume(wd: Path, wait_until: Callable[..., None]) -> None:
    def interrupted() -> None:
        with LocalManager(["--wd", str(wd), "--nodes", "1"], QUIET) as pilot:
            pilot.submit(
                Jobs().add(name="a", script="[ -e go ] || { touch runs; sleep 1000; }").add(name="b", exec="true")
            )
            wait_until((wd / "runs").exists, "the first task runs", 60.0)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    (wd / "go").touch()
    with LocalManager(["--resume", str(wd), "--nodes", "1"], QUIET) as pilot:
        assert pilot.wait4(["a", "b"], 60) == {"a": "SUCCEED", "b": "SUCCEED"}


def test_a_pilot_on_hold_starts_nothing_until_it_is_released(wd: Path) -> None:
    with LocalManager(["--wd", str(wd), "--nodes", "1"], QUIET, hold=True) as pilot:
        pilot.submit(Jobs().add(name="a", script="touch ran-a").add(name="b", script="touch ran-b"))
        pilot.cancel("a")
        pilot.release()
        assert pilot.wait4(["a", "b"], 60) == {"a": "CANCELED", "b": "SUCCEED"}
    assert [path.name for path in wd.glob("ran-*")] == ["ran-b"]


def test_the_death_of_python_ends_pilot_and_tasks(wd: Path, wait_until: Callable[..., None]) -> None:
    """That nothing is left is checked for every test."""
    program = (
        "from pilotfish import Jobs, LocalManager\n"
        f"pilot = LocalManager(['--wd', {str(wd)!r}])\n"
        f"pilot.submit(Jobs().add(name='long', script='touch runs; sleep 1000'))\n"
        "pilot.wait4all()"
    )
    process = subprocess.Popen([sys.executable, "-c", program], cwd=wd)
    wait_until(lambda: (wd / "runs").exists(), "the task runs")
    process.send_signal(signal.SIGKILL)
    process.wait()


def test_a_pilot_that_is_ending_already_is_waited_for(wd: Path) -> None:
    """Its allocation may be over just when the last job is, or somebody else has asked for the end."""
    with LocalManager(["--wd", str(wd)], QUIET) as pilot:
        pilot.submit(Jobs().add(name="last", script="sleep 0.5; echo done", stdout="out"))
        pilot.send_request({"request": "finish", "options": {"delay": 0}})
    assert (pilot.exit_code, (wd / "out").read_text()) == (0, "done\n")


def test_a_pilot_that_stops_takes_no_more_jobs_and_says_so(wd: Path, wait_until: Callable[..., None]) -> None:
    with LocalManager(["--wd", str(wd), "--kill-grace", "1"], QUIET) as pilot:
        pilot.submit(Jobs().add(name="stubborn", script="trap '' TERM; touch runs; sleep 1000"))
        wait_until((wd / "runs").exists, "the task runs")
        pilot.send_signal(signal.SIGTERM)
        with pytest.raises(RequestRefusedError, match="processing stopped") as caught:
            while True:
                pilot.submit(Jobs().add(exec="true", numCores=1))
        assert caught.value.code == "ending"
    assert pilot.exit_code == 143


def test_a_kept_pilot_lives_on_and_can_be_found(wd: Path) -> None:
    kept = LocalManager(["--wd", str(wd)], QUIET, keep=True)
    kept.close()
    other = Manager(str(wd), QUIET)
    other.send_request({"request": "finish", "options": {"kill": True, "delay": 0}})
    other.close()
    assert kept._process.wait(PATIENCE_S) == 0


def test_a_service_that_cannot_start_says_why(wd: Path) -> None:
    with pytest.raises(ServiceError, match='"many" is not a number of cores'):
        LocalManager(["--wd", str(wd), "--nodes", "many"], QUIET)
    assert "PILOTFISH_CONNECTION" not in os.environ


def test_who_only_talks_to_a_pilot_hears_that_it_has_ended(wd: Path) -> None:
    """At once, from its connection file: nobody waits for the reply that cannot come."""
    with LocalManager(["--wd", str(wd)], QUIET) as pilot:
        other = Manager(str(pilot.connection_file), QUIET)
        assert other.list() == {}
    with pytest.raises(ConnectionError, match="has ended"):
        other.list()
    other.close()


# --- options as keywords ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"nodes": 4}, ["--nodes=4"]),
        ({"nodes": (4, "n1:2")}, ["--nodes=4,n1:2"]),
        ({"nodes": range(1, 4)}, ["--nodes=1,2,3"]),
        ({"wd": Path("a b"), "resume": "run"}, ["--wd=a b", "--resume=run"]),
        ({"walltime": 90, "kill_grace": 0.5}, ["--walltime=1m30s", "--kill-grace=0.5"]),
        ({"walltime": timedelta(hours=2)}, ["--walltime=2h"]),
        ({"tags": ["fast", "big"], "envschema": "slurm"}, ["--tags=fast,big", "--envschema=slurm"]),
        ({"resource": {"fpga": 4, "scratch": "400G"}}, ["--resource=fpga=4", "--resource=scratch=400G"]),
        (
            {"resource": "fpga=4", "pool_resource": ["a=1", "b=2"]},
            ["--resource=fpga=4", "--pool-resource=a=1", "--pool-resource=b=2"],
        ),
        ({"net": True, "file": False, "id": None, "system_core": True}, ["--net", "--system-core"]),
        ({"net_port": "5555", "log": "debug", "metrics": 0}, ["--net-port=5555", "--log=debug", "--metrics=0"]),
    ],
)
def test_keywords_are_options_of_the_service(options: dict[str, Any], words: list[str]) -> None:
    """Numbers, paths, durations and collections stand where the command line has text."""
    assert words_of(options) == words


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"nodez": 4}, "nodez: unknown option; did you mean nodes?"),
        ({"nodes": 1.5}, "nodes: 1.5 is not a number of cores, text such as n1:4, or a list of these"),
        ({"nodes": [2, "a,b"]}, "nodes: 'a,b' cannot be one of a list; give numbers or text"),
        ({"net": 1}, "net: 1 is not True or False"),
        ({"log": "loud"}, "log: 'loud' is not one of critical, error, warning, info, debug, notset"),
        ({"walltime": -1}, "walltime: -1 is not a time above 0: seconds, or text such as 1h30m"),
        ({"net_port": "x"}, "net_port: 'x' is not a whole number"),
        ({"wd": 3}, "wd: 3 is not a path"),
        (
            {"resource": [4]},
            "resource: [4] is not text, or a list of texts; write NAME=VALUE, a list of such texts, or a mapping",
        ),
        ({"wd": True, "nodez": 4, "min_nodes": 1}, "wd: True is not a path; nodez: unknown option"),
    ],
)
def test_what_is_wrong_with_keywords_is_one_type_error(options: dict[str, Any], text: str) -> None:
    """Nothing is started, and everything that is wrong is named."""
    with pytest.raises(TypeError) as caught:
        LocalManager(**options)
    assert str(caught.value) == text
    assert isinstance(caught.value, WrongArgumentsError)


@pytest.mark.parametrize("wrong", [4, {"nodes": 4}, 2.5])
def test_what_is_no_list_of_words_is_a_type_error(wrong: Any) -> None:
    with pytest.raises(TypeError, match=r"server_args: .* write options as keywords"):
        LocalManager(wrong)


def test_the_types_of_keywords_are_those_of_the_table_of_options() -> None:
    """Editors offer what the service knows, and nothing else; a choice has the same words."""
    kinds = get_type_hints(ServiceOptions)
    known = {option.field: option for option in PYTHON_OPTIONS}
    assert kinds.keys() == known.keys()
    of_kind = {"flag": bool, "int": int, "float": float, "time": timedelta, "text": str, "list": str, "path": Path}
    for name, option in known.items():
        types = get_args(kinds[name])
        if isinstance(option.kind, tuple):
            assert get_args(types[0]) == option.kind
        else:
            assert of_kind.get(option.kind, str) in types or os.PathLike[str] in types, name


# --- run --------------------------------------------------------------------------------------------------------------


def test_a_run_of_jobs_is_waited_for_and_can_be_looked_at(wd: Path) -> None:
    """`run` returns a Run with the tasks of these jobs, whatever else the pilot has done; the pilot takes the next one."""
    with LocalManager(nodes=2, wd=wd, cfg=QUIET) as pilot:
        run = pilot.run(name="a", exec="echo", args=["${it}"], stdout="o-${it}", iteration=3, timeout=PATIENCE_S)
        assert (run.summary().succeeded, run.state) == (3, "running")
        assert {run.output(row.task) for row in run.tasks()} == {"0\n", "1\n", "2\n"}
        other = pilot.run(Jobs().add(name="b", exec="false").add(name="c", exec="true"))
        assert [(row.task, row.state) for row in other.tasks() if row.state != "SUCCEED"] == [("b", "FAILED")]
        assert (other.summary().tasks, run.summary().tasks, Run(wd=wd).summary().tasks) == (2, 3, 5)
        with pytest.raises(TimeoutElapsed):
            pilot.run(name="long", exec="sleep", args=["1000"], timeout=0.01)
        pilot.cancel("long")
    assert run.state == "ended"


def test_a_run_needs_work_and_a_folder(pilot: LocalManager) -> None:
    """Jobs or attributes of one; and a pilot of which more is known than an address."""
    with pytest.raises(WrongArgumentsError, match="run: give either jobs or the attributes of one"):
        pilot.run()
    with pytest.raises(WrongArgumentsError, match="run: give either jobs or the attributes of one"):
        pilot.run(Jobs(), exec="true")
    with pytest.raises(InvalidJobDescriptionError, match="No 'exec' nor 'script' defined"):
        pilot.run(name="x")
    assert pilot.list() == {}


def test_a_run_needs_a_report(wd: Path) -> None:
    """Without one nobody could say later what became of the tasks, so nothing is submitted."""
    with LocalManager(wd=wd, report_format="none", cfg=QUIET) as pilot:
        with pytest.raises(ServiceError, match="this pilot writes no report"):
            pilot.run(exec="true")
        assert pilot.list() == {}
