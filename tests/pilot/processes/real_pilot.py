"""A service in processes of its own, which a test can stop, kill and resume."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import psutil
import pytest

from pilotfish.api.manager import Manager


class Pilot:
    """A service process that can be killed and resumed."""

    program = ("-m", "pilotfish")

    def __init__(self, wd: Path, *options: str, environ: Mapping[str, str] | None = None) -> None:
        self.wd = wd
        self.options = options
        self.environ = environ
        self.process = self._start("--wd", str(wd), *options)

    def _start(self, *options: str) -> subprocess.Popen[bytes]:
        ready, there = os.pipe()
        command = [sys.executable, *self.program, "service", "--ready-fd", str(there), *options]
        process = subprocess.Popen(command, pass_fds=[there], start_new_session=True, env=self.environ)
        os.close(there)
        with open(ready) as file:
            line = file.readline().strip()
        assert line.endswith("connection.json"), line
        self.aux = Path(line).parent
        return process

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def resume(self) -> None:
        self.process = self._start("--resume", str(self.aux), *self.options)

    def client(self) -> Manager:
        return Manager(str(self.aux), {"log_file": "/dev/null"})

    def agents(self) -> list[psutil.Process]:
        """The agents of this pilot, by what their command line names; their hands have the same."""
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
        return self.process.wait(30)


def faked_clock(folder: Path) -> tuple[Path, dict[str, str]]:
    """A file that says by how much the clock is off (`+3600`, in seconds), and the environment in which it is.

    The monotonic clock stays what it is, as when a real clock is set. Skips (in CI: fails) without the package faketime.
    """
    found = sorted(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"))
    if not found:
        give_up = pytest.fail if os.environ.get("CI") == "true" else pytest.skip
        give_up("not installed: faketime")
    clock = folder / "clock"
    clock.write_text("+0")
    fake = {"LD_PRELOAD": str(found[0]), "FAKETIME_TIMESTAMP_FILE": str(clock), "FAKETIME_NO_CACHE": "1"}
    same = {"FAKETIME_DONT_FAKE_MONOTONIC": "1", "DONT_FAKE_MONOTONIC": "1"}
    return clock, {**os.environ, **fake, **same}
