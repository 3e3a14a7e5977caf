"""Who serves a node: agents are known before they are started, and nobody else gets in, however early a manager is killed."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from patience import PATIENCE_S
from real_pilot import Pilot, Work, remote_nodes, submit, wait_for

Wait = Callable[..., None]


class DyingPilot(Pilot):
    """Its first manager is killed by itself when it starts its first agent: before, or just after that."""

    when = "before"

    @property
    def program(self) -> tuple[str, ...]:  # type: ignore[override]
        then = "" if self.when == "before" else "start(*words);"
        return (
            "-c",
            "import os, sys; import pilotfish.pilot.agent_launchers.process as process; start = process.start;"
            f"die = lambda *words: ({then.rstrip(';') or None}, os.kill(os.getpid(), 9));"
            "process.start = start if '--resume' in sys.argv else die;"
            "from pilotfish.__main__ import main; main()",
        )


class DyingLater(DyingPilot):
    when = "after"


class MovingPilot(Pilot):
    """Its second manager finds itself on another host."""

    program = (
        "-c",
        "import socket, sys;"
        "socket.gethostname = (lambda: 'elsewhere') if '--resume' in sys.argv else socket.gethostname;"
        "from pilotfish.__main__ import main; main()",
    )


def agents_ready(pilot: Pilot) -> list[str]:
    return re.findall(r"agent\.ready node=(\S+)", (pilot.aux / "service.log").read_text())


@pytest.mark.parametrize("are_remote", [False, True])
def test_a_manager_killed_again_and_again_before_its_agents_have_reported_has_one_for_each_node(
    wd: Path, wait_until: Wait, are_remote: bool
) -> None:
    """Each life goes on with the agents that the one before had started; none of them takes the node from another."""
    options, environ = remote_nodes(wd) if are_remote else ([], None)
    pilot = Pilot(wd, "--nodes", "2,2", "--agent-prelude", "sleep 0.5", *options, environ=environ)
    for _ in range(4):
        pilot.kill()
        pilot.resume()
    work = Work(wd)
    submit(pilot, work.job("x", 4))
    wait_until(lambda: len(work.starts) == 4, "all run")
    assert len(pilot.agents()) == 2
    work.let_go()
    assert wait_for(pilot, "x") == {"x": "SUCCEED"}
    assert pilot.finish() == 0
    assert set(work.starts.values()) == {1}
    assert sorted(agents_ready(pilot)) == ["n0", "n1"]


@pytest.mark.parametrize("kind", [DyingPilot, DyingLater])
def test_a_manager_killed_while_it_starts_an_agent(wd: Path, kind: type[DyingPilot], wait_until: Wait) -> None:
    """Whether that agent has come to be is found out by the next one."""
    pilot = kind(wd, "--nodes", "2", "--id", "p", ready=False)
    assert pilot.process.wait(PATIENCE_S) == -9
    pilot.resume()
    work = Work(wd)
    submit(pilot, work.job("x", 2))
    wait_until(lambda: len(work.starts) == 2, "all run")
    assert len(pilot.agents()) == 1
    work.let_go()
    assert wait_for(pilot, "x") == {"x": "SUCCEED"}
    assert pilot.finish() == 0
    assert set(work.starts.values()) == {1}


def test_an_agent_that_nobody_expects_is_sent_away(wd: Path, wait_until: Wait) -> None:
    """It has the right keys and the name of a node; yet the agent that is there keeps it, and what runs there runs on."""
    pilot = Pilot(wd, "--nodes", "1")
    work = Work(wd)
    submit(pilot, work.job("x", 1))
    wait_until(lambda: work.starts, "the task runs")
    words = ["agent", "--connect", str(pilot.aux / "connection.json"), "--node", "n0", "--agent-id", "n0-stranger"]
    done = subprocess.run(
        [sys.executable, "-m", "pilotfish", *words], capture_output=True, text=True, timeout=PATIENCE_S, check=False
    )
    assert done.returncode == 1
    assert "does not expect an agent n0-stranger on node n0" in done.stderr
    work.let_go()
    assert wait_for(pilot, "x") == {"x": "SUCCEED"}
    assert pilot.finish() == 0
    assert work.starts == work.ends == {"x:0": 1}


def test_an_agent_that_nobody_expects_does_not_get_a_node_that_has_none_either(wd: Path, wait_until: Wait) -> None:
    """As when one of an earlier life turns up: the one that was started in its place gets the node, it runs nothing."""
    pilot = Pilot(wd, "--nodes", "1", "--agent-prelude", f"while [ ! -e {wd}/come ]; do sleep 0.05; done")
    work = Work(wd)
    submit(pilot, work.job("x", 2))
    words = ["agent", "--connect", str(pilot.aux / "connection.json"), "--node", "n0", "--agent-id", "n0-stranger"]
    done = subprocess.run([sys.executable, "-m", "pilotfish", *words], timeout=PATIENCE_S, check=False)
    assert done.returncode == 1
    assert not work.starts
    (wd / "come").touch()
    work.let_go()
    assert wait_for(pilot, "x") == {"x": "SUCCEED"}
    assert pilot.finish() == 0
    assert set(work.starts.values()) == {1}


def test_a_manager_that_goes_on_elsewhere_waits_for_the_agents_that_may_live_where_it_was(
    wd: Path, wait_until: Wait
) -> None:
    """It cannot see their processes; what they run is given to others only when they have been silent for long."""
    pilot = MovingPilot(wd, "--nodes", "2", "--net", "--net-interface", "127.0.0.1")
    work = Work(wd)
    submit(pilot, work.job("x", 2))
    wait_until(lambda: len(work.starts) == 2, "the tasks run")
    pilot.kill()
    pilot.resume()
    wait_until(lambda: len(agents_ready(pilot)) == 2, "its agent is there again")
    work.let_go()
    assert wait_for(pilot, "x") == {"x": "SUCCEED"}
    assert pilot.finish() == 0
    assert set(work.starts.values()) == {1}
