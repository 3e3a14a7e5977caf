"""A node that was lost comes back and tells what it finished meanwhile."""

from __future__ import annotations

from world import World, job, node

from pilotfish.pilot.model.attempts import End
from pilotfish.pilot.model.ids import GrantId, NodeNo, PoolId, TaskKey
from pilotfish.pilot.model.job_spec import ONE_CORE
from pilotfish.pilot.model.resources import Grant, Share
from pilotfish.pilot.model.results import Result, Successes
from pilotfish.pilot.model.scheduler import Scheduler
from pilotfish.pilot.model.states import Cause


def _results(world: World) -> list[Result]:
    """All results of all turns, one by one."""
    all_of_them = [result for turn in world.turns for result in turn.results]
    return [one for result in all_of_them for one in (result.each() if isinstance(result, Successes) else [result])]


def _late(world: World, key: TaskKey, exit_code: int = 0) -> None:
    world.scheduler.on_finished(key, GrantId(2), End(4711, 1000.0, 1005.0, exit_code, Cause.EXITED), True, world.now)
    world.settle()


def _first_attempt(world: World, name: str) -> TaskKey:
    return TaskKey(world.scheduler.jobs.get(name).no, 0, 1)


def test_a_late_result_of_a_task_that_waits_again_counts() -> None:
    """... with the place where it ran, and nothing is started a second time."""
    world = World(node("n1", 1))
    world.submit(job("a"))
    world.cut(0)
    assert world.state("a") == "QUEUED"
    _late(world, _first_attempt(world, "a"))
    world.revive(0)
    assert world.state("a") == "SUCCEED"
    assert world.running == []
    (result,) = [result for result in _results(world) if result.exit_code == 0]
    assert [share.node for share in result.shares] == [0]


def test_a_late_success_stops_the_attempt_that_has_taken_its_place() -> None:
    world = World(node("n1", 1), node("n2", 1))
    world.submit(job("a"))
    world.cut(0)
    assert world.running == ["a"]
    _late(world, _first_attempt(world, "a"))
    assert world.state("a") == "SUCCEED"
    assert world.running == []
    world.submit(job("b"))
    assert world.running == ["b"], "the cores of the second attempt are free again"


def test_a_late_failure_leaves_the_second_attempt_its_chance() -> None:
    world = World(node("n1", 1), node("n2", 1))
    world.submit(job("a"))
    world.cut(0)
    _late(world, _first_attempt(world, "a"), exit_code=1)
    assert world.running == ["a"]
    world.finish("a")
    assert world.state("a") == "SUCCEED"


def test_a_late_result_of_what_has_ended_or_was_cancelled_is_ignored() -> None:
    world = World(node("n1", 1))
    world.submit(job("a"), job("b"))
    world.cut(0)
    world.cancel("a")
    _late(world, _first_attempt(world, "a"))
    assert world.state("a") == "CANCELED"
    world.revive(0)
    world.run_to_end()
    _late(world, _first_attempt(world, "b"))
    assert world.state("b") == "SUCCEED"
    assert world.events.count("b SUCCEED") == 1


def test_a_late_result_is_replayed() -> None:
    """The journal's order: sent, lost, ended."""
    world = World(node("n1", 1))
    world.submit(job("a"))
    world.cut(0)
    _late(world, _first_attempt(world, "a"))
    results = _results(world)
    again = Scheduler([node("n1", 1)])
    again.replay_submitted([job("a")], 1000.0)
    again.recovery.replay_sent(next(world.scheduler.nodes.here), _first_attempt(world, "a"), 1000.0)
    for result in results:
        again.recovery.replay_result(result)
    assert again.jobs.get("a").state.name == "SUCCEED"
    assert again.jobs.unfinished == 0


def test_orders_that_got_lost_with_a_connection_are_given_again() -> None:
    """The agent says Hello anew and names nothing: what was sent to it never arrived."""
    world = World(node("n1", 2))
    scheduler = world.scheduler
    scheduler.submit([job("a")], world.now)
    scheduler.plan(world.now)
    scheduler.take_decisions()  # on its way when the connection broke
    here = next(scheduler.nodes.here)
    scheduler.recovery.drop_unnamed(here, set(), world.now)
    scheduler.recovery.drop_grants(here, set())
    world.settle()
    assert world.running == ["a"]
    assert scheduler.jobs.get("a").tasks.run(0) == 2
    world.run_to_end()
    assert scheduler.nodes.free_count == 2


def test_what_still_runs_on_a_node_that_comes_back_goes_on() -> None:
    """... when its task only waits to be started again: it is the same attempt, and counts as under way at once."""
    world = World(node("n1", 2))
    world.submit(job("a"), job("b"))
    world.cut(0)
    assert (world.state("a"), world.state("b")) == ("QUEUED", "QUEUED")
    world.finish_away(0)
    world.come_back(0)
    assert (world.state("a"), world.state("b")) == ("SUCCEED", "EXECUTING")
    assert world.scheduler.jobs.get("b").tasks.run(0) == 1
    world.finish("b")
    assert world.state("b") == "SUCCEED"
    assert world.scheduler.nodes.free_count == 2


def test_what_was_started_elsewhere_meanwhile_is_stopped_on_the_node_that_comes_back() -> None:
    world = World(node("n1", 1), node("n2", 1))
    world.submit(job("a"))
    world.cut(0)
    world.come_back(0)
    assert world.running_on(0) == []
    assert world.running_on(1) == ["a"]


def test_a_task_that_was_cancelled_meanwhile_is_stopped() -> None:
    world = World(node("n1", 1))
    world.submit(job("a"))
    world.cut(0)
    world.cancel("a")
    world.come_back(0)
    assert world.running == []
    assert world.state("a") == "CANCELED"
    assert world.scheduler.nodes.free_count == 1


def test_a_node_that_is_cut_off_again_and_again_is_no_crash_of_what_goes_on_there() -> None:
    world = World(node("n1", 1), crash_limit=2)
    world.submit(job("a"))
    for _ in range(3):
        world.cut(0)
        world.come_back(0)
    assert world.state("a") == "EXECUTING"
    world.lose(0)
    world.revive(0)
    world.lose(0)
    assert world.state("a") == "FAILED"


def test_an_attempt_that_goes_on_again_is_replayed() -> None:
    """The journal's order: sent, lost, sent, ended."""
    world = World(node("n1", 1), crash_limit=2)
    world.submit(job("a"))
    world.cut(0)
    before = len(world.turns)
    world.come_back(0)
    key = _first_attempt(world, "a")
    here = next(world.scheduler.nodes.here)
    assert [turn.sent for turn in world.turns[before:] if turn.sent] == [{here: [key]}]
    again = Scheduler([node("n1", 1)], crash_limit=2)
    again.replay_submitted([job("a")], 1000.0)
    again.recovery.replay_sent(here, key, 1000.0)
    for result in _results(world):
        again.recovery.replay_result(result)
    again.recovery.replay_sent(here, key, 1000.0)
    assert again.jobs.get("a").tasks.state(0).name == "SCHEDULED"
    again.on_node_lost(here, 1001.0)
    assert again.jobs.get("a").tasks.state(0).name == "QUEUED", "the first loss was no crash"


def test_an_attempt_that_is_brought_back_and_leaves_with_its_node_at_once_is_not_in_flight() -> None:
    """Its record would follow that of the node's leaving, and wait for ever after a resume."""
    world = World(node("n1", 1))
    world.submit(job("a"))
    key = _first_attempt(world, "a")
    world.scheduler.on_node_lost(NodeNo(0), world.now, silent=True)
    world.scheduler.take_decisions()
    world.scheduler.dispatch.adopt(
        Grant(GrantId(99), PoolId(100), (Share(NodeNo(0), 1, 0, 0),)), world.scheduler.queue.shape(ONE_CORE)
    )
    world.scheduler.recovery.still_running(NodeNo(0), key, GrantId(99))
    world.scheduler.on_node_left(NodeNo(0), world.now)
    turn = world.scheduler.take_decisions()
    assert (turn.taken, turn.sent) == ([key], {})


def test_cores_of_other_nodes_that_were_given_away_meanwhile_are_not_given_twice() -> None:
    """`both` runs on n1 and n2; n1 is cut off, and n2's core goes to `a` before n1 is back and stops `both`."""
    world = World(node("n1", 1), node("n2", 1))
    world.submit(job("both", 1, nodes=2))
    world.submit(job("a"))
    world.cut(0)
    assert world.running_on(1) == ["a"]
    world.come_back(0)
    world.submit(job("b"), job("c"))
    assert len(world.running) == 2
    world.run_to_end()
    assert world.scheduler.nodes.free_count == 2


def test_a_late_failure_of_a_task_over_several_nodes_is_not_its_result() -> None:
    """When its first node was given up, what it had on the others was killed: that it failed then says nothing of it."""
    world = World(node("n1", 1), node("n2", 1))
    world.submit(job("both", 1, nodes=2))
    world.cut(0)
    world.finish_away(0, exit_code=-9)
    world.come_back(0)
    assert world.state("both") == "EXECUTING"
    assert world.scheduler.jobs.get("both").tasks.run(0) == 2
    world.finish("both")
    assert world.state("both") == "SUCCEED"


def test_a_late_success_of_a_task_over_several_nodes_counts() -> None:
    world = World(node("n1", 1), node("n2", 1))
    world.submit(job("both", 1, nodes=2))
    world.cut(0)
    world.finish_away(0)
    world.come_back(0)
    assert world.state("both") == "SUCCEED"
    assert world.running == []


def test_a_task_that_succeeds_before_it_is_stopped_for_a_further_node_has_succeeded() -> None:
    """The order to stop it, because its second node is gone, meets its end on the way."""
    world = World(node("n1", 1), node("n2", 1))
    world.submit(job("both", 1, nodes=2))
    key = _first_attempt(world, "both")
    (grant,) = world.scheduler.dispatch.grants.values()
    world.scheduler.on_node_lost(next(n for n in world.scheduler.nodes.here if n == 1), world.now)
    end = End(4711, world.now, world.now + 1.0, 0, Cause.EXITED)
    world.scheduler.on_finished(key, grant.grant_id, end, True, world.now)
    assert world.state("both") == "SUCCEED"


def test_a_node_that_was_only_silent_has_not_crashed_under_its_tasks() -> None:
    """Each time the task was started elsewhere meanwhile; but nothing has taken an agent down."""
    world = World(node("n1", 1), node("n2", 1), crash_limit=2)
    world.submit(job("a"))
    for _ in range(3):
        number = 0 if world.running_on(0) else 1
        world.cut(number)
        world.come_back(number)
    assert world.state("a") == "EXECUTING"
    world.finish("a")
    assert world.state("a") == "SUCCEED"


def test_numbers_of_an_earlier_life_are_not_given_again() -> None:
    """One agent has told what it holds of the earlier life, and the other one will later: nothing new is called as that is."""
    before, after = World(node("n", 1), node("m", 1)), World(node("n", 1), node("m", 1), life=7)
    before.submit(job("a"), job("b"))
    ours, theirs = before.scheduler.dispatch.grants.values()
    after.scheduler.recovery.adopt(NodeNo(0), [ours], {}, after.now)
    after.submit(job("c"))
    new = after.scheduler.dispatch.grants.keys() - {ours.grant_id}
    assert new
    assert not new & before.scheduler.dispatch.grants.keys()
    assert theirs.pool not in after.scheduler.dispatch.pools
