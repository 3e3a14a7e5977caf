"""Tasks over several (virtual) nodes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from process_state import has_ended

from pilotfish import Jobs, LocalManager


def test_what_is_left_on_the_second_node_ends_with_the_task(wd: Path, wait_until: Callable[..., None]) -> None:
    """A process that a launcher has put on another node has no bond to the agent that started the task but its mark."""
    away = "setsid env -u PILOTFISH_AGENT_ID -u QCG_PM_STEP_ID sh -c 'echo $$$$$$$$ > pid; exec sleep 600'"
    rank = f"{away} & until [ -s pid ]; do :; done"
    jobs = Jobs().add(name="spread", script=rank, numNodes={"exact": 2}, numCores={"exact": 1})
    with LocalManager(["--wd", str(wd), "--nodes", "2,2"]) as pilot:
        pilot.submit(jobs)
        assert pilot.wait4("spread") == {"spread": "SUCCEED"}
        pid = int((wd / "pid").read_text())
        wait_until(lambda: has_ended(pid), "the process on the second node is gone")


def test_a_task_over_two_nodes_takes_cores_of_both(wd: Path) -> None:
    script = "echo $$$$QCG_PM_NODELIST $$$$QCG_PM_TASKS_PER_NODE $$$$(cat $$$$PILOTFISH_HOSTFILE) > seen"
    jobs = Jobs().add(name="spread", script=script, numCores={"exact": 3})
    with LocalManager(["--wd", str(wd), "--nodes", "a:2,b:2"]) as pilot:
        pilot.submit(jobs)
        assert pilot.wait4("spread") == {"spread": "SUCCEED"}
    nodes, counts, *hosts = (wd / "seen").read_text().split()
    assert (nodes, counts, hosts) in [("a,b", "2,1", ["a", "a", "b"]), ("b,a", "2,1", ["b", "b", "a"])]
