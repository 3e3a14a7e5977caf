"""Nodes that fail under a pilot in a real Slurm job: agent killed, node downed, cable pulled, manager killed."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from emulated import Slurm
from patience import PATIENCE_S, wait_until

from pilotfish.api.manager import Manager

FAST = ("--heartbeat", "0.5", "--node-lost", "3")


class BatchPilot:
    """A service in a batch job over all nodes, and a client that reaches it through the files they share."""

    def __init__(self, slurm: Slurm, wd: Path, *options: str, script: str = "exec pilotfish service --wd . {options}"):
        self.slurm = slurm
        self.wd = wd
        nodes = len(slurm.node_names)
        self.job = slurm.submit(
            script.format(options=" ".join([*FAST, *options])),
            wd,
            f"--nodes={nodes}",
            "--ntasks-per-node=2",
            "--no-kill",
        )
        wait_until(lambda: list(wd.glob(".qcg*/connection.json")), "connection file")
        self.aux = next(iter(wd.glob(".qcg*/connection.json"))).parent
        self.client = Manager(f"ipc://{self.aux}/requests.ipc", {"log_file": "/dev/null"})
        wait_until(lambda: self.ready_nodes() == nodes, f"all agents; {self.log()}")

    def ready_nodes(self) -> int:
        return int(self.client.system_status()["Resources"]["ReadyNodes"])

    def log(self) -> str:
        return (self.aux / "service.log").read_text()

    def output(self) -> str:
        return (self.wd / f"{self.job}.out").read_text()

    def agent_pid(self, node: str) -> str:
        """Process id, as the node counts, of the agent of a node; its hands came later."""
        return self.slurm.hosts[node].run("pgrep", "--oldest", "--full", f"agent.*--node {node} ").strip()

    def submit_tasks(self, name: str, count: int, seconds: float | str) -> None:
        """Tasks that note their host when they start and when they end."""
        line = (
            f"echo start $it $(hostname) >>{self.wd}/trace; sleep {seconds}; echo end $it $(hostname) >>{self.wd}/trace"
        )
        job = {"name": name, "iteration": {"stop": count}, "execution": {"script": line.replace("$it", "${it}")}}
        self.client.send_request({"request": "submit", "jobs": [job]})

    def trace(self, what: str) -> list[tuple[int, str]]:
        """(iteration, host) of every start or end so far."""
        file = self.wd / "trace"
        lines = [line.split() for line in file.read_text().splitlines()] if file.exists() else []
        return [(int(it), host) for word, it, host in lines if word == what]

    def running_on(self, node: str) -> set[int]:
        started = {it for it, host in self.trace("start") if host == node}
        return started - {it for it, host in self.trace("end") if host == node}

    def finish(self) -> dict[str, Any]:
        """End the pilot; the final status."""
        self.client.wait4all(PATIENCE_S)
        self.client.finish()
        assert self.slurm.wait_for_end(self.job) in ("COMPLETED", "NODE_FAIL"), (
            self.wd / f"{self.job}.out"
        ).read_text()
        status: dict[str, Any] = json.loads((self.aux / "final_status.json").read_text())
        return status


@pytest.fixture(autouse=True)
def no_job_left(request: pytest.FixtureRequest) -> Iterator[None]:
    """The cluster is shared: end what a test that failed has left running."""
    yield
    if "slurm" in request.fixturenames:
        slurm = request.getfixturevalue("slurm")
        slurm.run("scancel", "--user=root")
        wait_until(lambda: not slurm.run("squeue", "--noheader").strip(), "an empty queue")


def test_a_killed_agent_is_found_and_replaced_and_its_tasks_run_again(slurm: Slurm, wd: Path) -> None:
    pilot = BatchPilot(slurm, wd)
    pilot.submit_tasks("work", 60, 1)
    wait_until(lambda: len(pilot.running_on("node3")) == 2, "tasks on node3")
    hit = pilot.running_on("node3")
    slurm.hosts["node3"].run("kill", "-KILL", pilot.agent_pid("node3"))
    wait_until(lambda: "agent.lost" in pilot.log(), "found")
    status = pilot.finish()
    assert status["IterationStats"]["FinishedIterations"] == 60
    starts = Counter(it for it, _ in pilot.trace("start"))
    assert {it for it, count in starts.items() if count > 1} <= hit
    assert max(starts.values()) <= 2
    assert "node3" in {host for _, host in pilot.trace("start")[-8:]}, "the node is used again"


def test_a_node_that_is_downed_loses_only_its_own_tasks(slurm: Slurm, wd: Path) -> None:
    pilot = BatchPilot(slurm, wd)
    pilot.submit_tasks("work", 24, 1)
    wait_until(lambda: len(pilot.running_on("node4")) == 2, "tasks on node4")
    hit = pilot.running_on("node4")
    slurm.run("scontrol", "update", "nodename=node4", "state=down", "reason=test")
    try:
        wait_until(lambda: "agent.lost" in pilot.log(), "found")
        status = pilot.finish()
    finally:
        wait_until(lambda: slurm.idle_nodes() == 4, "node4 back")
    assert status["IterationStats"]["FinishedIterations"] == 24
    starts = Counter(it for it, _ in pilot.trace("start"))
    assert {it for it, count in starts.items() if count > 1} <= hit
    assert {it for it, _ in pilot.trace("end")} == set(range(24))


def test_a_node_that_was_cut_off_is_used_again_and_what_it_finished_counts(networked_slurm: Slurm, wd: Path) -> None:
    pilot = BatchPilot(networked_slurm, wd)
    pilot.submit_tasks("work", 6, 5)
    wait_until(lambda: len(pilot.running_on("node3")) == 2, "tasks on node3")
    hit = pilot.running_on("node3")
    pilot.submit_tasks("more", 6, 5)
    networked_slurm.hosts.cut("node3")
    wait_until(lambda: "agent.lost" in pilot.log(), "found")
    wait_until(lambda: {it for it, host in pilot.trace("end") if host == "node3"} == hit, "it goes on without us")
    networked_slurm.hosts.mend("node3")
    wait_until(lambda: pilot.log().count("agent.ready node=node3") == 2, "back")
    status = pilot.finish()
    assert status["IterationStats"]["FinishedIterations"] == 12
    report = [json.loads(line) for line in (pilot.aux / "jobs.report").read_text().splitlines()]
    places = {entry["name"]: json.dumps(entry) for entry in report}
    assert all("node3" in places[f"work:{it}"] for it in hit), [places[f"work:{it}"] for it in hit] + [pilot.log()]


def test_what_runs_on_a_node_that_was_cut_off_goes_on_if_it_was_not_started_elsewhere(
    networked_slurm: Slurm, wd: Path
) -> None:
    """The other nodes are full, so what was lost waits; each task starts once."""
    pilot = BatchPilot(networked_slurm, wd)
    pilot.submit_tasks("work", 6, f"0; while [ ! -e {wd}/go ]; do sleep 0.1; done")
    wait_until(lambda: len(pilot.trace("start")) == 6, "all tasks")
    hit = pilot.running_on("node3")
    networked_slurm.hosts.cut("node3")
    wait_until(lambda: "agent.lost" in pilot.log(), "found")
    networked_slurm.hosts.mend("node3")
    wait_until(lambda: pilot.log().count("agent.ready node=node3") == 2, "back")
    (wd / "go").touch()
    status = pilot.finish()
    assert status["IterationStats"]["FinishedIterations"] == 6
    assert len(pilot.trace("start")) == 6
    assert {it for it, host in pilot.trace("end") if host == "node3"} == hit


def test_agents_find_a_resumed_manager_and_no_task_is_lost_or_doubled(slurm: Slurm, wd: Path) -> None:
    script = "pilotfish service --wd . {options} & echo $! >pid; wait; pilotfish service --resume . {options}"
    pilot = BatchPilot(slurm, wd, script=script)
    pilot.submit_tasks("work", 24, 1)
    wait_until(lambda: len(pilot.trace("start")) >= 8, "tasks run")
    slurm.hosts["node1"].run("kill", "-KILL", (wd / "pid").read_text().strip())
    wait_until(
        lambda: pilot.log().count("agent.ready") == 8, lambda: f"all agents back; {pilot.log()} {pilot.output()}", 20
    )
    pilot.client = Manager(f"ipc://{pilot.aux}/requests.ipc", {"log_file": "/dev/null"})
    status = pilot.finish()
    assert status["IterationStats"]["FinishedIterations"] == 24
    assert Counter(it for it, _ in pilot.trace("start")) == dict.fromkeys(range(24), 1)
