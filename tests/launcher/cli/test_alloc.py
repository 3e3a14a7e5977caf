"""`pilotfish alloc` beside a real pilot, with this machine as the batch system: from what waits to what is given up again."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from click.testing import CliRunner, Result
from sshd import Sshd

from pilotfish import Jobs, LocalManager
from pilotfish.launcher.cli.alloc import alloc
from pilotfish.pilot.model.errors import PilotfishError

MACHINE = {"batch_type": "Shell", "context_type": "LazyLocal", "local_root": "."}
SMALL = ("--cores", "1", "--walltime", "10m", "--min-work", "0", "--idle", "1s")


@pytest.fixture(autouse=True)
def here(wd: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(wd)
    (wd / "m.json").write_text(json.dumps(MACHINE))


@pytest.fixture
def pilot(wd: Path, wait_until: Callable[..., None]) -> Iterator[LocalManager]:
    """One without nodes of its own; at the end it goes, and its allocator with everything that was asked for."""
    with LocalManager(["--wd", str(wd), "--governor"], {"log_file": os.devnull}) as made:
        yield made
        made.client.finish(kill=True)
    aux = made.connection_file.parent
    if (aux / "alloc").exists():
        wait_until(lambda: living(aux) == 0 and allocator(aux) is None, (aux / "alloc/log").read_text)


def invoke(*words: str) -> Result:
    return CliRunner().invoke(alloc, list(words))


def call(*words: str, code: int = 0) -> str:
    done = invoke(*words)
    assert done.exit_code == code, (done.output, done.exception)
    return done.stdout


def told(*words: str) -> Any:
    found = json.loads(call(*words, "--json"))
    assert found["version"] == 1
    return found


def refusal(*words: str) -> str:
    done = invoke(*words)
    assert isinstance(done.exception, PilotfishError), done.output
    return str(done.exception)


def living(aux: Path) -> int:
    return sum(row["waiting"] + row["running"] for row in told("list", "-c", str(aux))["allocations"])


def row() -> Any:
    (found,) = told("list")["allocations"]
    return found


def allocator(aux: Path) -> int | None:
    """The number of its process, if there is one."""
    words = (aux / "alloc/allocator").read_text().split()
    try:
        pid = int(words[0]) if words else 0
        return pid if pid and "serve" in psutil.Process(pid).cmdline() else None
    except psutil.NoSuchProcess:
        return None


def log(pilot: LocalManager) -> Callable[[], str]:
    return lambda: (pilot.connection_file.parent / "alloc/log").read_text()


def test_the_queue_asks_for_nodes_and_gives_them_up(
    wd: Path, pilot: LocalManager, wait_until: Callable[..., None]
) -> None:
    """Nothing is asked for while nothing waits; each decision has its reason; what is removed leaves nothing behind."""
    call("add", "m.json", *SMALL, "--nodes", "1-2")
    wait_until(lambda: row()["reason"], log(pilot))
    assert (row()["waiting"], row()["running"], row()["ended"]) == (0, 0, 0)
    pilot.submit(Jobs().add(name="t", exec="true", iteration=6))
    pilot.wait4all()
    wait_until(lambda: row()["ended"] and not row()["running"], log(pilot))
    assert row()["failed"] == 0
    text = call("explain", "m", "-n", "100")
    for word in ("asks for 2 nodes for 10m: ", "runs", "with 1 cores", "released: ", "over: "):
        assert word in text
    assert "t" in told("explain")["now"]["m"] or told("explain")["now"]["m"]
    assert "m: removed" in call("remove", "m")
    wait_until(lambda: told("list")["allocations"] == [], log(pilot))
    wait_until(lambda: allocator(pilot.connection_file.parent) is None, log(pilot))


def test_an_allocator_that_is_killed_is_followed_by_another_one(
    wd: Path, pilot: LocalManager, wait_until: Callable[..., None]
) -> None:
    """By whoever looks; it goes on with what runs, and asks for nothing twice."""
    aux = pilot.connection_file.parent
    call("add", "m.json", *SMALL)
    pilot.submit(Jobs().add(name="t", script="until [ -e go ]; do read -t 0.05 <> <(:); done", model="default"))
    wait_until(lambda: row()["running"], log(pilot))
    first = allocator(aux)
    assert first is not None
    os.kill(first, signal.SIGKILL)
    wait_until(lambda: row()["running"] == 1 and allocator(aux) not in (None, first), log(pilot))
    (wd / "go").touch()
    pilot.wait4all()
    wait_until(lambda: row()["ended"] == 1 and not row()["running"], log(pilot))


def test_nodes_that_cannot_reach_the_manager_say_so_and_what_to_do(
    wd: Path, pilot: LocalManager, wait_until: Callable[..., None]
) -> None:
    call("add", "m.json", *SMALL, "--agents-connect", "no.such.host.invalid:4000")
    pilot.submit(Jobs().add(name="t", exec="true"))
    wait_until(lambda: row()["failed"], log(pilot))
    (found,) = told("info", "m")["allocations"]
    assert "cannot reach the manager" in found["history"][0]["lines"]
    assert "start the manager where these nodes reach it" in call("info", "m")


def test_nodes_of_a_machine_that_is_reached_by_ssh(
    wd: Path, pilot: LocalManager, sshd: Sshd, wait_until: Callable[..., None]
) -> None:
    """They see nothing of the pilot's folder: its connection file comes over the connection, for their owner only."""
    far = {"batch_type": "Shell", "context_type": "SSH", "local_root": ".", "remote_root": str(wd / "there")}
    found = {"machine": {**far, "remote_profile": sshd.profile}, "pilot": {"python": sys.executable}}
    (wd / "far.json").write_text(json.dumps(found))
    call("add", "far.json", *SMALL)
    pilot.submit(Jobs().add(name="t", exec="true"))
    wait_until(lambda: row()["ended"] or row()["failed"], log(pilot))
    pilot.wait4all()
    assert row()["failed"] == 0, log(pilot)()
    (copy,) = (wd / "there").rglob("far.connection.json")
    assert copy.stat().st_mode & 0o077 == 0
    call("remove", "far")
    wait_until(lambda: allocator(pilot.connection_file.parent) is None, log(pilot))


def test_pausing_and_what_is_refused(wd: Path, pilot: LocalManager) -> None:
    call("add", "m.json", *SMALL, "--name", "mine", "--budget", "5node-hours", "--tags", "a,b")
    (found,) = told("pause", "mine")["allocations"]
    assert (found["state"], found["spec"]["budget_node_s"], found["spec"]["tags"]) == ("paused", 18000.0, ["a", "b"])
    (found,) = told("resume", "mine")["allocations"]
    assert found["state"] == "active"
    assert "there are allocations called 'mine' already" in refusal("add", "m.json", "--name", "mine")
    assert "did you mean 'mine'?" in refusal("pause", "mime")
    assert "'8-1' is not a number of nodes" in refusal("add", "m.json", "--nodes", "8-1")
    assert "give --cores" in refusal("add", "m.json", "--nodes", "1-8")
    assert "write 500node-hours" in refusal("add", "m.json", "--budget", "much")
    assert "there is no machine 'far'" in refusal("add", "far")
    assert "there is no such connection file" in refusal("list", "-c", str(wd / "config"))


def test_a_pilot_that_other_hosts_cannot_reach_asks_for_none(wd: Path) -> None:
    (wd / "slurm.json").write_text(json.dumps({**MACHINE, "batch_type": "Slurm"}))
    with LocalManager(["--wd", str(wd), "--nodes", "1"], {"log_file": os.devnull}):
        assert "other hosts cannot reach this pilot" in refusal("add", "slurm.json")


def test_a_dry_run_shows_what_would_be_asked_for_and_submits_nothing(wd: Path, pilot: LocalManager) -> None:
    pilot.submit(Jobs().add(name="t", exec="true", numCores=2))
    found = told("dry-run", "m.json", "--cores", "4", "--min-work", "0")
    assert [(each["nodes"], each["walltime_s"]) for each in found["asks"]] == [(1, 3600.0)]
    assert "--allocation" in found["script"]
    text = call("dry-run", "m.json", "--cores", "1", "--min-work", "0")
    assert "asks for nothing" in text
    assert told("list")["allocations"] == []
    pilot.client.cancel(["t"])


def test_a_run_whose_file_says_which_allocations_there_may_be(wd: Path, wait_until: Callable[..., None]) -> None:
    """It has no other nodes, ends with its work, and leaves nothing behind; a mistake is told before anything begins."""
    allocations = [{"machine": "m.json", "cores": 2, "walltime": "10m", "min_work": 0}]
    job = {"name": "t", "execution": {"exec": "true"}, "iteration": {"stop": 3}}
    (wd / "jobs.json").write_text(json.dumps({"jobs": [job], "allocations": allocations}))
    pilotfish = [sys.executable, "-c", "from pilotfish.__main__ import main; main()"]
    done = subprocess.run([*pilotfish, "run", "jobs.json", "-q"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    aux = next(wd.glob(".qcgpjm-service-*"))
    wait_until(lambda: allocator(aux) is None, (aux / "alloc/log").read_text)
    assert "asks for 1 node" in (aux / "alloc/log").read_text()
    (wd / "jobs.json").write_text(json.dumps({"jobs": [job], "allocations": [{"machine": "m.json", "nods": 3}]}))
    done = subprocess.run([*pilotfish, "run", "jobs.json", "-q"], capture_output=True, text=True, check=False)
    assert (done.returncode, "unknown key 'nods'" in done.stderr) == (2, True)
