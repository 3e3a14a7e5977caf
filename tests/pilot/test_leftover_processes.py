"""Processes are ours by who runs them, not by what they say: also for root, who could kill anybody's."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import psutil
import pytest
from process_state import kill

from pilotfish.api.jobs import Jobs
from pilotfish.api.local import LocalManager
from pilotfish.pilot import leftover_processes

OTHER = 65534
AGENT = "n1-0123456789ab"
SLEEP = "print('ready', flush=True); import time; time.sleep(1000)"
BECOME = {
    "another user": f"import os; os.setresgid({OTHER}, {OTHER}, {OTHER}); os.setresuid({OTHER}, {OTHER}, {OTHER})",
    "another user in a program of root": f"import os; os.setresuid({OTHER}, 0, 0)",
}

Start = Callable[..., subprocess.Popen[str]]


@pytest.fixture
def start() -> Iterator[Start]:
    """`start(code, words)` runs Python code with more words on its command line, and waits until it is ready."""
    started: list[subprocess.Popen[str]] = []

    def starter(become: str, words: Sequence[str], **environ: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-c", f"{become}\n{SLEEP}", *words]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={**os.environ, **environ}, cwd="/")
        started.append(process)
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        return process

    yield starter
    for process in started:
        process.kill()
        process.communicate()


def test_a_process_of_ours_with_the_agents_command_line_counts_and_is_cleared_away(start: Start) -> None:
    process = start("", ["--agent-id", AGENT])
    assert leftover_processes.is_alive(AGENT)
    assert leftover_processes.clear_after(AGENT) == 1
    assert process.wait(60) == -9


@pytest.mark.parametrize("who", BECOME)
def test_one_of_another_user_neither_counts_nor_is_killed(start: Start, who: str) -> None:
    if os.geteuid() != 0:
        pytest.skip("becoming another user needs root")
    process = start(BECOME[who], ["--agent-id", AGENT], PILOTFISH_AGENT_ID=AGENT)
    assert not leftover_processes.is_alive(AGENT)
    assert leftover_processes.living([AGENT]) == {}
    assert leftover_processes.clear_after(AGENT) == 0
    assert leftover_processes.kill_marked([f"PILOTFISH_AGENT_ID={AGENT}".encode()]) == 0
    assert process.poll() is None


def test_another_users_copy_of_the_agents_command_line_does_not_keep_the_node_from_coming_back(
    start: Start, wd: Path
) -> None:
    if os.geteuid() != 0:
        pytest.skip("becoming another user needs root")
    with LocalManager(["--wd", str(wd), "--nodes", "n1:1"], {"log_file": "/dev/null"}) as pilot:
        pilot.submit(Jobs().add(name="first", script="true"))
        pilot.wait4("first")
        file = str(pilot.connection_file)
        agents = [each for each in psutil.process_iter(["cmdline"]) if file in (each.info["cmdline"] or [])]
        words = agents[0].info["cmdline"]
        impostor = start(BECOME["another user"], words[words.index("--agent-id") :])
        for agent in agents:
            kill(agent)
        pilot.submit(Jobs().add(name="second", script="true"))
        assert pilot.wait4("second") == {"second": "SUCCEED"}
        assert impostor.poll() is None
