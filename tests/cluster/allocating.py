"""A pilot without nodes on the login node of an emulated cluster, whose queue asks for them."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

from emulated import Slurm
from grid_engine import GridEngine
from patience import wait_until

from pilotfish.launcher.allocations.journal import FOLDER, AllocationJournal
from pilotfish.launcher.allocations.state import State


class Login:
    """A pilot without nodes on the login node, and the commands of its user there."""

    def __init__(self, site: Slurm | GridEngine, wd: Path) -> None:
        self.site, self.wd = site, wd
        self.site.environ["PILOTFISH_HOME"] = str(wd / "home")
        self.begin("--wd", str(wd))

    def begin(self, *options: str) -> None:
        words = ("pilotfish", "service", "--governor", "--net", "--end-margin", "1", *options)
        with open(self.wd / "service.out", "ab") as log:
            command = self.site.hosts.ctl.command(*words)
            self.service = subprocess.Popen(command, env=self.site.environ, stdout=log, stderr=log)
        wait_until(lambda: self._try("status").returncode == 0, lambda: (self.wd / "service.out").read_text())

    def _try(self, *words: str) -> subprocess.CompletedProcess[str]:
        command = self.site.hosts.ctl.command("pilotfish", *words, "-c", str(self.wd))
        return subprocess.run(command, env=self.site.environ, capture_output=True, text=True, check=False)

    def call(self, *words: str) -> str:
        done = self._try(*words)
        assert done.returncode == 0, (words, done.stdout, done.stderr, self.log())
        return done.stdout

    def submit(self, *jobs: dict[str, Any]) -> None:
        (self.wd / "jobs.json").write_text(json.dumps(list(jobs)))
        self.call("submit", str(self.wd / "jobs.json"))

    @property
    def state(self) -> State:
        """What its allocator has written down; asked often, so not by a command."""
        journal = AllocationJournal(self.aux / FOLDER)
        journal.read()
        return journal.state

    @property
    def failed(self) -> int:
        return sum(each.failed for each in self.state.allocations.values())

    def wait_until_given_up(self) -> None:
        """Nothing waits or runs any more, although the pilot does."""
        wait_until(lambda: not self.state.living, self.log)

    def idle(self) -> bool:
        return self._try("status", "--all-finished").returncode == 0

    def wait_for_work(self) -> None:
        wait_until(self.idle, self.log)

    @property
    def aux(self) -> Path:
        return next(self.wd.glob(".qcgpjm-service-*"))

    def log(self) -> str:
        return (self.aux / "alloc/log").read_text() + (self.aux / "service.log").read_text()[-2000:]

    def kill(self, *words: str) -> None:
        """SIGKILL to all processes on the login node with these words in their command line."""
        self.site.hosts.ctl.run("pkill", "-KILL", "-f", " ".join(words))

    def end(self) -> None:
        """Nothing waits or runs afterwards, and nobody is left who would ask."""
        self.call("finish", "--kill")
        self.service.wait()
        wait_until(lambda: not self._serving(), self.log)

    def _serving(self) -> str:
        command = self.site.hosts.ctl.command("pgrep", "-f", "alloc serve")
        return subprocess.run(command, capture_output=True, text=True, check=False).stdout


ADD = ("--walltime", "5m", "--min-work", "0", "--idle", "2s")


def job(name: str, script: str, **more: Any) -> dict[str, Any]:
    return {"name": name, "execution": {"script": script}, **more}
