"""What a pilot says of its resources is right from the first moment to the last."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from patience import PATIENCE_S
from process_state import children_of, command_line
from real_pilot import Pilot

from pilotfish import Jobs, LocalManager, Manager

QUIET = {"log_file": "/dev/null"}


def _is_consistent(pilot: Manager, used: int, total: int = 4) -> None:
    """By request, in the status and on the command line."""
    told = pilot.resources()
    assert told == {"total_nodes": 1, "total_cores": total, "used_cores": used, "free_cores": total - used}
    status = pilot.system_status()["Resources"]
    assert (status["TotalCores"], status["UsedCores"], status["FreeCores"]) == (total, used, total - used)


def _gate(wd: Path) -> tuple[str, ...]:
    """Options with which no agent starts before the file `go` is there."""
    return ("--agent-prelude", f"while [ ! -e {wd}/go ]; do sleep 0.02; done")


def _resources(connect: Path) -> dict[str, Any]:
    command = [sys.executable, "-m", "pilotfish", "resources", "-c", str(connect), "--json"]
    told: dict[str, Any] = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
    return told


def test_all_cores_are_free_before_the_agents_are_there_and_work_submitted_then_runs(wd: Path) -> None:
    with LocalManager(["--wd", str(wd), "--nodes", "4", *_gate(wd)], QUIET) as pilot:
        _is_consistent(pilot, 0)
        assert pilot.system_status()["Resources"]["ReadyNodes"] == 0
        assert _resources(pilot.connection_file)["free_cores"] == 4
        pilot.submit(Jobs().add(name="early", exec="true", iteration=pilot.resources()["free_cores"]))
        (wd / "go").touch()
        assert pilot.wait4("early", PATIENCE_S) == {"early": "SUCCEED"}
        assert pilot.system_status()["Resources"]["ReadyNodes"] == 1
        _is_consistent(pilot, 0)


def test_nothing_is_in_use_when_the_pilot_has_ended(wd: Path) -> None:
    with LocalManager(["--wd", str(wd), "--nodes", "4"], QUIET) as pilot:
        pilot.submit(Jobs().add(name="a", exec="true"))
        aux = pilot.connection_file.parent
    final = json.loads((aux / "final_status.json").read_text())
    assert (final["Resources"]["UsedCores"], final["Resources"]["FreeCores"]) == (0, 4)


def test_tasks_that_outlived_the_manager_count_before_their_agent_is_heard_again(
    wd: Path, wait_until: Callable[..., None]
) -> None:
    pilot = Pilot(wd, "--nodes", "4")
    client = pilot.client()
    client.submit(Jobs().add(name="held", script="touch runs; while [ ! -e go ]; do sleep 0.02; done", numCores=3))
    wait_until((wd / "runs").exists, "the task runs")
    client.cleanup()
    (agent,) = pilot.agents()
    agent.suspend()
    pilot.kill()
    pilot.resume()
    client = pilot.client()
    _is_consistent(client, 3)
    agent.resume()
    (wd / "go").touch()
    client.wait4("held", PATIENCE_S)
    wait_until(lambda: client.resources()["used_cores"] == 0, "the cores are free again")
    client.cleanup()
    assert pilot.finish() == 0


def test_a_lost_node_is_not_free(wd: Path, wait_until: Callable[..., None]) -> None:
    """The agent is killed, and its successor cannot start before it may."""
    (wd / "go").touch()
    with LocalManager(["--wd", str(wd), "--nodes", "n1:2,n2:2", *_gate(wd)], QUIET) as pilot:
        pilot.submit(Jobs().add(name="a", exec="true", numNodes=2))
        pilot.wait4("a", PATIENCE_S)
        agents = [each for each in children_of(pilot._process.pid) if {"agent", "n2"} <= set(command_line(each))]
        (wd / "go").unlink()
        os.kill(agents[0].pid, signal.SIGKILL)
        wait_until(lambda: pilot.resources()["free_cores"] == 2, "only the other node's cores are free")
        (wd / "go").touch()
        wait_until(lambda: pilot.resources()["free_cores"] == 4, "all are free again")
