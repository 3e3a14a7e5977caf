"""The agent asks for short time slices; its tasks do not get them."""

from __future__ import annotations

import subprocess
import sys

PROGRAM = """
import os
from pilotfish.pilot.agent.promptness import ask_for_short_slices
{before}
print(ask_for_short_slices())
print(bool(os.sched_getscheduler(0) & os.SCHED_RESET_ON_FORK), os.getpriority(os.PRIO_PROCESS, 0), flush=True)
os.spawnl(os.P_WAIT, "/bin/sh", "sh", "-c", "nice")
"""


def told(before: str = "") -> list[str]:
    """What an agent with that history says: asked, reset on fork, nice value; then the nice value of its task."""
    program = PROGRAM.format(before=before)
    return subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True).stdout.split()


def test_an_ordinary_agent_asks_and_its_tasks_start_with_the_default() -> None:
    assert told() == ["True", "True", "0", "0"]


def test_a_nicer_agent_has_nicer_tasks() -> None:
    assert told("os.nice(5)") == ["True", "True", "5", "5"]


def test_an_agent_of_another_policy_is_left_as_it_is() -> None:
    assert told("os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))") == ["False", "False", "0", "0"]
