"""`Executor(machine=...)`: its pilot is put on a machine, calls go there, results come home, and at the end nothing is left.

Batch jobs are sessions of their own on this host (Shell), reached as if it were the user's own machine, or over a real sshd.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from concurrent.futures import BrokenExecutor
from pathlib import Path
from typing import Any

import pytest
from patience import PATIENCE_S, wait_until
from sshd import Sshd

from pilotfish import Executor, Machine
from pilotfish.api.executor.place import NoPilotError
from pilotfish.launcher.contexts.base import ContextLostError
from pilotfish.launcher.description.schema import DescriptionError
from pilotfish.launcher.executor.placed_pilot import PilotFailedError
from pilotfish.launcher.submission import store
from pilotfish.launcher.submission.bootstrap import BootstrapError
from pilotfish.launcher.submission.journal import InUseError

PILOT = {"options": ["--nodes", "2"], "bootstrap": "never"}


def machine(wd: Path, **more: Any) -> dict[str, Any]:
    return {
        "batch_type": "Shell",
        "context_type": "Local",
        "local_root": str(wd / "here"),
        "remote_root": str(wd / "there"),
        **more,
    }


def over_ssh(wd: Path, sshd: Sshd) -> dict[str, Any]:
    return machine(wd, context_type="SSH", remote_profile=sshd.profile)


def is_clean(wd: Path) -> bool:
    return not any((wd / "there").iterdir()) and not store.names()


def job_id() -> str:
    """Of the batch job that was placed last, empty before the first; a Shell job's is its process, the leader of a session."""
    journals = [record.journal for record in store.all_records()]
    text = journals[0].read_text() if journals and journals[0].exists() else ""
    return text.rpartition('"id": "')[2].partition('"')[0] if '"id": "' in text else ""


def end_allocation() -> None:
    """As a batch system that gives no time."""
    os.killpg(int(job_id().partition(":")[0]), signal.SIGKILL)


def note(number: int, log: str) -> int:
    with open(log, "a") as file:
        file.write(f"{number}\n")
    return 2 * number


def test_calls_go_there_and_nothing_is_left(wd: Path) -> None:
    """What a function raises and prints comes home, too."""

    def fail() -> None:
        print("before")
        raise KeyError("lost")

    with Executor(machine=machine(wd), pilots=PILOT) as executor:
        assert list(executor.map(lambda number: number + 1, range(20))) == list(range(1, 21))
        failed = executor.submit(fail)
        assert isinstance(failed.exception(PATIENCE_S), KeyError)
        assert failed.output == "before\n"
        assert executor.pilot.resources()["total_cores"] == 2
    assert is_clean(wd)


def test_over_ssh_through_an_outage(wd: Path, sshd: Sshd) -> None:
    """The link is cut while calls run; when it is back each has been made once. Large values travel with the requests."""
    log, gate = str(wd / "log"), wd / "gate"

    def wait_for(gate: Path, number: int, log: str) -> bytes:
        import time

        with open(log, "a") as file:
            file.write(f"{number}\n")
        while not gate.exists():
            time.sleep(0.05)
        return bytes([number]) * 100_000

    python = {**PILOT, "python": sys.executable}
    with Executor(machine=over_ssh(wd, sshd), pilots=python) as executor:
        futures = [executor.submit(wait_for, gate, number, log) for number in range(6)]
        wait_until(lambda: Path(log).exists(), "a call to begin")
        sshd.kill()
        gate.touch()
        sshd.start()
        assert [future.result(2 * PATIENCE_S) for future in futures] == [bytes([n]) * 100_000 for n in range(6)]
    assert sorted(Path(log).read_text().split()) == [str(number) for number in range(6)]
    assert is_clean(wd)


def test_an_allocation_that_ends_with_work_left_is_followed(wd: Path) -> None:
    """The next pilot goes on from the journal of the first."""
    log, gate = str(wd / "log"), wd / "gate"

    def wait_for(gate: Path) -> str:
        import time

        while not gate.exists():
            time.sleep(0.05)
        return "through"

    with Executor(machine=machine(wd), pilots=PILOT) as executor:
        assert executor.submit(note, 1, log).result(PATIENCE_S) == 2
        waiting = executor.submit(wait_for, gate)
        wait_until(waiting.running, "the call to begin")
        first = job_id()
        end_allocation()
        wait_until(lambda: job_id() != first, "the next batch job")
        gate.touch()
        assert waiting.result(2 * PATIENCE_S) == "through"
        assert executor.submit(note, 2, log).result(PATIENCE_S) == 4
    assert Path(log).read_text() == "1\n2\n"
    assert is_clean(wd)


PROGRAM = """
import json, os, sys, time
from pilotfish import Executor, Machine

HERE = os.getcwd()

def note(number):
    with open(HERE + "/log", "a") as file:
        file.write(f"{number} ")
    while number > 3 and not os.path.exists(HERE + "/gate"):
        time.sleep(0.05)
    return number * 2

with Executor(machine=json.loads(sys.argv[1]), pilots=json.loads(sys.argv[2]), **json.loads(sys.argv[3])) as executor:
    futures = [executor.submit(note, number) for number in range(8)]
    if "crash" in sys.argv:
        print(futures[1].result(), flush=True)
        time.sleep(1000)
    print([future.result() for future in futures])
"""


def program(wd: Path, *words: str, **settings: Any) -> subprocess.Popen[str]:
    (wd / "program.py").write_text(PROGRAM)
    described = [json.dumps(each) for each in (settings.pop("machine"), {**PILOT, "python": sys.executable}, settings)]
    command = [sys.executable, "program.py", *described, *words]
    return subprocess.Popen(command, cwd=wd, stdout=subprocess.PIPE, text=True)


@pytest.mark.parametrize("way", ["local", "ssh"])
def test_a_program_that_was_killed_finds_its_pilot_and_its_results(wd: Path, way: str, request: Any) -> None:
    """By its name. What had come home is read here, what ended or ran meanwhile comes from the same batch job."""
    there = machine(wd) if way == "local" else over_ssh(wd, request.getfixturevalue("sshd"))
    first = program(wd, "crash", machine=there, name="sweep")
    assert first.stdout is not None
    assert first.stdout.readline() == "2\n"
    log = wd / "log"
    wait_until(lambda: log.exists() and len({*"4567"} & {*log.read_text()}) == 2, "a call on each core that waits")
    first.kill()
    first.communicate()
    (wd / "gate").touch()
    second = program(wd, machine=there, name="sweep")
    out, _ = second.communicate(timeout=4 * PATIENCE_S)
    assert out == f"{[2 * number for number in range(8)]}\n"
    assert sorted((wd / "log").read_text().split()) == [str(number) for number in range(8)]
    assert is_clean(wd)


def test_results_that_are_at_home_need_no_pilot(wd: Path) -> None:
    """The next life of an executor with a name gives them although its machine cannot be used any more."""
    log = str(wd / "log")
    with Executor(machine=machine(wd), pilots=PILOT, name="kept", folder=wd) as executor:
        assert executor.submit(note, 3, log).result(PATIENCE_S) == 6
    assert is_clean(wd)
    (wd / "there").rmdir()
    with Executor(machine=machine(wd), pilots={**PILOT, "python": "/none"}, name="kept", folder=wd) as executor:
        assert executor.submit(note, 3, log).result(PATIENCE_S) == 6
    assert Path(log).read_text() == "3\n"
    assert not (wd / "there").exists()


def test_a_pilot_whose_program_has_died_ends_when_it_is_idle(wd: Path) -> None:
    """One without a name would be found by nobody."""
    first = program(wd, "crash", machine=machine(wd), idle_timeout="1s")
    assert first.stdout is not None
    assert first.stdout.readline() == "2\n"
    pid = int(job_id().partition(":")[0])
    (wd / "gate").touch()
    first.kill()
    first.communicate()
    wait_until(lambda: not Path(f"/proc/{pid}").exists(), "the batch job to end")
    assert sorted((wd / "log").read_text().split()) == [str(number) for number in range(8)]


def test_shut_down_before_the_pilot_runs(wd: Path) -> None:
    """Calls that are cancelled need none."""
    executor = Executor(
        machine=machine(wd), resources={"prepend_script": ['[ -z "${pf_root-}" ] || sleep 1000']}, pilots=PILOT
    )
    future = executor.submit(note, 1, str(wd / "log"))
    wait_until(job_id, "the batch job")
    executor.shutdown(cancel_futures=True)
    assert future.cancelled()
    assert is_clean(wd)


@pytest.mark.parametrize(
    ("settings", "cause", "words"),
    [
        ({"pilots": {"bootstrap": "always", "python": "/none"}}, BootstrapError, "cannot be installed"),
        ({"resources": {"account": "physics"}}, DescriptionError, "account"),
        (
            {"resources": {"prepend_script": ['[ -z "${pf_root-}" ] || exit 3']}},
            PilotFailedError,
            "has ended before the pilot could be reached",
        ),
        ({"pilots": {"options": ["--wrong"]}}, PilotFailedError, "No such option"),
    ],
)
def test_without_a_pilot_each_call_says_why(wd: Path, settings: dict[str, Any], cause: type, words: str) -> None:
    """The error of a future is a BrokenExecutor, its cause the error of the launcher."""
    with Executor(machine=machine(wd), **settings) as executor:
        error = executor.submit(note, 1, str(wd / "log")).exception(PATIENCE_S)
    assert isinstance(error, NoPilotError)
    assert isinstance(error, BrokenExecutor)
    assert isinstance(error.__cause__, cause)
    assert words in str(error)
    assert not store.names()


def test_a_machine_that_cannot_be_reached(wd: Path) -> None:
    nobody = {"hostname": "127.0.0.1", "port": 1, "reconnect_for": 0, "ssh_config": str(wd / "none")}
    with Executor(machine=machine(wd, context_type="SSH", remote_profile=nobody)) as executor:
        error = executor.submit(note, 1, str(wd / "log")).exception(PATIENCE_S)
    assert isinstance(error, NoPilotError)
    assert isinstance(error.__cause__, ContextLostError)


def test_a_program_has_a_name_for_itself(wd: Path) -> None:
    """Two would have each other's pilot."""
    with Executor(machine=machine(wd), pilots=PILOT, name="one", folder=wd) as executor:
        assert executor.submit(note, 1, str(wd / "log")).result(PATIENCE_S) == 2
        other = Executor(machine=machine(wd), pilots=PILOT, name="one", folder=wd)
        error = other.submit(note, 2, str(wd / "log")).exception(PATIENCE_S)
        assert isinstance(error, NoPilotError)
        assert isinstance(error.__cause__, InUseError)
        other.shutdown()
        assert executor.submit(note, 3, str(wd / "log")).result(PATIENCE_S) == 6
    assert is_clean(wd)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"machine": "nowhere"}, "there is no machine 'nowhere'"),
        ({"machine": {"batch_type": "Slurm"}}, "context_type"),
        ({"machine": {}, "connect": "."}, "leave out connect"),
        ({"machine": 3}, "machine"),
        ({"resources": {"number_node": 2}}, "name a machine"),
        ({"pilots": 2}, "name a machine"),
    ],
)
def test_settings_that_make_no_sense_are_refused_at_once(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Executor(**settings)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"resources": {"nodes": 2}}, "number_node|nodes"),
        ({"resources": "large"}, "resources"),
        ({"pilots": 0}, "pilots"),
        ({"pilots": {"pilot": 2}}, "unknown key 'pilot'"),
        ({"idle_timeout": "soon"}, "idle_timeout"),
        ({"idle_timeout": -1}, "idle_timeout"),
    ],
)
def test_wrong_values_are_refused_at_once(wd: Path, settings: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Executor(machine=machine(wd), **settings)


def test_a_machine_file_and_a_machine(wd: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By name, by path, or as an object."""
    folder = wd / "config/pilotfish/machines"
    folder.mkdir(parents=True)
    (folder / "mine.json").write_text(json.dumps(machine(wd)))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(wd / "config"))
    given: list[Any] = ["mine", folder / "mine.json", Machine.load_from_dict(machine(wd))]
    for each in given:
        Executor(machine=each, name="unused", folder=wd).shutdown()
