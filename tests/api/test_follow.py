"""Following a pilot: which jobs are shown, and what a terminal shows of them."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from patience import PATIENCE_S

from pilotfish import Jobs, LocalManager
from pilotfish.api.follow import Row, failures, rows


def test_open_jobs_come_first_and_then_the_latest_failures(wd: Path, wait_until: Callable[..., None]) -> None:
    with LocalManager(["--wd", str(wd), "--nodes", "1"], {"log_file": "/dev/null"}) as pilot:
        jobs = (
            Jobs()
            .add(name="good", exec="true")
            .add(name="bad", exec="false")
            .add(name="none", exec="true", after="bad")
        )
        pilot.submit(jobs.add(name="many", exec="sleep", args=["1000"], iteration=3))
        wait_until(lambda: [row.name for row in rows(pilot)] == ["many", "none", "bad"], "only many is left")
        assert rows(pilot)[0] == Row("many", "QUEUED", 0, 0, 3)
        assert rows(pilot)[2] == Row("bad", "FAILED", 1, 1, 1)
        assert next(failures(pilot)).startswith("  bad: FAILED")
        pilot.cancel(["many"])


def test_a_terminal_shows_a_table_and_a_bar(wd: Path) -> None:
    with LocalManager(["--wd", str(wd), "--nodes", "1"], {"log_file": "/dev/null"}) as pilot:
        pilot.submit(Jobs().add(name="many", exec="sleep", args=["0.5"], iteration=3))
        ours, theirs = pty.openpty()
        done = subprocess.run(
            [sys.executable, "-m", "pilotfish", "watch"], cwd=wd, stderr=theirs, timeout=PATIENCE_S, check=True
        )
        os.close(theirs)
        shown = _all_of(ours)
        assert done.returncode == 0
        assert "many" in shown
        assert "3/3" in shown


def _all_of(descriptor: int) -> str:
    parts = []
    try:
        while part := os.read(descriptor, 65536):
            parts.append(part)
    except OSError:  # how a terminal tells its end
        pass
    os.close(descriptor)
    return b"".join(parts).decode(errors="replace")
