"""An agent on another host that is killed: the manager does not see it, and is told."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
from patience import PATIENCE_S
from process_state import has_ended
from real_pilot import Pilot, remote_nodes

from pilotfish import Jobs
from pilotfish.pilot.agent.watcher import tell

PILOTFISH = [sys.executable, "-m", "pilotfish"]
SCRIPT = """\
echo start >>starts
if [ -e pid ]; then kill -0 "$(cat pid)" 2>/dev/null && echo alive >seen || echo dead >seen; exit 0; fi
echo $$ >pid.tmp
mv pid.tmp pid
sleep 1000
"""


@pytest.mark.parametrize("joined", [False, True], ids=["started", "joined"])
def test_what_an_agent_ran_that_was_killed_runs_again_without_waiting_for_its_silence(
    wd: Path, wait_until: Callable[..., None], joined: bool
) -> None:
    """... which would take ten minutes here; and not before the first attempt is dead. A node that had joined is gone.
    Whoever kills an agent may take its whole process group.
    """
    options, environ = remote_nodes(wd)
    options = ["--governor"] if joined else [*options, "--nodes", "n1:1"]
    pilot = Pilot(wd, "--node-lost", "600", *options, environ=environ)
    bring = ["agent", "--connect", str(pilot.aux), "--nodes", "n1:1"]
    joined_agents = [psutil.Popen([*PILOTFISH, *bring], cwd=wd)] if joined else []
    client = pilot.client()
    client.submit(Jobs().add_std({"name": "a", "execution": {"script": SCRIPT}}))
    wait_until((wd / "pid").exists, "the first attempt runs")
    killed = joined_agents[0] if joined else pilot.agents()[0]
    if joined:
        killed.kill()
        joined_agents.append(psutil.Popen([*PILOTFISH, *bring], cwd=wd))
    else:
        os.killpg(os.getpgid(killed.pid), signal.SIGKILL)
    assert client.wait4("a") == {"a": "SUCCEED"}
    assert (wd / "starts").read_text() == "start\n" * 2
    assert (wd / "seen").read_text() == "dead\n"
    client.cleanup()
    assert pilot.finish() == 0
    for agent in joined_agents:
        agent.wait(PATIENCE_S)


def test_an_agent_that_ends_in_order_leaves_no_watcher_behind(wd: Path, wait_until: Callable[..., None]) -> None:
    options, environ = remote_nodes(wd)
    pilot = Pilot(wd, "--nodes", "n1:1", *options, environ=environ)
    wait_until(pilot.agents, "the agent is there")
    (agent,) = pilot.agents()
    family = [agent, *agent.children(recursive=True)]
    assert pilot.finish() == 0
    wait_until(lambda: all(map(has_ended, family)), "all of them have ended")
    assert "it was killed" not in (pilot.aux / "service.log").read_text()


def test_words_about_an_agent_that_nobody_knows_change_nothing(wd: Path) -> None:
    """They are answered, so that whoever says it does not go on."""
    pilot = Pilot(wd, "--nodes", "n1:1")
    assert tell(pilot.aux / "connection.json", "n1-ffffffffffff") == 0
    client = pilot.client()
    client.submit(Jobs().add_std({"name": "a", "execution": {"exec": "true"}}))
    assert client.wait4("a") == {"a": "SUCCEED"}
    client.cleanup()
    assert pilot.finish() == 0


def test_a_manager_that_is_gone_cannot_be_told(wd: Path) -> None:
    pilot = Pilot(wd, "--nodes", "n1:1")
    assert pilot.finish() == 0
    assert tell(wd / "nowhere.json", "n1-ffffffffffff") == 1
