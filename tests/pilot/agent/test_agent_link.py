"""The link: lent tasks and grants, what is given back, reports kept until acknowledged, a manager that comes again."""

from __future__ import annotations

from pathlib import Path

from fake_manager import POOL, FakeManager, iterations

from pilotfish.pilot.model.ids import GrantId, PoolId, TaskKey
from pilotfish.pilot.model.job_spec import Execution
from pilotfish.pilot.wire import frames
from pilotfish.pilot.wire.frames import Cause

LONG = Execution(exec="sleep", args=("60",))
TRUE = Execution(exec="true")


def test_hello_says_who_and_where(tmp_path: Path) -> None:
    with FakeManager(tmp_path) as manager:
        agent = manager.start_agent("some-id")
        hello = manager.welcome()
    assert (hello.version, hello.agent_id, hello.node, hello.pid) == (frames.VERSION, "some-id", "n1", agent.pid)
    assert (hello.grants, hello.running, hello.waiting, hello.next_seq) == ([], [], {}, 1)


# --- grants and lent tasks ----------------------------------------------------------------------------------------------


def test_lent_tasks_run_in_order_on_one_grant_which_comes_back_with_the_last(manager: FakeManager) -> None:
    job = manager.job("many", Execution(script="echo ${it} >> order"), is_iteration=True)
    manager.work([job], [manager.grant()], {POOL: iterations(job, 5)})
    manager.until(lambda heard: len(heard.finished) == 5)
    assert (manager.folder / "order").read_text() == "0\n1\n2\n3\n4\n"
    assert [(end.pos, end.grant_id, end.returns_grant) for end in manager.heard.finished] == [
        (0, 1, False),
        (1, 1, False),
        (2, 1, False),
        (3, 1, False),
        (4, 1, True),
    ]


def test_tasks_of_a_pool_use_its_grants_side_by_side(manager: FakeManager) -> None:
    """Each waits for the other's file: one after the other they would never end."""
    wait = "touch ${it}; until [ -e 0 ] && [ -e 1 ]; do sleep 0.01; done"
    job = manager.job("pair", Execution(script=wait), is_iteration=True)
    manager.work([job], [manager.grant(), manager.grant(["1"])], {POOL: iterations(job, 2)})
    manager.until(lambda heard: len(heard.finished) == 2)
    assert {end.grant_id for end in manager.heard.finished if end.returns_grant} == {1, 2}


def test_tasks_and_grants_that_come_together_are_used_in_their_order(manager: FakeManager) -> None:
    """The manager gives the lowest free cores first: the first task is to have the first of them."""
    job = manager.job("all", Execution(exec="true"), is_iteration=True)
    manager.work([job], [manager.grant() for _ in range(6)], {POOL: iterations(job, 6)})
    manager.until(lambda heard: len(heard.finished) == 6)
    assert {end.pos: end.grant_id for end in manager.heard.finished} == {pos: pos + 1 for pos in range(6)}


def test_each_grant_comes_back_once_whatever_way(manager: FakeManager) -> None:
    job = manager.job("many", Execution(exec="true"), is_iteration=True)
    manager.work([job], [manager.grant() for _ in range(3)], {POOL: iterations(job, 50)})
    manager.until(lambda heard: len(heard.finished) == 50)
    manager.run(TRUE)
    back = manager.heard.returned + [end.grant_id for end in manager.heard.finished if end.returns_grant]
    assert sorted(back) == [1, 2, 3, 4]


def test_a_grant_for_which_nothing_waits_is_returned(manager: FakeManager) -> None:
    manager.work([], [manager.grant()], {})
    manager.until(lambda heard: heard.returned == [GrantId(1)])


def test_a_task_that_cannot_start_lets_the_next_one_have_the_grant(manager: FakeManager) -> None:
    bad = manager.job("bad", Execution(exec="no-such-program"), is_iteration=True)
    good = manager.job("good", TRUE, is_iteration=True)
    manager.work([bad, good], [manager.grant()], {POOL: iterations(bad, 700) + iterations(good, 1)})
    manager.until(lambda heard: len(heard.finished) == 701)
    assert {end.cause for end in manager.heard.finished[:700]} == {Cause.NOT_STARTED}
    assert (manager.heard.finished[700].exit_code, manager.heard.finished[700].returns_grant) == (0, True)


def test_a_grant_comes_back_when_its_only_task_cannot_start(manager: FakeManager) -> None:
    manager.run(Execution(exec="no-such-program"))
    manager.until(lambda heard: heard.returned == [GrantId(1)])


def test_revoke_gives_back_only_what_has_not_started(manager: FakeManager) -> None:
    job = manager.job("many", LONG, is_iteration=True)
    manager.work([job], [manager.grant()], {POOL: iterations(job, 4)})
    manager.started(TaskKey(job.job_no, 0, 1))
    manager.send(frames.Revoke([TaskKey(job.job_no, pos, 1) for pos in (0, 1, 3)]))
    manager.until(lambda heard: len(heard.revoked) == 2)
    assert [key.pos for key in manager.heard.revoked] == [1, 3]
    manager.send(frames.Kill([TaskKey(job.job_no, 0, 1)]))
    manager.finished(TaskKey(job.job_no, 0, 1))
    assert manager.started(TaskKey(job.job_no, 2, 1)).grant_id == 1


def test_orders_are_obeyed_while_short_tasks_keep_the_agent_busy(manager: FakeManager) -> None:
    """By the time one is started another has ended; the socket must be read all the same."""
    job = manager.job("many", Execution(exec="true"), is_iteration=True)
    manager.work([job], [manager.grant(), manager.grant(["1"])], {POOL: iterations(job, 2000)})
    manager.until(lambda heard: len(heard.finished) > 10)
    manager.send(frames.Revoke([TaskKey(job.job_no, pos, 1) for pos in range(2000)]))
    manager.until(lambda heard: len(heard.revoked) + len(heard.finished) == 2000)
    assert len(manager.heard.revoked) > 1000


def test_pools_do_not_mix(manager: FakeManager) -> None:
    small, large = manager.job("small", LONG), manager.job("large", TRUE)
    other = PoolId(2)
    starts = {
        POOL: [frames.TaskStart(small.job_no, 0, 1, None, None)],
        other: [frames.TaskStart(large.job_no, 0, 1, None, None)],
    }
    manager.work([small, large], [manager.grant(["0", "1"], pool=other)], starts)
    assert manager.finished(TaskKey(large.job_no, 0, 1)).grant_id == 1
    assert manager.heard.started == []


def test_a_forgotten_job_may_come_again_with_another_meaning(manager: FakeManager) -> None:
    job = manager.job("a", Execution(exec="false"), is_iteration=True)
    manager.work([job], [manager.grant()], {POOL: iterations(job, 1)})
    assert manager.finished(TaskKey(job.job_no, 0, 1)).exit_code == 1
    manager.send(frames.Forget([job.job_no]))
    again = manager.job("a", TRUE, is_iteration=True)
    manager.work([again], [manager.grant()], {POOL: iterations(again, 1, first=1)})
    assert manager.finished(TaskKey(job.job_no, 1, 1)).exit_code == 0


# --- reports ------------------------------------------------------------------------------------------------------------


def test_reports_are_numbered_without_gaps(manager: FakeManager) -> None:
    for _ in range(3):
        manager.run(TRUE)
    seqs = [report.seq for report in manager.heard.reports]
    assert seqs == list(range(1, len(seqs) + 1))


def test_what_is_not_acknowledged_is_sent_again_after_who_are_you(manager: FakeManager) -> None:
    manager.run(TRUE)
    acknowledged = manager.heard.reports[-1].seq
    manager.send(frames.Ack(acknowledged))
    kept = manager.start(TRUE)
    manager.finished(kept)
    manager.heard.reports.clear()
    manager.send(frames.WhoAreYou("second life"))
    hello = manager.welcome()
    assert hello.next_seq == acknowledged + 1
    manager.finished(kept)
    assert [finished[:3] for finished in manager.heard.finished] == [kept]


def test_hello_tells_everything_that_is_held(manager: FakeManager) -> None:
    job = manager.job("many", LONG, is_iteration=True)
    grant = manager.grant(["0"])
    manager.work([job], [grant], {POOL: iterations(job, 3)})
    running = manager.started(TaskKey(job.job_no, 0, 1))
    manager.send(frames.WhoAreYou("second life"))
    hello = manager.welcome()
    assert hello.grants == [grant]
    assert hello.running == [running]
    assert hello.waiting == {POOL: [TaskKey(job.job_no, 1, 1), TaskKey(job.job_no, 2, 1)]}


def test_a_task_outlives_the_manager_and_its_end_reaches_the_next_one(manager: FakeManager) -> None:
    key = manager.start(Execution(script="until [ -e go ]; do sleep 0.01; done; exit 5"))
    manager.started(key)
    manager.hang_up()
    (manager.folder / "go").touch()
    manager.heard.reports.clear()
    manager.listen()
    manager.read(10)  # a beat, or a report of the unknown agent
    manager.heard.reports.clear()
    manager.send(frames.WhoAreYou("second life"))
    manager.welcome()
    assert manager.finished(key).exit_code == 5


def test_garbage_from_the_manager_is_passed_over(manager: FakeManager) -> None:
    manager.send_raw(b"\xc1 not a frame")
    assert manager.run(TRUE).exit_code == 0
    assert "manager.garbage" in manager.log()


def test_the_agent_beats(manager: FakeManager) -> None:
    manager.until(lambda heard: heard.beats >= 2)
