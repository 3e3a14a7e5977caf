"""A service in processes of its own, which a test can stop, kill and resume."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest
from patience import PATIENCE_S

from pilotfish.api.manager import Manager


class Pilot:
    """A service process that can be killed and resumed."""

    program = ("-m", "pilotfish")

    def __init__(self, wd: Path, *options: str, environ: Mapping[str, str] | None = None, ready: bool = True) -> None:
        """`ready`: wait until it serves; else `--id` must be among the options, which then tells its folder."""
        self.wd = wd
        self.options = options
        self.environ = environ
        self.aux = wd / f".qcgpjm-service-{options[options.index('--id') + 1]}" if "--id" in options else wd
        self.process = self._start("--wd", str(wd), *options, is_awaited=ready)

    def _start(self, *options: str, is_awaited: bool = True) -> subprocess.Popen[bytes]:
        ready, there = os.pipe()
        command = [sys.executable, *self.program, "service", "--ready-fd", str(there), *options]
        process = subprocess.Popen(command, pass_fds=[there], start_new_session=True, env=self.environ)
        os.close(there)
        with open(ready) as file:
            if is_awaited:
                line = file.readline().strip()
                assert line.endswith("connection.json"), line
                self.aux = Path(line).parent
        return process

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def resume(self, is_awaited: bool = True) -> None:
        self.process = self._start("--resume", str(self.aux), *self.options, is_awaited=is_awaited)

    def client(self) -> Manager:
        return Manager(str(self.aux), {"log_file": "/dev/null"})

    def agents(self) -> list[psutil.Process]:
        """The agents of this pilot, by what their command line names; their workers have the same."""
        mine = str(self.aux / "connection.json")
        found = {}
        for process in psutil.process_iter(["cmdline", "ppid"]):
            words = process.info["cmdline"] or []
            if "agent" in words and mine in words:
                found[process.pid] = process
        return [process for process in found.values() if process.info["ppid"] not in found]

    def endings(self) -> Counter[str]:
        """How often each name is in the report."""
        names: Counter[str] = Counter()
        for line in (self.aux / "jobs.report").read_text().splitlines():
            names[json.loads(line)["name"]] += 1
        return names

    def finish(self) -> int:
        with_client = self.client()
        with_client.send_request({"request": "finish", "options": {"delay": 0}})
        with_client.cleanup()
        return self.process.wait(PATIENCE_S)


def remote_nodes(folder: Path) -> tuple[list[str], dict[str, str]]:
    """Options and environment with which agents are started as on other hosts: the manager sees only what starts them.

    As LSF's, the starter ends what it has started when it is told to end itself.
    """
    starter = folder / "bin" / "blaunch"
    starter.parent.mkdir()
    starter.write_text('#!/bin/sh\nshift 2\nexec "$@"\n')
    starter.chmod(0o755)
    return ["--agent-launcher", "blaunch"], {**os.environ, "PATH": f"{starter.parent}:{os.environ['PATH']}"}


def can_fake_clock() -> bool:
    """Whether `faked_clock` can do it; fails in CI when it cannot."""
    return bool(_faketime())


def _faketime() -> list[Path]:
    found = sorted(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"))
    if not found and os.environ.get("CI") == "true":
        pytest.fail("not installed: faketime")
    return found


def faked_clock(folder: Path) -> tuple[Path, dict[str, str]]:
    """A file that says by how much the clock is off (`+3600`, in seconds), and the environment in which it is.

    The monotonic clock stays what it is, as when a real clock is set. Skips (in CI: fails) without the package faketime.
    """
    found = _faketime()
    if not found:
        pytest.skip("not installed: faketime")
    clock = folder / "clock"
    clock.write_text("+0")
    fake = {"LD_PRELOAD": str(found[0]), "FAKETIME_TIMESTAMP_FILE": str(clock), "FAKETIME_NO_CACHE": "1"}
    same = {"FAKETIME_DONT_FAKE_MONOTONIC": "1", "DONT_FAKE_MONOTONIC": "1"}
    modules = [str(_mended_sleep(folder)), *filter(None, [os.environ.get("PYTHONPATH")])]
    return clock, {**os.environ, **fake, **same, "PYTHONPATH": os.pathsep.join(modules)}


def _mended_sleep(folder: Path) -> Path:
    """A folder for PYTHONPATH: with some versions of libfaketime each `time.sleep` is EINVAL.

    They refuse what Python calls since 3.11, clock_nanosleep until a time of the monotonic clock.
    """
    place = folder / "python"
    place.mkdir()
    (place / "sitecustomize.py").write_text(
        "import select, time\ntime.sleep = lambda seconds: select.select([], [], [], seconds) and None\n"
    )
    return place


@dataclass
class Execution:
    """One run of a task, as the task has seen it."""

    worker: int
    """The process that started it."""
    has_ended: bool = False
    is_overlapped: bool = False
    """It was still running when the task was started again."""

    def __str__(self) -> str:
        end = "to its end" if self.has_ended else "not to its end"
        return f"by {self.worker} {end}{', beside the next one' * self.is_overlapped}"


class Work:
    """Tasks that write down their starts and ends, and run until `go` is there."""

    def __init__(self, wd: Path) -> None:
        self._wd = wd
        self._runs = wd / "runs"
        self._runs.touch()

    def job(
        self, name: str, count: int, *, waits: bool = True, seconds: float | None = None, **resources: object
    ) -> dict[str, object]:
        """Its tasks end when `let_go` was called, or (not `waits`) at once, or after so many seconds."""
        wait = f"while [ ! -e {self._wd}/go ]; do sleep 0.05; done" if waits else "sleep 0.02"
        if seconds is not None:
            wait = f"sleep {seconds}" if seconds else ":"
        who = f"$$$$PILOTFISH_TASK $$$$PPID $$$$$$$$ >> {self._runs}"  # a shell looks for its parent once, at its start
        script = f"echo S {who}; {wait}; echo E {who}"
        return {
            "name": name,
            "execution": {"exec": "/bin/sh", "args": ["-c", script]},
            "iteration": {"stop": count},
            "resources": resources or {"numCores": {"exact": 1}},
        }

    def let_go(self) -> None:
        (self._wd / "go").touch()

    @property
    def starts(self) -> Counter[str]:
        return self._count("S")

    @property
    def ends(self) -> Counter[str]:
        return self._count("E")

    def executions(self) -> dict[str, list[Execution]]:
        """Those of each task in the order in which they began."""
        found: dict[str, dict[str, Execution]] = {}
        for line in self._runs.read_text().splitlines():
            kind, name, worker, shell = line.split()
            runs = found.setdefault(name, {})
            if kind == "S":
                runs[f"{worker} {shell}"] = Execution(int(worker))
            else:
                run = runs[f"{worker} {shell}"]
                run.has_ended = True
                run.is_overlapped = run is not list(runs.values())[-1]
        return {name: list(runs.values()) for name, runs in found.items()}

    def _count(self, kind: str) -> Counter[str]:
        lines = [line.split() for line in self._runs.read_text().splitlines()]
        return Counter(line[1] for line in lines if line[0] == kind)


def submit(pilot: Pilot, *jobs: Mapping[str, object]) -> None:
    client = pilot.client()
    client.send_request({"request": "submit", "jobs": list(jobs)})
    client.cleanup()


def wait_for(pilot: Pilot, *names: str) -> dict[str, str]:
    client = pilot.client()
    states: dict[str, str] = client.wait4(list(names), 120)
    client.cleanup()
    return states
