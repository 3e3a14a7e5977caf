"""A clock that is set, and processes that are stopped for a while, are nobody's failure and start nothing a second time."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import psutil
import pytest
from patience import PATIENCE_S
from real_pilot import Pilot, Work, faked_clock, remote_nodes, submit, wait_for

Wait = Callable[..., None]
NODE_LOST_S = 1.0
LOST = ("--node-lost", str(NODE_LOST_S), "--kill-grace", "1")


@contextmanager
def frozen(*processes: int | psutil.Process) -> Iterator[None]:
    """They are stopped meanwhile; killed ones stay away."""
    everyone = [psutil.Process(each) if isinstance(each, int) else each for each in processes]
    for each in everyone:
        each.suspend()
    try:
        yield
    finally:
        for each in everyone:
            with suppress(psutil.NoSuchProcess):
                each.resume()


def pass_by(seconds: float) -> None:
    """How long something lasts is what these tests are about; nothing is waited for here."""
    time.sleep(seconds)


SPREAD: dict[str, Any] = {"numNodes": {"exact": 2}, "numCores": {"exact": 1}}


def agents_up(pilot: Pilot) -> int:
    log = (pilot.aux / "service.log").read_text()
    return log.count("agent.ready")


def test_nothing_but_the_calendar_is_other_with_a_faked_clock(wd: Path) -> None:
    """Else what these tests find is not the pilot's: a sleep that is an error ends a worker process."""
    clock, environ = faked_clock(wd)
    clock.write_text("+3600")
    script = "import time; a = time.monotonic(); time.sleep(0.1); print(time.time(), time.monotonic() - a >= 0.1)"
    done = subprocess.run([sys.executable, "-c", script], env=environ, capture_output=True, text=True, check=False)
    assert done.stderr == ""
    calendar, has_slept = done.stdout.split()
    assert float(calendar) - time.time() == pytest.approx(3600, abs=PATIENCE_S)
    assert has_slept == "True"


@pytest.mark.parametrize("shift_s", [3600, -3600])
def test_a_clock_that_is_set_while_tasks_run_is_not_noticed(wd: Path, wait_until: Wait, shift_s: int) -> None:
    """No agent counts as silent, nothing is started again, and run times are what they were."""
    clock, environ = faked_clock(wd)
    pilot = Pilot(wd, "--nodes", "3,2", "--heartbeat", "0.2", "--kill-grace", "1", environ=environ)
    wait_until(lambda: agents_up(pilot) == 2, "both nodes can be had")
    work = Work(wd)
    submit(pilot, work.job("one", 2), work.job("spread", 1, **SPREAD))
    wait_until(lambda: sum(work.starts.values()) == 3, "the tasks run")
    clock.write_text(f"{shift_s:+d}")
    submit(pilot, {"name": "later", "execution": {"exec": "sleep", "args": ["1"]}, "resources": {"numCores": 1}})
    assert wait_for(pilot, "later") == {"later": "SUCCEED"}
    work.let_go()
    assert wait_for(pilot, "one", "spread") == {"one": "SUCCEED", "spread": "SUCCEED"}
    assert pilot.finish() == 0
    assert work.starts == work.ends == Counter(["one:0", "one:1", "spread:0"])
    for line in (pilot.aux / "jobs.report").read_text().splitlines():
        entry = json.loads(line)
        times = [datetime.fromisoformat(step["date"]) for step in entry["history"]]
        assert times == sorted(times), entry
        assert times[-1] - times[0] < timedelta(minutes=10), entry
        if "rtime" in entry["runtime"]:
            ran = datetime.strptime(entry["runtime"]["rtime"].partition(".")[0], "%H:%M:%S")
            assert ran - datetime(1900, 1, 1) < timedelta(minutes=10), entry


@pytest.mark.parametrize("are_remote", [False, True])
def test_a_manager_that_was_stopped_has_lost_no_agent(wd: Path, wait_until: Wait, are_remote: bool) -> None:
    """What agents said meanwhile lies in its sockets when it goes on: it is the one that was not there."""
    options, environ = remote_nodes(wd) if are_remote else ([], None)
    pilot = Pilot(wd, "--nodes", "3,2", *LOST, *options, environ=environ)
    wait_until(lambda: agents_up(pilot) == 2, "both nodes can be had")
    work = Work(wd)
    submit(pilot, work.job("one", 2), work.job("spread", 1, **SPREAD))
    wait_until(lambda: sum(work.starts.values()) == 3, "the tasks run")
    with frozen(pilot.process.pid):
        pass_by(2 * NODE_LOST_S)
    submit(pilot, work.job("short", 3, waits=False))
    assert wait_for(pilot, "short") == {"short": "SUCCEED"}
    work.let_go()
    assert wait_for(pilot, "one", "spread") == {"one": "SUCCEED", "spread": "SUCCEED"}
    assert pilot.finish() == 0
    assert set(work.starts.values()) == {1}
    assert "agent.lost" not in (pilot.aux / "service.log").read_text().partition("service.stopping")[0]


def test_a_manager_that_was_stopped_over_the_time_for_starting_goes_on(wd: Path, wait_until: Wait) -> None:
    """Its agents have come: they are not too few because nobody has listened to them."""
    pilot = Pilot(wd, "--nodes", "2,2", "--nl-init-timeout", "6", *LOST)
    wait_until(lambda: agents_up(pilot) == 2, "the agents are there")
    with frozen(pilot.process.pid):
        pass_by(6)
    submit(pilot, Work(wd).job("short", 4, waits=False))
    assert wait_for(pilot, "short") == {"short": "SUCCEED"}
    assert pilot.finish() == 0


def test_agents_that_are_silent_when_the_time_for_starting_is_over_have_come(wd: Path, wait_until: Wait) -> None:
    pilot = Pilot(wd, "--nodes", "2", "--nl-init-timeout", "6", *LOST)
    wait_until(lambda: agents_up(pilot) == 1, "the agent is there")
    with frozen(*pilot.agents()):
        pass_by(6 + NODE_LOST_S)
    submit(pilot, Work(wd).job("short", 4, waits=False))
    assert wait_for(pilot, "short") == {"short": "SUCCEED"}
    assert pilot.finish() == 0


@pytest.mark.parametrize("part", ["agent", "workers", "both"])
def test_an_agent_of_this_host_that_was_stopped_has_lost_nothing(wd: Path, wait_until: Wait, part: str) -> None:
    """Its process lives: what it has stays its own, however long nothing is heard of it, and is run once."""
    pilot = Pilot(wd, "--nodes", "2,2", *LOST)
    wait_until(lambda: agents_up(pilot) == 2, "both nodes can be had")
    work = Work(wd)
    submit(pilot, work.job("spread", 1, **SPREAD), work.job("one", 2))
    wait_until(lambda: sum(work.starts.values()) == 3, "the tasks run")
    submit(pilot, work.job("short", 50, waits=False))
    victim = pilot.agents()[0]
    stopped = {"agent": [victim], "workers": victim.children(), "both": [victim, *victim.children()]}[part]
    with frozen(*stopped):
        pass_by(2.5 * NODE_LOST_S)
    work.let_go()
    assert set(wait_for(pilot, "spread", "one", "short").values()) == {"SUCCEED"}
    assert pilot.finish() == 0
    assert set(work.starts.values()) == set(work.ends.values()) == {1}


def test_an_agent_elsewhere_that_was_stopped_starts_nothing_that_is_no_longer_its_own(
    wd: Path, wait_until: Wait
) -> None:
    """It is given up, and what it had been given is run by others. When it goes on it starts none of that."""
    options, environ = remote_nodes(wd)
    pilot = Pilot(wd, "--nodes", "2,2", *LOST, *options, environ=environ)
    wait_until(lambda: agents_up(pilot) == 2, "both nodes can be had")
    work = Work(wd)
    submit(pilot, work.job("short", 1000, seconds=0.02))
    wait_until(lambda: len(work.ends) > 50, "some have been run")
    victim = pilot.agents()[0]
    with frozen(victim, *victim.children()):
        wait_until(lambda: "agent.lost" in (pilot.aux / "service.log").read_text(), "it is given up")
        assert wait_for(pilot, "short") == {"short": "SUCCEED"}
        assert len(work.ends) == 1000
        before = work.starts
    wait_until(lambda: agents_up(pilot) == 3, "it is back")
    assert pilot.finish() == 0
    assert work.starts == before


def test_an_agent_that_stays_stopped_is_replaced_in_the_end(wd: Path, wait_until: Wait) -> None:
    """... after as long as agents wait for a manager; what it ran is stopped first."""
    pilot = Pilot(wd, "--nodes", "1", "--manager-wait", "1", *LOST)
    wait_until(lambda: agents_up(pilot) == 1, "the agent is there")
    work = Work(wd)
    submit(pilot, work.job("one", 1))
    wait_until(lambda: work.starts, "the task runs")
    pilot.agents()[0].suspend()
    wait_until(lambda: sum(work.starts.values()) == 2, "it runs again")
    work.let_go()
    assert wait_for(pilot, "one") == {"one": "SUCCEED"}
    assert pilot.finish() == 0
    assert work.ends == {"one:0": 1}


def test_a_joined_node_that_was_stopped_joins_again_and_outlives_the_manager(wd: Path, wait_until: Wait) -> None:
    """It left as one node and is there as another: what is known of the first must not be done to the second."""
    pilot = Pilot(wd, "--nodes", "own:1", *LOST)
    words = [sys.executable, "-m", "pilotfish", "agent", "--connect", str(pilot.aux / "connection.json")]
    joined = subprocess.Popen([*words, "--nodes", "joined:1"])
    wait_until(lambda: agents_up(pilot) == 2, "both nodes can be had")
    joined.send_signal(signal.SIGSTOP)
    wait_until(lambda: "node.left" in (pilot.aux / "service.log").read_text(), "it is missed")
    joined.send_signal(signal.SIGCONT)
    wait_until(lambda: agents_up(pilot) == 3, "it joins again")
    work = Work(wd)
    submit(pilot, work.job("one", 2))
    wait_until(lambda: sum(work.starts.values()) == 2, "tasks run on both")
    pilot.kill()
    pilot.resume()
    wait_until(lambda: agents_up(pilot) == 5, "both are there again")
    work.let_go()
    assert wait_for(pilot, "one") == {"one": "SUCCEED"}
    assert pilot.finish() == 0
    assert joined.wait(60) == 0
    assert set(work.starts.values()) == {1}


def test_one_large_request_costs_no_agent(wd: Path, wait_until: Wait) -> None:
    """However long the manager has to do with it, and be it for longer than an agent may be silent."""
    pilot = Pilot(wd, "--nodes", "2", "--node-lost", "0.3", "--heartbeat", "0.05")
    wait_until(lambda: agents_up(pilot) == 1, "the agent is there")
    submit(pilot, *[{"name": f"j{number}", "execution": {"exec": "true"}} for number in range(20_000)])
    assert wait_for(pilot, "j0") == {"j0": "SUCCEED"}
    log = (pilot.aux / "service.log").read_text()
    pilot.process.send_signal(signal.SIGTERM)
    assert pilot.process.wait(PATIENCE_S) == 128 + signal.SIGTERM
    assert "agent.lost" not in log
