"""Nodes that join a running pilot and leave it, tags, and the governor's options as a front on that."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from patience import PATIENCE_S

from pilotfish import Jobs, LocalManager, Manager
from pilotfish.api.errors import RequestRefusedError

Wait = Callable[..., None]


@pytest.mark.parametrize(
    "words",
    [["--file-path", "requests.json"], ["--file"], ["--resume", "."], ["--governor"]],
    ids=lambda words: words[0],
)
def test_what_needs_a_manager_is_refused_where_nodes_only_join(wd: Path, words: list[str]) -> None:
    """... at once, and naming both options: the requests of the file would never have been run."""
    command = [sys.executable, "-m", "pilotfish", "service", "--parent", "there", *words]
    done = subprocess.run(command, cwd=wd, capture_output=True, text=True, timeout=PATIENCE_S, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith(
        f"Error: {words[0]}: cannot be used with --parent, which starts no manager of its own; "
    )


def test_options_without_effect_are_named_where_nodes_only_join(wd: Path) -> None:
    command = [sys.executable, "-m", "pilotfish", "service", "--parent", "there", "--id", "m", "--net", "--nodes", "2"]
    done = subprocess.run(command, cwd=wd, capture_output=True, text=True, timeout=PATIENCE_S, check=False)
    assert done.stderr.splitlines()[0] == "Warning: no effect together with --parent: --net, --id"
    assert done.returncode == 3, "there is no such pilot"


class Joining:
    """Processes that bring nodes; all are ended with the test."""

    def __init__(self, wd: Path) -> None:
        self._wd = wd
        self._processes: list[subprocess.Popen[str]] = []

    def start(self, *words: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "pilotfish", *words]
        process = subprocess.Popen(command, cwd=self._wd, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        self._processes.append(process)
        return process

    def join(self, nodes: str, *words: str) -> subprocess.Popen[str]:
        return self.start("agent", "--connect", ".", "--nodes", nodes, *words)

    def close(self) -> None:
        for process in self._processes:
            if process.poll() is None:
                process.terminate()
            process.communicate(timeout=PATIENCE_S)


@pytest.fixture
def joining(wd: Path) -> Iterator[Joining]:
    made = Joining(wd)
    yield made
    made.close()


@pytest.fixture
def pilot(wd: Path, joining: Joining, request: pytest.FixtureRequest) -> Iterator[LocalManager]:
    """A pilot with a node of its own, `own`, with one core and the tag `first`; a test may give more options."""
    options = ["--wd", str(wd), "--nodes", "own:1", "--tags", "first", *getattr(request, "param", [])]
    with LocalManager(options, {"log_file": "/dev/null"}) as started:
        yield started


def cores(pilot: Manager) -> int:
    return int(pilot.resources()["total_cores"])


def work(name: str, count: int, seconds: float = 0.2, **resources: Any) -> Jobs:
    """Tasks that note the node they run on in `where`."""
    script = f"echo {name} ${{nlist}} >>where; sleep {seconds}"
    return Jobs().add_std(
        name=name, execution={"script": script}, iteration={"stop": count}, resources={"numCores": 1, **resources}
    )


def where(wd: Path) -> list[tuple[str, str]]:
    return [tuple(line.split()) for line in (wd / "where").read_text().splitlines()]  # type: ignore[misc]


def test_nodes_that_join_get_work_and_end_with_the_pilot(
    pilot: LocalManager, joining: Joining, wd: Path, wait_until: Wait
) -> None:
    one, two = joining.join("n2:2"), joining.join("n3:1,n4:1")
    wait_until(lambda: cores(pilot) == 5, "all nodes to join")
    pilot.submit(work("w", 20))
    pilot.wait4("w")
    assert {node for _, node in where(wd)} == {"own", "n2", "n3", "n4"}
    pilot.finish()
    assert (one.wait(PATIENCE_S), two.wait(PATIENCE_S)) == (0, 0)


def test_a_node_that_is_told_to_end_gives_its_tasks_back(
    pilot: LocalManager, joining: Joining, wd: Path, wait_until: Wait
) -> None:
    joined = joining.join("n2:2")
    wait_until(lambda: cores(pilot) == 3, "the node to join")
    pilot.submit(work("w", 12, 0.4))
    wait_until(lambda: (wd / "where").exists() and ("w", "n2") in where(wd), "tasks there")
    joined.send_signal(signal.SIGTERM)
    assert joined.wait(PATIENCE_S) == 0
    assert pilot.wait4("w") == {"w": "SUCCEED"}
    assert cores(pilot) == 1


def test_a_drained_node_finishes_what_runs_and_nothing_is_started_twice(
    pilot: LocalManager, joining: Joining, wd: Path, wait_until: Wait
) -> None:
    joined = joining.join("n2:2")
    wait_until(lambda: cores(pilot) == 3, "the node to join")
    pilot.submit(work("w", 12, 0.4))
    wait_until(lambda: (wd / "where").exists() and ("w", "n2") in where(wd), "tasks there")
    joined.send_signal(signal.SIGUSR1)
    assert joined.wait(PATIENCE_S) == 0
    assert pilot.wait4("w") == {"w": "SUCCEED"}
    assert len(where(wd)) == 12


@pytest.mark.parametrize("pilot", [["--node-lost", "5", "--heartbeat", "0.5"]], indirect=True)
def test_a_node_that_is_killed_is_gone_and_its_tasks_run_again(
    pilot: LocalManager, joining: Joining, wd: Path, wait_until: Wait
) -> None:
    joined = joining.join("n2:2")
    wait_until(lambda: cores(pilot) == 3, "the node to join")
    pilot.submit(work("w", 8, 0.4))
    wait_until(lambda: (wd / "where").exists() and ("w", "n2") in where(wd), "tasks there")
    joined.kill()
    assert pilot.wait4("w") == {"w": "SUCCEED"}
    wait_until(lambda: cores(pilot) == 1, "the node to count as gone")


def test_tags_steer_which_work_goes_where(pilot: LocalManager, joining: Joining, wd: Path, wait_until: Wait) -> None:
    joining.join("n2:1", "--tags", "big,fast")
    wait_until(lambda: cores(pilot) == 2, "the node to join")
    pilot.submit(work("big", 4, 0.01, tags=["big"]))
    pilot.submit(work("both", 2, 0.01, tags=["fast", "big"]))
    pilot.submit(work("first", 2, 0.01, tags="first"))
    pilot.wait4all()
    assert set(where(wd)) == {("big", "n2"), ("both", "n2"), ("first", "own")}


def test_without_joined_nodes_unknown_tags_are_refused_with_them_such_work_waits(
    pilot: LocalManager, joining: Joining, wait_until: Wait
) -> None:
    with pytest.raises(RequestRefusedError, match="Not enough resources"):
        pilot.submit(work("w", 1, tags=["later"]))
    joining.join("n2:1")
    wait_until(lambda: cores(pilot) == 2, "the node to join")
    pilot.submit(work("w", 1, tags=["later"]))
    assert pilot.status(["w"])["jobs"]["w"]["data"]["status"] == "QUEUED"
    joining.join("n3:1", "--tags", "later")
    assert pilot.wait4("w") == {"w": "SUCCEED"}


@pytest.mark.parametrize("tags", [["a,b"], [1], {"a": 1}])
def test_what_is_no_tag_is_refused_with_its_place(pilot: LocalManager, tags: Any) -> None:
    with pytest.raises(RequestRefusedError, match=r"resources\.tags"):
        pilot.submit(work("w", 1, tags=tags))


def test_allocations_that_share_a_host_bring_each_its_part(
    pilot: LocalManager, joining: Joining, wait_until: Wait, wd: Path
) -> None:
    """The host is the pilot's own already, and two others join with parts of it: all cores count, and all run tasks. What
    tasks and reports are told is the host; the names of nodes differ, or nobody could tell which is meant.
    """
    first, second = joining.join("own:1", "--tags", "part"), joining.join("own:2", "--tags", "part")
    wait_until(lambda: cores(pilot) == 4, "both have joined")
    job = {
        "name": "wide",
        "execution": {"script": 'echo "$QCG_PM_NODELIST" >where; touch runs; while [ ! -e go ]; do sleep 0.05; done'},
        "resources": {"numNodes": 2, "numCores": 1, "tags": ["part"]},
    }
    pilot.submit(Jobs().add_std(job))
    wait_until((wd / "runs").exists, "a task runs on both parts")
    (wd / "go").touch()
    pilot.wait4all()
    assert (wd / "where").read_text() == "own,own\n"
    assert set(pilot.info_parsed("wide")["wide"].nodes) == {"own"}
    second.send_signal(signal.SIGTERM)
    assert second.wait(PATIENCE_S) == 0
    wait_until(lambda: cores(pilot) == 2, "the second part has left, and no other")
    first.send_signal(signal.SIGTERM)
    assert first.wait(PATIENCE_S) == 0


def test_no_pilot_there_is_exit_code_3(joining: Joining) -> None:
    assert joining.join("n:1").wait(PATIENCE_S) == 3


@pytest.mark.parametrize("pilot", [["--node-lost", "1"]], indirect=True)
def test_a_joined_node_whose_name_was_taken_while_it_was_silent_comes_again_under_another(
    pilot: LocalManager, joining: Joining, wait_until: Wait
) -> None:
    silent = joining.join("n2:2")
    wait_until(lambda: cores(pilot) == 3, "it has joined")
    silent.send_signal(signal.SIGSTOP)
    try:
        wait_until(lambda: cores(pilot) == 1, "it has left")
        joining.join("n2:4")
        wait_until(lambda: cores(pilot) == 5, "another has its name")
    finally:
        silent.send_signal(signal.SIGCONT)
    wait_until(lambda: cores(pilot) == 7, "both serve the pilot")


@pytest.mark.parametrize("name", ["n2", "own"])
def test_joined_nodes_are_known_to_a_resumed_manager(wd: Path, joining: Joining, wait_until: Wait, name: str) -> None:
    """The manager is killed; what runs on the joined node goes on, and counts. Also on a part of the pilot's own host."""
    first = joining.start("service", "--wd", ".", "--nodes", "own:1")
    wait_until(lambda: list(wd.glob(".qcg*/connection.json")), "the pilot")
    client = Manager(str(wd), {"log_file": "/dev/null"})
    joining.join(f"{name}:2")
    wait_until(lambda: cores(client) == 3, "the node to join")
    client.submit(work("w", 6, 0.6))
    wait_until(lambda: (wd / "where").exists() and where(wd).count(("w", name)) >= 2, "tasks there")
    client.cleanup()
    first.kill()
    first.wait()
    (file,) = wd.glob(".qcg*/connection.json")
    before = file.read_text()
    joining.start("service", "--resume", ".", "--nodes", "own:1")
    wait_until(lambda: file.read_text() != before, "the new manager")
    again = Manager(str(wd), {"log_file": "/dev/null"})
    assert again.wait4("w") == {"w": "SUCCEED"}
    assert cores(again) == 3
    assert len(where(wd)) == 6, "nothing ran twice"
    again.finish()
    again.cleanup()


def test_a_governor_waits_for_the_nodes_of_its_partitions(wd: Path, joining: Joining, wait_until: Wait) -> None:
    """Old batch scripts start one manager with --governor, and others with --parent."""
    governor = joining.start("service", "--wd", ".", "--governor", "--slurm-partition-nodes", "1")
    wait_until(lambda: list(wd.glob(".qcg*/connection.json")), "the governor")
    client = Manager(str(wd), {"log_file": "/dev/null"})
    client.submit(work("w", 10))
    assert client.status(["w"])["jobs"]["w"]["data"]["status"] == "QUEUED"
    partitions = [joining.start("service", "--parent", ".", "--nodes", f"p{number}:1") for number in range(2)]
    assert client.wait4("w") == {"w": "SUCCEED"}
    assert {node for _, node in where(wd)} == {"p0", "p1"}
    assert client.info(["w"], withChilds=True)["jobs"]["w"]["data"]["iterations"]["finished"] == 10
    client.submit(work("long", 4, 100))
    wait_until(lambda: ("long", "p0") in where(wd), "it to run")
    client.cancel(["long"])
    assert client.wait4("long") == {"long": "CANCELED"}
    client.finish()
    client.cleanup()
    assert [process.wait(PATIENCE_S) for process in (governor, *partitions)] == [0, 0, 0]
