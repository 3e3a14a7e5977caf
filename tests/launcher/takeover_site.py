"""Tasks of a test on a machine of its own, and launchers that are killed anywhere."""

from __future__ import annotations

import os
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from pilotfish.launcher.submission import store as record
from pilotfish.launcher.submission.batch_job import Phase
from pilotfish.launcher.submission.placement import Placement

NAMES = "abcd"


class Killed(BaseException):
    """The launcher is gone at this moment."""


class Site:
    """Tasks that note their start in a ledger, wait for their gate, and bring back what they were sent."""

    def __init__(self, wd: Path, make: Callable[..., Placement]) -> None:
        self.wd = wd
        self.make = make
        self.told: list[str] = []
        for name in NAMES:
            (wd / "here/w" / name).mkdir(parents=True)
            self.send(name)

    def task(self, name: str) -> dict[str, Any]:
        gate, ledger = self.wd / f"gate-{name}", self.wd / "ledger"
        return {
            "command": f"echo {name} >>{ledger}; until [ -e {gate} ]; do sleep 0.05; done; cat in >out",
            "task_work_path": name,
            "forward_files": ["in"],
            "backward_files": ["out"],
        }

    def send(self, name: str, text: str = "") -> None:
        (self.wd / "here/w" / name / "in").write_text(text or name)

    def open(self, names: str = NAMES) -> None:
        for name in names:
            (self.wd / f"gate-{name}").touch()

    def submission(self, names: str, **given: Any) -> Placement:
        tools = {"tell": self.told.append, "sleep": given.pop("sleep", no_sleep)}
        return self.make(*map(self.task, names), tools=tools, **given)

    def submit(self, names: str, **given: Any) -> bool:
        options = {key: given.pop(key) for key in ("detach", "clean") if key in given}
        return self.submission(names, **given).run(check_interval_s=0.5, **options).over

    def interrupt(self, names: str, **given: Any) -> None:
        """Ctrl-C while the jobs run."""

        def ctrl_c(seconds: float) -> None:
            if all(started in self.starts() for started in names):
                raise KeyboardInterrupt
            no_sleep(seconds)

        with pytest.raises(KeyboardInterrupt):
            self.submit(names, sleep=ctrl_c, **given)

    def starts(self) -> Counter[str]:
        ledger = self.wd / "ledger"
        return Counter(ledger.read_text().split() if ledger.exists() else ())

    def result(self, name: str) -> str | None:
        out = self.wd / "here/w" / name / "out"
        return out.read_text() if out.exists() else None

    def listed(self) -> list[Placement]:
        return [Placement.of(each, tell=self.told.append, sleep=no_sleep) for each in record.all_records()]

    def on_machine(self) -> list[str]:
        there = self.wd / "there"
        return sorted(os.listdir(there)) if there.exists() else []

    def check_listing(self) -> None:
        """What is listed as placed has its folder."""
        for each in self.listed():
            if any(job.phase is Phase.PLACED for job in each.peek().jobs.values()):
                root = Path(each.work(each.context()).root)
                assert root.is_dir(), f"{each.hash} is listed as placed and its folder is gone"

    def end_all(self) -> None:
        for each in self.listed():
            each.cancel()


def no_sleep(seconds: float) -> None:
    time.sleep(min(seconds, 0.05))


@contextmanager
def killed_after(steps: int, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The launcher dies before or after one of the things it does: a line on disk, a file in its place, a command."""
    left = steps

    def dies(act: Callable[..., Any]) -> Callable[..., Any]:
        def wrapped(*args: Any, **options: Any) -> Any:
            nonlocal left
            left -= 1
            if left == 0:
                if args and isinstance(args[0], subprocess.Popen):
                    _go_on_alone(args[0])
                raise Killed
            done = act(*args, **options)
            left -= 1
            if left == 0:
                raise Killed
            return done

        return wrapped

    with monkeypatch.context() as patch:
        for owner, name in ((os, "fsync"), (os, "replace"), (os, "symlink"), (subprocess.Popen, "communicate")):
            patch.setattr(owner, name, dies(getattr(owner, name)))
        yield


def _go_on_alone(process: subprocess.Popen[bytes]) -> None:
    """A command goes on when who started it is gone; nobody reads what it prints."""
    if process.stdin:
        process.stdin.close()
    process.wait()
    for pipe in filter(None, (process.stdout, process.stderr)):
        pipe.close()
