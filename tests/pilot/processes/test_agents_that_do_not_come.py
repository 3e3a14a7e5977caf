"""A pilot whose agents do not start ends with a clear error instead of waiting for ever."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from patience import PATIENCE_S
from real_pilot import Pilot

from pilotfish import Jobs, LocalManager
from pilotfish.api.errors import ConnectionError

SERVICE = [sys.executable, "-m", "pilotfish", "service"]


def _problem(wd: Path, *options: str) -> str:
    """Run a service that ends with 3; what the final status says."""
    done = subprocess.run(
        [*SERVICE, "--wd", str(wd), *options], capture_output=True, text=True, timeout=PATIENCE_S, check=False
    )
    assert done.returncode == 3, done.stderr
    (status,) = wd.glob(".qcg*/final_status.json")
    problem = str(json.loads(status.read_text())["System"]["Problem"])
    assert problem in done.stderr
    return problem


def test_a_python_without_pilotfish(wd: Path) -> None:
    problem = _problem(wd, "--nodes", "n1:1", "--agent-python", "/usr/bin/python3")
    assert problem.startswith("agents on 0 of 1 nodes, 1 are needed; node n1: ")
    assert "No module named pilotfish" in problem


def test_a_python_that_is_not_there(wd: Path) -> None:
    problem = _problem(wd, "--nodes", "n1:1", "--agent-python", "/no/such/python")
    assert "node n1: /no/such/python: No such file or directory" in problem


def test_a_starter_that_is_not_there(wd: Path) -> None:
    assert "blaunch: No such file or directory" in _problem(wd, "--nodes", "n1:1", "--agent-launcher", "blaunch")


def dying_of_its_welcome(wd: Path) -> Path:
    """A Python for agents that report and are then ended by what they are told, as one with a full disk may be."""
    python = wd / "python"
    python.write_text(f"""#!/bin/sh
shift 2
exec {sys.executable} -c '
import sys
from pilotfish.pilot.agent import task_runner
def configure(*_):
    sys.exit("no room here")
task_runner.TaskRunner.configure = configure
sys.argv[0] = "pilotfish"
from pilotfish.__main__ import main
main()
' "$@"
""")
    python.chmod(0o755)
    return python


def test_agents_that_die_of_what_they_are_told(wd: Path) -> None:
    """That they have reported first does not count: they would be started again for ever."""
    problem = _problem(wd, "--nodes", "n1:1,n2:1", "--agent-python", str(dying_of_its_welcome(wd)))
    assert problem.startswith(
        "agents on 0 of 2 nodes, 1 are needed; node n1: its process ended with exit code 70; it said: "
    )
    assert "no room here" in problem


def test_run_tells_why_its_pilot_has_ended(wd: Path) -> None:
    python = dying_of_its_welcome(wd)
    command = [sys.executable, "-m", "pilotfish", "run", "--nodes", "n1:1", "--agent-python", str(python), "--", "true"]
    done = subprocess.run(command, cwd=wd, capture_output=True, text=True, timeout=PATIENCE_S, check=False)
    assert done.returncode == 3, done.stderr
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("Error: ")]
    assert "the pilot has ended: agents on 0 of 1 nodes, 1 are needed; node n1: its process ended" in line
    assert "no room here" in line


def test_local_manager_tells_why_its_pilot_has_ended(wd: Path) -> None:
    with LocalManager(["--wd", wd, "--nodes", "n1:1", "--agent-python", "/no/such/python"]) as pilot:
        why = "the pilot has ended: agents on 0 of 1 nodes, 1 are needed; node n1: /no/such/python: No such file"
        with pytest.raises(ConnectionError, match=why):
            pilot.wait4(pilot.submit(Jobs().add_std({"name": "a", "execution": {"exec": "true"}})))


@pytest.mark.parametrize("option", [("--min-nodes", "2"), ("--nl-ready-threshold", "1")])
def test_fewer_nodes_than_asked_for(wd: Path, option: tuple[str, str]) -> None:
    """The second agent finds that the first has taken its place, and gives up."""
    prelude = f"mkdir {wd}/taken || exit 7"
    problem = _problem(wd, "--nodes", "n1:1,n2:1", *option, "--agent-prelude", prelude)
    assert problem.startswith("agents on 1 of 2 nodes, 2 are needed; node n")
    assert "exit code 7" in problem


def test_a_node_that_gives_up_does_not_keep_the_others_from_working(wd: Path) -> None:
    (wd / "tasks.txt").write_text("true\n" * 20)
    environ = os.environ | {"PILOTFISH_AGENT_PRELUDE": f"mkdir {wd}/taken || exit 7"}
    command = [
        sys.executable,
        "-m",
        "pilotfish",
        "run",
        f"{wd}/tasks.txt",
        "--wd",
        str(wd),
        "--nodes",
        "n1:1,n2:1",
        "--json",
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S, check=False, env=environ)
    assert done.returncode == 0, done.stderr


def test_a_share_of_nodes_is_between_0_and_1(wd: Path) -> None:
    done = subprocess.run(
        [*SERVICE, "--nl-ready-threshold", "2"], capture_output=True, text=True, timeout=PATIENCE_S, check=False
    )
    assert done.returncode == 2
    assert "--nl-ready-threshold: 2.0 is not a share; write 0 to 1" in done.stderr


def test_a_job_that_waits_for_an_agent_is_told_why_there_is_none(wd: Path, wait_until: Callable[..., None]) -> None:
    """The agents' Python goes away while a pilot runs, and then its agent is killed."""
    python = wd / "python"
    python.write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    python.chmod(0o755)
    pilot = Pilot(wd, "--nodes", "n1:1", "--agent-python", str(python))
    client = pilot.client()
    (agent,) = pilot.agents()
    python.rename(wd / "moved")
    agent.kill()
    client.submit(Jobs().add_std({"name": "a", "execution": {"exec": "true"}}))
    reason = f"node n1 has no agent: {python}: No such file or directory"

    def told() -> bool:
        reply = client.send_request({"request": "jobInfo", "jobNames": ["a"], "params": {"explain": True}})
        return reason in json.dumps(reply)

    wait_until(told, "the reason")
    (wd / "moved").rename(python)
    assert client.wait4("a") == {"a": "SUCCEED"}
    client.cleanup()
    assert pilot.finish() == 0
