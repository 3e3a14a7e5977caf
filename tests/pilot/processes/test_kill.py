"""Nothing is lost when anything is killed: real processes, real SIGKILL, at random moments."""

from __future__ import annotations

import random
import signal
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest
from patience import PATIENCE_S, THOROUGH
from process_state import has_ended, parent_of
from real_pilot import Pilot

TASKS, KILLS = (5000, 6) if THOROUGH else (1500, 3)


def _submit(pilot: Pilot, jobs: list[dict[str, Any]]) -> None:
    client = pilot.client()
    client.send_request({"request": "submit", "jobs": jobs})
    client.cleanup()


def _finished(pilot: Pilot) -> int:
    client = pilot.client()
    count = client.system_status()["IterationStats"]["FinishedIterations"]
    client.cleanup()
    return int(count)


def _text(path: Path) -> str:
    """What is in the file by now; the shell makes it before it writes."""
    return path.read_text() if path.exists() else ""


@pytest.mark.parametrize("seed", [1, 2] if THOROUGH else [1])
def test_a_manager_killed_again_and_again_loses_and_doubles_nothing(
    wd: Path, wait_until: Callable[..., None], seed: int
) -> None:
    """Each task writes its name with O_APPEND; the manager is killed at random moments."""
    rng = random.Random(seed)
    pilot = Pilot(wd, "--nodes", "2")
    script = f"echo $$$$PILOTFISH_TASK >> {wd}/ran"
    _submit(
        pilot,
        [
            {"name": "many", "execution": {"script": script}, "iteration": {"stop": TASKS - 100}},
            *[{"name": f"one-{i}", "execution": {"script": script}} for i in range(100)],
        ],
    )
    for _ in range(KILLS):
        target = min(_finished(pilot) + rng.randrange(50, 500), TASKS)  # they may be faster than we look
        wait_until(lambda goal=target: _finished(pilot) >= goal, "tasks go on after a resume")
        pilot.kill()
        pilot.resume()
    client = pilot.client()
    client.wait4all(PATIENCE_S)
    stats = client.system_status()["IterationStats"]
    client.cleanup()
    assert stats["TotalIterations"] == stats["FinishedIterations"] == TASKS
    assert pilot.finish() == 0
    endings = pilot.endings()
    assert set(endings.values()) == {1}
    assert len(endings) == TASKS + 1  # and the iteration job itself
    # The agent lived on all the time, so no task ran twice either.
    ran = Counter((wd / "ran").read_text().split())
    assert len(ran) == TASKS
    assert set(ran.values()) == {1}


def test_an_agent_and_its_workers_killed_again_and_again_lose_and_double_no_result(
    wd: Path, wait_until: Callable[..., None]
) -> None:
    """The agent or one of its workers is killed at random moments. What ran at that moment runs again."""
    rng = random.Random(3)
    pilot = Pilot(wd, "--nodes", "2", "--crash-limit", "100")
    _submit(pilot, [{"name": "many", "execution": {"exec": "true"}, "iteration": {"stop": TASKS}}])
    for _ in range(KILLS):
        target = min(_finished(pilot) + rng.randrange(50, 200), TASKS)
        wait_until(lambda goal=target: _finished(pilot) >= goal, "tasks go on")
        with suppress(psutil.NoSuchProcess):  # it may be dying of the kill before
            processes = [each for agent in pilot.agents() for each in (agent, *agent.children())]
            for victim in rng.sample(processes, min(1, len(processes))):
                victim.kill()
    client = pilot.client()
    client.wait4all(PATIENCE_S)
    stats = client.system_status()["IterationStats"]
    client.cleanup()
    assert stats["TotalIterations"] == stats["FinishedIterations"] == TASKS
    assert pilot.finish() == 0
    endings = pilot.endings()
    assert set(endings.values()) == {1}
    assert len(endings) == TASKS + 1


def test_a_running_task_is_adopted_not_started_again(wd: Path, wait_until: Callable[..., None]) -> None:
    pilot = Pilot(wd, "--nodes", "1")
    script = f"echo started >> {wd}/ran; while [ ! -e {wd}/go ]; do sleep 0.05; done"
    _submit(pilot, [{"name": "long", "execution": {"script": script}}])
    wait_until(lambda: _text(wd / "ran"), "the task runs")
    pilot.kill()
    pilot.resume()
    client = pilot.client()
    wait_until(lambda: client.status("long")["jobs"]["long"]["data"]["status"] == "EXECUTING", "the task is adopted")
    (wd / "go").touch()
    assert client.wait4("long", PATIENCE_S) == {"long": "SUCCEED"}
    client.cleanup()
    assert pilot.finish() == 0
    assert (wd / "ran").read_text() == "started\n"


@pytest.mark.parametrize("victim", ["agent", "worker with the task", "worker without"])
def test_tasks_of_a_killed_agent_run_again_and_its_left_overs_arehas_ended(
    wd: Path, wait_until: Callable[..., None], victim: str
) -> None:
    """An agent is all of its processes: without one of them the others go too."""
    pilot = Pilot(wd, "--nodes", "1")
    script = f"echo $$$$$$$$ >> {wd}/pids; while [ ! -e {wd}/go ]; do sleep 0.05; done"
    _submit(pilot, [{"name": "long", "execution": {"script": script}}])
    wait_until(lambda: _text(wd / "pids"), "the task runs")
    (agent,) = pilot.agents()
    task = psutil.Process(int((wd / "pids").read_text()))
    worker_of_task = task.parent()
    assert worker_of_task is not None
    processes = agent.children()
    others = [worker for worker in processes if worker.pid != task.ppid()]
    {"agent": agent, "worker with the task": worker_of_task, "worker without": (others or processes)[0]}[victim].kill()
    wait_until(lambda: len((wd / "pids").read_text().split()) == 2, "it is started again")
    wait_until(lambda: all(has_ended(each) for each in (agent, *processes)), "the whole agent is gone")
    first, second = map(int, (wd / "pids").read_text().split())
    assert has_ended(first)
    assert psutil.pid_exists(second)
    (wd / "go").touch()
    client = pilot.client()
    assert client.wait4("long", PATIENCE_S) == {"long": "SUCCEED"}
    client.cleanup()
    assert pilot.finish() == 0


@pytest.mark.parametrize("dead", ["an agent", "all"])
def test_tasks_of_a_killed_agent_do_not_run_beside_their_second_run_on_another_node(
    wd: Path, wait_until: Callable[..., None], dead: str
) -> None:
    """There are nodes whose agents have nothing to clear away, and could begin at once."""
    pilot = Pilot(wd, "--nodes", "1,1,1,1")
    log = pilot.aux / "service.log"
    wait_until(lambda: _text(log).count("agent.ready") == 4, "all nodes can be had")
    look = f"for p in $$$$(cat {wd}/pids); do grep '^State:.[RSD]' /proc/$$$$p/status >> {wd}/both; done"
    script = f"touch {wd}/pids; {look}; echo $$$$$$$$ >> {wd}/pids; while [ ! -e {wd}/go ]; do sleep 0.05; done"
    _submit(pilot, [{"name": "long", "execution": {"script": script}}])
    wait_until(lambda: _text(wd / "pids"), "the task runs")
    its_agent = parent_of(parent_of(int(_text(wd / "pids"))))
    agents = pilot.agents()
    assert its_agent in [agent.pid for agent in agents]
    if dead == "all":
        pilot.kill()
    for agent in agents:
        if dead == "all" or agent.pid == its_agent:
            agent.kill()
    if dead == "all":
        pilot.resume()
    wait_until(lambda: len(_text(wd / "pids").split()) == 2, "it is started again")
    (wd / "go").touch()
    client = pilot.client()
    assert client.wait4("long", PATIENCE_S) == {"long": "SUCCEED"}
    client.cleanup()
    assert pilot.finish() == 0
    assert _text(wd / "both") == ""


def test_a_task_that_takes_its_agent_down_each_time_has_failed_with_that_reason(wd: Path) -> None:
    pilot = Pilot(wd, "--nodes", "1", "--crash-limit", "2")
    # The task's parent is the agent; give the notice of the start time to get out first.
    script = "sleep 0.2; kill -9 $$$$PPID; sleep 60"
    _submit(pilot, [{"name": "deadly", "execution": {"script": script}}])
    client = pilot.client()
    assert client.wait4("deadly", PATIENCE_S) == {"deadly": "FAILED"}
    assert client.info_parsed("deadly")["deadly"].messages == "its agent was lost 2 times while it ran; the limit is 2"
    client.cleanup()
    assert pilot.finish() == 0


def test_manager_and_agent_killed_together_run_again_what_ran(wd: Path, wait_until: Callable[..., None]) -> None:
    pilot = Pilot(wd, "--nodes", "1")
    script = f"echo started >> {wd}/ran; while [ ! -e {wd}/go ]; do sleep 0.05; done"
    _submit(pilot, [{"name": "long", "execution": {"script": script}}])
    wait_until(lambda: _text(wd / "ran"), "the task runs")
    (agent,) = pilot.agents()
    pilot.kill()
    agent.kill()
    pilot.resume()
    wait_until(lambda: (wd / "ran").read_text().count("started") == 2, "it is started again")
    (wd / "go").touch()
    client = pilot.client()
    assert client.wait4("long", PATIENCE_S) == {"long": "SUCCEED"}
    client.cleanup()
    assert pilot.finish() == 0


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_ends_manager_agents_and_tasks_and_the_work_goes_on_with_resume(
    wd: Path, wait_until: Callable[..., None], number: signal.Signals, code: int
) -> None:
    pilot = Pilot(wd, "--nodes", "1")
    _submit(pilot, [{"name": "a", "execution": {"script": f"touch {wd}/runs; [ -e {wd}/go ] || sleep 100"}}])
    wait_until(lambda: (wd / "runs").exists(), "the task runs")
    pilot.process.send_signal(number)
    assert pilot.process.wait(PATIENCE_S) == code
    assert pilot.agents() == []
    (wd / "go").touch()
    pilot.resume()
    client = pilot.client()
    assert client.wait4("a", PATIENCE_S) == {"a": "SUCCEED"}
    client.cleanup()
    assert pilot.finish() == 0


@pytest.mark.parametrize("nodes", ["n0:1", "other:2,third:1", "n0:2,n1:2"])
def test_a_pilot_goes_on_with_other_nodes_than_before(wd: Path, wait_until: Callable[..., None], nodes: str) -> None:
    """As in the next allocation: fewer, other or larger nodes. What was running is run again, all is reported once."""
    pilot = Pilot(wd, "--nodes", "n0:1,n1:1", "--kill-grace", "1")
    script = f"echo $$$$PILOTFISH_TASK >> {wd}/ran; while [ ! -e {wd}/go ]; do sleep 0.02; done"
    _submit(pilot, [{"name": "a", "execution": {"exec": "true"}, "iteration": {"stop": 50}}])
    wait_until(lambda: _finished(pilot) == 50, "the short tasks have ended")
    _submit(pilot, [{"name": "b", "execution": {"script": script}, "iteration": {"stop": 20}}])
    wait_until(lambda: _text(wd / "ran"), "a long task runs")
    old_agents = pilot.agents()
    pilot.kill()
    pilot.options = ("--nodes", nodes)
    pilot.resume()
    (wd / "go").touch()
    wait_until(lambda: _finished(pilot) == 70, "all have ended")
    names = [*(f"a:{number}" for number in range(50)), *(f"b:{number}" for number in range(20)), "a", "b"]
    assert pilot.endings() == Counter(names)
    kept = {node.partition(":")[0] for node in nodes.split(",")} if nodes == "n0:1" else set()
    wait_until(lambda: sum(not has_ended(agent) for agent in old_agents) == len(kept), "agents of other nodes are gone")
    assert pilot.finish() == 0


def test_a_resume_rewrites_a_journal_that_is_mostly_of_removed_jobs(wd: Path, wait_until: Callable[..., None]) -> None:
    """What runs is adopted under its old number, and the report still has the endings of the removed ones, once."""
    pilot = Pilot(wd, "--nodes", "1")
    script = f"echo started >> {wd}/ran; while [ ! -e {wd}/go ]; do sleep 0.05; done"
    client = pilot.client()
    _submit(pilot, [{"name": "gone", "execution": {"exec": "true"}, "iteration": {"stop": 500}}])
    client.wait4("gone", PATIENCE_S)
    _submit(pilot, [{"name": "long", "execution": {"script": script}}])
    wait_until(lambda: _text(wd / "ran"), "the task runs")
    client.remove("gone")
    client.cleanup()
    journal = pilot.aux / "journal.pilotfish"
    before = journal.stat().st_size
    for _ in range(2):  # the second time there is nothing to be rewritten
        pilot.kill()
        pilot.resume()
        assert journal.stat().st_size < before / 10
    (wd / "go").touch()
    client = pilot.client()
    assert client.wait4("long", PATIENCE_S) == {"long": "SUCCEED"}
    assert client.list().keys() == {"long"}
    _submit(pilot, [{"name": "gone", "execution": {"exec": "true"}}])
    client.wait4("gone", PATIENCE_S)
    client.cleanup()
    assert pilot.finish() == 0
    assert (wd / "ran").read_text() == "started\n"
    assert pilot.endings() == Counter(["gone", *(f"gone:{number}" for number in range(500)), "long", "gone"])


class EagerPilot(Pilot):
    """Finds every journal large enough to be rewritten."""

    program = (
        "-c",
        "import pilotfish.pilot.manager.compacting as compacting; compacting.WORTH_BYTES = 0;"
        "from pilotfish.__main__ import main; main()",
    )


def test_a_running_manager_rewrites_a_journal_that_is_mostly_of_removed_jobs(
    wd: Path, wait_until: Callable[..., None]
) -> None:
    pilot = EagerPilot(wd, "--nodes", "1")
    client = pilot.client()
    journal = pilot.aux / "journal.pilotfish"
    for life in range(2):
        _submit(pilot, [{"name": "gone", "execution": {"exec": "true"}, "iteration": {"stop": 500}}])
        _submit(pilot, [{"name": f"kept-{life}", "execution": {"exec": "true"}}])
        client.wait4all(PATIENCE_S)
        before = journal.stat().st_size
        client.remove("gone")
        wait_until(lambda limit=before / 2: journal.stat().st_size < limit, "the journal is rewritten")
    client.cleanup()
    pilot.kill()
    pilot.resume()
    client = pilot.client()
    assert client.list().keys() == {"kept-0", "kept-1"}
    client.cleanup()
    assert pilot.finish() == 0
    names = ["gone", *(f"gone:{number}" for number in range(500))]
    assert pilot.endings() == Counter([*names, *names, "kept-0", "kept-1"])
