"""Nodes of another allocation, with real processes: what it is called, when it ends, and how it is released."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from patience import PATIENCE_S

from pilotfish import Jobs, LocalManager

Wait = Callable[..., None]


class Joining:
    """Agents that bring nodes; all are ended with the test."""

    def __init__(self, wd: Path) -> None:
        self._wd = wd
        self._processes: list[subprocess.Popen[str]] = []

    def __call__(self, *words: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "pilotfish", "agent", "--connect", ".", *words]
        process = subprocess.Popen(command, cwd=self._wd, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        self._processes.append(process)
        return process

    def close(self) -> None:
        for process in self._processes:
            if process.poll() is None:
                process.terminate()
            process.communicate(timeout=PATIENCE_S)


@pytest.fixture
def join(wd: Path) -> Iterator[Joining]:
    made = Joining(wd)
    yield made
    made.close()


@pytest.fixture
def pilot(wd: Path, join: Joining) -> Iterator[LocalManager]:
    options = ["--wd", str(wd), "--nodes", "own:1", "--end-margin", "2", "--kill-grace", "1"]
    with LocalManager(options, {"log_file": "/dev/null"}) as started:
        yield started


def allocations(pilot: LocalManager) -> dict[str, str]:
    return {node.name: node.allocation for node in pilot.client.demand(nodes_may_come=True).nodes}


def test_a_released_allocation_ends_what_runs_and_its_agents_leave_in_order(
    pilot: LocalManager, join: Joining, wd: Path, wait_until: Wait
) -> None:
    """... with exit code 0, and nodes of it that come later are sent away in the same way."""
    agents = join("--nodes", "n1:1,n2:1", "--allocation", "a1")
    wait_until(lambda: allocations(pilot) == {"own": "", "n1": "a1", "n2": "a1"}, "both nodes to join")
    script = "echo started >>runs; while [ ! -e go ]; do sleep 0.05; done; echo ended >>runs"
    jobs = Jobs().add_std(
        name="t", execution={"script": script}, iteration={"stop": 3}, resources={"numCores": 1, "numNodes": 1}
    )
    pilot.submit(jobs)
    wait_until(lambda: (wd / "runs").exists() and (wd / "runs").read_text().count("started") == 3, "all to run")
    assert pilot.client.release("a1") == 2
    late = join("--nodes", "n3:1", "--allocation", "a1")
    assert late.wait(PATIENCE_S) == 0
    (wd / "go").touch()
    assert pilot.wait4("t") == {"t": "SUCCEED"}
    assert agents.wait(PATIENCE_S) == 0
    wait_until(lambda: allocations(pilot) == {"own": ""}, "the nodes to have left")
    assert (wd / "runs").read_text().count("started") == 3, "nothing was started twice"


def test_the_release_of_what_is_not_here_finds_no_nodes(pilot: LocalManager) -> None:
    assert pilot.client.release("never heard of") == 0


def test_an_allocation_that_is_nearly_over_drains_and_leaves_and_its_tasks_go_on_elsewhere(
    pilot: LocalManager, join: Joining, wd: Path, wait_until: Wait
) -> None:
    """The task has a limit that is longer than the allocation, but 1 s is of use to it: it starts there, is stopped before the
    end, and waits again; no retry is used up. One that needs all its time is not started there at all.
    """
    assert allocations(pilot) == {"own": ""}, "and from now on work may wait for nodes"
    script = "while [ ! -e go ]; do sleep 0.05; done"
    jobs = Jobs()
    jobs.add_std(
        name="restarts",
        execution={"script": script},
        resources={"numCores": 1, "tags": ["guest"], "wt": "1h", "min_time": "1s"},
        retries=0,
    )
    jobs.add_std(
        name="all", execution={"script": "touch all"}, resources={"numCores": 1, "tags": ["guest"], "wt": "1h"}
    )
    pilot.submit(jobs)
    assert join("--nodes", "n1:2", "--tags", "guest", "--ends-in", "6s").wait(PATIENCE_S) == 0
    wait_until(lambda: "n1" not in allocations(pilot), "the node to have left")
    states = pilot.list()
    assert (states["restarts"]["status"], states["all"]["status"]) == ("QUEUED", "QUEUED")
    (wd / "go").touch()
    join("--nodes", "n2:2", "--tags", "guest")
    assert pilot.wait4(["restarts", "all"]) == {"restarts": "SUCCEED", "all": "SUCCEED"}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--ends-in", "soon"], '--ends-in: "soon" is not a wall time'),
        (["--allocation", "a\nb"], "--allocation: 'a\\nb' is not a name"),
    ],
)
def test_bounds_that_make_no_sense_are_refused(
    pilot: LocalManager, join: Joining, words: list[str], message: str
) -> None:
    process = join("--nodes", "n1:1", *words)
    output, _ = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 2
    assert message in output
