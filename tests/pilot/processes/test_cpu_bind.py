"""Tasks are bound to the cores they were given, unless they are not to be."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from pilotfish import Jobs, LocalManager

HERE = sorted(os.sched_getaffinity(0))


def _affinity_of_a_task(wd: Path, *options: str) -> list[int]:
    with LocalManager(["--wd", str(wd), *options]) as pilot:
        program = "import os; print(*sorted(os.sched_getaffinity(0)))"
        pilot.submit(Jobs().add(name="look", exec="python3", args=["-c", program], stdout="cpus"))
        assert pilot.wait4("look") == {"look": "SUCCEED"}
    return [int(number) for number in (wd / "cpus").read_text().split()]


@pytest.mark.skipif(len(HERE) < 2, reason="one processor: nothing to choose")
def test_a_task_of_one_core_is_bound_to_one(wd: Path) -> None:
    assert len(_affinity_of_a_task(wd)) == 1


def test_with_cpu_bind_none_it_may_use_all(wd: Path) -> None:
    assert _affinity_of_a_task(wd, "--cpu-bind", "none") == HERE
