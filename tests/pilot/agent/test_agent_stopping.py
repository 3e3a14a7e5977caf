"""How tasks are stopped: wall time, memory, cancelling, the agent's own end. Nothing they started may stay."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
from fake_manager import AGENT, POOL, SUCCESSOR, FakeManager, iterations, processes_with
from patience import PATIENCE_S, wait_until
from process_state import children_of, command_line, has_ended

from pilotfish.pilot.model.ids import TaskKey
from pilotfish.pilot.model.job_spec import Execution
from pilotfish.pilot.wire import frames
from pilotfish.pilot.wire.frames import Cause

LONG = Execution(exec="sleep", args=("60",))


def nothing_left(agent_id: str = AGENT) -> None:
    wait_until(lambda: processes_with(f"PILOTFISH_AGENT_ID={agent_id}") == [], "all processes of the agent are gone")


def when_written(path: Path) -> str:
    wait_until(lambda: path.exists() and path.read_text().endswith("\n"), f"{path} is written")
    return path.read_text()


# --- limits -------------------------------------------------------------------------------------------------------------


def test_the_wall_time_is_enforced(manager: FakeManager) -> None:
    end = manager.run(LONG, wt_s=0.2)
    assert (end.exit_code, end.cause, end.message) == (-15, Cause.WALL_TIME, "wall time limit of 0.2 s reached")
    assert end.ended_s - end.started_s >= 0.2


def test_a_task_that_ignores_sigterm_is_killed_after_the_grace_time(manager: FakeManager) -> None:
    stubborn = Execution(script="trap '' TERM; while :; do sleep 0.05; done")
    end = manager.run(stubborn, wt_s=0.2)
    assert (end.exit_code, end.cause) == (-9, Cause.WALL_TIME)
    assert end.ended_s - end.started_s >= 0.2 + 0.3


def test_wall_times_are_independent_of_each_other(manager: FakeManager) -> None:
    slow, fast, free = manager.start(LONG, wt_s=0.6), manager.start(LONG, wt_s=0.2), manager.start(LONG)
    assert manager.finished(slow).cause is Cause.WALL_TIME
    assert [finished[:3] for finished in manager.heard.finished] == [fast, slow]
    manager.send(frames.Kill([free]))
    assert manager.finished(free).cause is Cause.CANCELED


def test_a_pause_of_the_whole_job_is_not_the_tasks_time(manager: FakeManager) -> None:
    """As a batch system suspends it: all processes stand still, for longer than the limit, and go on."""
    wt_s = 4.0
    key = manager.start(Execution(script="while [ ! -e go ]; do sleep 0.05; done"), wt_s=wt_s)
    manager.started(key)
    agent = psutil.Process(manager.agents[0].pid)
    tree = [agent, *agent.children(recursive=True)]
    for process in tree:
        with suppress(psutil.NoSuchProcess):  # one of the sleeps
            process.suspend()
    time.sleep(wt_s + 0.5)  # how long it stands still is what this is about
    for process in reversed(tree):
        with suppress(psutil.NoSuchProcess):
            process.resume()
    (manager.folder / "go").touch()
    end = manager.finished(key)
    assert (end.exit_code, end.cause, end.message) == (0, Cause.EXITED, "")
    assert end.ended_s - end.started_s > wt_s


def test_a_task_that_is_stopped_alone_still_meets_its_limit(manager: FakeManager) -> None:
    """It may have stopped itself, and it occupies its cores."""
    assert manager.run(Execution(script="kill -STOP $BASHPID"), wt_s=0.3).cause is Cause.WALL_TIME


def test_a_task_that_uses_too_much_memory_is_stopped(manager: FakeManager) -> None:
    hungry = Execution(exec=sys.executable, args=("-c", "import time; x = bytearray(200 << 20); time.sleep(60)"))
    end = manager.run(hungry, grant=manager.grant(mem_bytes=100 << 20))
    assert end.cause is Cause.MEMORY
    assert end.message.startswith("memory limit of 100 MiB exceeded (")


def test_children_count_for_the_memory_limit(manager: FakeManager) -> None:
    child = "import time; x = bytearray(60 << 20); time.sleep(60)"
    task = Execution(script=f'{sys.executable} -c "{child}" & {sys.executable} -c "{child}" & wait')
    assert manager.run(task, grant=manager.grant(mem_bytes=100 << 20)).cause is Cause.MEMORY
    nothing_left()


# --- cancelling ---------------------------------------------------------------------------------------------------------


def test_a_cancelled_task_leaves_no_child_behind(manager: FakeManager) -> None:
    """Children in the group, one that ignores SIGTERM, and one that has left for a session of its own."""
    task = Execution(
        script="sleep 61 & (trap '' TERM; sleep 62; sleep 63) & setsid sleep 64 & (setsid setsid sleep 65 &); echo up; wait",
        stdout="out",
    )
    key = manager.start(task)
    when_written(manager.folder / "out")
    manager.started(key)
    manager.send(frames.Kill([key]))
    end = manager.finished(key)
    assert (end.exit_code, end.cause) == (-15, Cause.CANCELED)
    nothing_left()


def test_strays_of_one_task_are_told_from_those_of_another(manager: FakeManager) -> None:
    task = Execution(script="setsid sleep 60 & echo up; wait", stdout="out-${ncores}")
    first = manager.start(task)
    second = manager.start(task, grant=manager.grant(["1", "2"]))
    when_written(manager.folder / "out-1")
    when_written(manager.folder / "out-2")
    manager.send(frames.Kill([first]))
    manager.finished(first)
    wait_until(lambda: processes_with("PILOTFISH_TASK=job0") == [], "all of the first are gone")
    assert len(processes_with("PILOTFISH_TASK=job1")) == 2
    manager.send(frames.Kill([second]))
    manager.finished(second)


def left_of(file: Path) -> list[int]:
    """Which of the processes whose numbers are in the file still run."""
    return [pid for pid in map(int, when_written(file).split()) if not has_ended(pid)]


UNMARKED = "env -i PATH=$PATH setsid sh -c 'echo $$ >>DIR/pids; exec sleep 66'"
"""Has nothing of the task: not its session, its group, or its variables."""


@pytest.mark.parametrize("start", [f"{UNMARKED} &", f"({UNMARKED} &) ;"], ids=["child", "orphan"])
def test_a_cancelled_task_leaves_nothing_that_has_shed_its_variables(manager: FakeManager, start: str) -> None:
    start = start.replace("DIR", str(manager.folder)).replace("$", "$$")
    key = manager.start(Execution(script=f"{start} sleep 60"))
    assert len(left_of(manager.folder / "pids")) == 1
    manager.send(frames.Kill([key]))
    manager.finished(key)
    wait_until(lambda: left_of(manager.folder / "pids") == [], "it is gone too")


def test_a_daemon_lives_until_its_agent_s_end_when_its_task_has_succeeded(manager: FakeManager) -> None:
    """A task that is cancelled later on the same cores takes nothing of others with it."""
    start = f"({UNMARKED} &)".replace("DIR", str(manager.folder)).replace("$", "$$")
    grant = manager.grant()
    assert manager.run(Execution(script=f"{start}; until [ -s pids ]; do sleep 0.01; done"), grant=grant).exit_code == 0
    key = manager.start(Execution(script="echo up; sleep 60", stdout="out"))
    when_written(manager.folder / "out")
    manager.send(frames.Kill([key]))
    manager.finished(key)
    assert len(left_of(manager.folder / "pids")) == 1
    manager.send(frames.Stop(kill=True))
    ended(manager)
    assert left_of(manager.folder / "pids") == []


def test_processes_that_the_agent_had_before_are_not_a_task_s(tmp_path: Path) -> None:
    """Such as its watcher, which tells the manager when it is gone."""
    with FakeManager(tmp_path) as manager:
        manager.start_agent(before="import subprocess; child = subprocess.Popen(['sleep', '67'])")
        manager.welcome()
        (child,) = [each for each in children_of(manager.agents[0].pid) if command_line(each) == ["sleep", "67"]]
        manager.send(frames.Stop(kill=True))
        manager.until(lambda heard: len(heard.byes) == 1)
        assert child.is_running()
        child.kill()
        assert manager.agents[0].wait(PATIENCE_S) == 0


def test_a_daemon_ends_with_a_worker_process_that_is_killed(manager: FakeManager) -> None:
    start = f"({UNMARKED} &)".replace("DIR", str(manager.folder)).replace("$", "$$")
    assert manager.run(Execution(script=f"{start}; until [ -s pids ]; do sleep 0.01; done")).exit_code == 0
    (pid,) = left_of(manager.folder / "pids")
    os.kill(psutil.Process(pid).ppid(), signal.SIGKILL)
    wait_until(lambda: left_of(manager.folder / "pids") == [], "the daemon is gone")


def test_a_waiting_task_is_cancelled_without_a_start(manager: FakeManager) -> None:
    job = manager.job("many", LONG, is_iteration=True)
    manager.work([job], [manager.grant()], {POOL: iterations(job, 2)})
    waiting = TaskKey(job.job_no, 1, 1)
    manager.send(frames.Kill([waiting]))
    end = manager.finished(waiting)
    assert (end.pid, end.cause, end.returns_grant) == (-1, Cause.CANCELED, False)
    assert manager.heard.returned == []


def test_cancelling_what_has_ended_says_nothing(manager: FakeManager) -> None:
    key = manager.start(Execution(exec="true"))
    manager.finished(key)
    manager.send(frames.Kill([key]))
    manager.run(Execution(exec="true"))
    assert len(manager.heard.finished) == 2


# --- the agent's own end ------------------------------------------------------------------------------------------------


def ended(manager: FakeManager) -> None:
    """Its Bye comes after everything else, and it has left nothing."""
    manager.until(lambda heard: len(heard.byes) == 1)
    assert manager.agents[0].wait(PATIENCE_S) == 0
    nothing_left()


def test_stop_ends_tasks_and_agent_and_gives_back_what_waits(manager: FakeManager) -> None:
    job = manager.job("many", LONG, is_iteration=True)
    manager.work([job], [manager.grant()], {POOL: iterations(job, 3)})
    manager.started(TaskKey(job.job_no, 0, 1))
    manager.send(frames.Stop(kill=True))
    ended(manager)
    assert [(end.pos, end.exit_code, end.cause) for end in manager.heard.finished] == [(0, -15, Cause.CANCELED)]
    assert [key.pos for key in manager.heard.revoked] == [1, 2]


def test_sigterm_stops_tasks_reports_them_and_says_bye(manager: FakeManager) -> None:
    key = manager.start(Execution(script="setsid sleep 60 & wait"))
    manager.started(key)
    manager.agents[0].terminate()
    ended(manager)
    assert [finished[:3] for finished in manager.heard.finished] == [key]


def test_a_task_that_gets_the_same_sigterm_as_its_agent_has_not_failed(manager: FakeManager) -> None:
    """As when a batch system ends all processes of a job, one after the other."""
    key = manager.start(LONG)
    task = manager.started(key).pid
    os.kill(task, signal.SIGTERM)
    wait_until(lambda: not psutil.pid_exists(task), "the task is dead and reaped")
    manager.agents[0].terminate()
    ended(manager)
    assert [(end.exit_code, end.cause) for end in manager.heard.finished] == [(-15, Cause.CANCELED)]


def test_a_task_that_is_killed_just_before_its_agent_has_not_failed(manager: FakeManager) -> None:
    """As when a batch system takes a node away: nothing is said of the task, which is started anew elsewhere."""
    key = manager.start(LONG)
    task = manager.started(key).pid
    os.kill(task, signal.SIGKILL)
    wait_until(lambda: not psutil.pid_exists(task), "the task is dead and reaped")
    manager.agents[0].kill()
    assert manager.agents[0].wait(PATIENCE_S) == -signal.SIGKILL
    while manager.read(0):
        pass
    assert manager.heard.finished == []


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_task_that_gets_a_signal_alone_has_failed_and_its_place_is_used_again(
    manager: FakeManager, number: signal.Signals
) -> None:
    key = manager.start(LONG)
    os.kill(manager.started(key).pid, number)
    end = manager.finished(key)
    assert (end.exit_code, end.cause, end.returns_grant) == (-number, Cause.EXITED, True)


def test_a_cut_lifeline_ends_everything(tmp_path: Path) -> None:
    with FakeManager(tmp_path) as manager:
        far_end, our_end = os.pipe()
        manager.start_agent(lifeline=far_end)
        os.close(far_end)
        manager.welcome()
        manager.started(manager.start(Execution(script="ls /proc/self/fd > fds; sleep 60")))
        assert "PILOTFISH_LIFELINE_FD" not in (tmp_path / "fds").read_text()
        os.close(our_end)
        ended(manager)
        assert manager.heard.byes[0].reason == "lifeline cut"


def test_an_agent_that_hears_no_manager_for_too_long_ends(tmp_path: Path) -> None:
    with FakeManager(tmp_path, manager_wait_s=1.5, heartbeat_s=0.1) as manager:
        manager.start_agent()
        manager.welcome()
        manager.started(manager.start(LONG))
        assert manager.agents[0].wait(PATIENCE_S) == 0
        nothing_left()


def test_a_successor_clears_away_what_a_killed_agent_left_before_it_says_hello(manager: FakeManager) -> None:
    manager.started(manager.start(Execution(script="trap '' TERM; setsid sleep 60 & while :; do sleep 1; done")))
    manager.agents[0].send_signal(signal.SIGKILL)
    manager.agents[0].wait()
    assert len(processes_with(f"PILOTFISH_AGENT_ID={AGENT}")) >= 2
    manager.start_agent(SUCCESSOR, replaces=AGENT)
    hello = manager.welcome()
    assert (hello.agent_id, hello.running, hello.grants) == (SUCCESSOR, [], [])
    nothing_left(AGENT)
    assert manager.run(Execution(exec="true")).exit_code == 0


def test_what_a_task_of_another_node_has_left_here_is_swept_away(manager: FakeManager) -> None:
    """Its launcher has started it, not this agent: it is known by its mark."""
    marks = [f"{AGENT}:{task}-0-1" for task in (1, 2)]
    left = [subprocess.Popen(["sleep", "600"], env={"PILOTFISH_SPREAD": mark}) for mark in marks]
    try:
        manager.send(frames.Sweep(marks[:1]))
        assert left[0].wait(timeout=PATIENCE_S) == -signal.SIGKILL
        assert left[1].poll() is None
    finally:
        left[1].kill()
        left[1].wait()
