"""A submit that takes many turns: what it holds meanwhile, what others see of it, and that endings cost bounded turns."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterator
from itertools import pairwise
from typing import TypeVar

import pytest
from world import World, job, node

from pilotfish.pilot.model import cancellation, capacity, invariants
from pilotfish.pilot.model.acceptance import Checked
from pilotfish.pilot.model.errors import JobExistsError, NotEnoughResourcesError, RefusedError
from pilotfish.pilot.model.ids import JobNo, NodeNo
from pilotfish.pilot.model.job_spec import JobSpec, Need
from pilotfish.pilot.model.nodes import Nodes
from pilotfish.pilot.model.scheduler import Scheduler
from pilotfish.pilot.model.states import State
from pilotfish.pilot.model.steps import SLICE, Pause, Steps, finish

T = TypeVar("T")


def pilot() -> Scheduler:
    return Scheduler([node("n", 4)])


def many(prefix: str, count: int = 3 * SLICE) -> list[JobSpec]:
    return [job(f"{prefix}{number}") for number in range(count)]


def begun(steps: Steps[T]) -> Steps[T]:
    """After its first slice."""
    assert next(steps) is Pause.MORE
    return steps


def accepted(scheduler: Scheduler, checked: Checked) -> Steps[object]:
    return scheduler.accept(checked, 2.0, scheduler.jobs.take_numbers(len(checked.specs)))


def test_no_slice_takes_more_than_its_number_of_jobs() -> None:
    scheduler, specs = pilot(), many("a", 10 * SLICE)
    slices = sum(1 for _ in scheduler.check(specs))
    checked = Checked(specs, scheduler.jobs.entering[0])
    assert slices >= 3 * 9
    steps = accepted(scheduler, checked)
    before = 0
    for _ in steps:
        assert len(scheduler.jobs) - before <= SLICE
        before = len(scheduler.jobs)
    assert len(scheduler.jobs) == len(specs)
    invariants.check(scheduler)


def test_jobs_that_wait_for_nothing_are_not_gone_through_at_once() -> None:
    """To see that, all of them are looked at: a million in one slice was a turn of 150 ms."""
    looks = 0

    class Counted(list[JobSpec]):
        def __iter__(self) -> Iterator[JobSpec]:
            nonlocal looks
            for spec in super().__iter__():
                looks += 1
                yield spec

    specs, seen = Counted(many("a", 30 * SLICE)), [0]
    for _ in pilot().check(specs):
        seen.append(looks)
    seen.append(looks)
    assert looks >= 3 * len(specs)
    assert max(after - before for before, after in pairwise(seen)) <= 10 * SLICE


def test_names_belong_to_the_submit_that_is_on_its_way_in() -> None:
    scheduler = pilot()
    first = begun(scheduler.check(many("a")))
    with pytest.raises(JobExistsError, match="Job a0 already exist"):
        scheduler.submit([job("a0")], 1.0)
    scheduler.submit([job("other")], 1.0)
    first.close()
    scheduler.submit([job("a0")], 1.0)


@pytest.mark.parametrize("last", [job("a0"), job("huge", cores=5)], ids=["name twice", "too large"])
def test_a_submit_that_is_refused_in_the_end_leaves_nothing(last: JobSpec) -> None:
    scheduler = pilot()
    with pytest.raises((JobExistsError, NotEnoughResourcesError)):
        finish(scheduler.check([*many("a"), last]))
    assert not scheduler.jobs.entering
    assert not scheduler.unfinished
    scheduler.submit(many("a"), 1.0)


def test_clients_see_its_jobs_when_all_of_them_are_in() -> None:
    scheduler = pilot()
    checked = finish(scheduler.check(many("a")))
    entering = begun(accepted(scheduler, checked))
    assert len(scheduler.jobs) == SLICE
    assert scheduler.jobs.find_settled("a0") is None
    assert scheduler.unfinished
    finish(entering)
    assert scheduler.jobs.find_settled("a0") is not None


def test_smaller_submits_pass_a_large_one_and_numbers_follow_the_order_of_the_journal() -> None:
    scheduler = pilot()
    large = begun(scheduler.check(many("a")))
    (small,) = scheduler.submit([job("small")], 1.0)
    entering = begun(accepted(scheduler, finish(large)))
    (late,) = scheduler.submit([job("late")], 1.0)
    finish(entering)
    assert (small.no, late.no) == (1, 3 * SLICE + 2)
    assert scheduler.jobs.numbers() == [JobNo(no) for no in range(1, 3 * SLICE + 3)]
    assert scheduler.jobs.next_no == 3 * SLICE + 3


def test_who_depends_on_a_job_that_is_on_its_way_in_waits_for_it() -> None:
    """In the journal the other one stands first: whoever reads it would find the job."""
    scheduler = pilot()
    large = begun(scheduler.check(many("a")))
    small = scheduler.check([job("b", after=["a1"])])
    assert next(small) is Pause.WAITING
    finish(accepted(scheduler, finish(large)))
    finish(accepted(scheduler, finish(small)))
    dependent = scheduler.jobs.get("b")
    assert (dependent.state, dependent.unmet) == (State.QUEUED, 1)


def test_two_submits_do_not_wait_for_each_other() -> None:
    """One of them waits for the other, whose own dependency is unknown then, as it will be to a replay."""
    scheduler = pilot()
    first = begun(scheduler.check([*many("a"), job("x", after=["y"])]))
    second = begun(scheduler.check([*many("b"), job("y", after=["x"])]))
    checked = finish(first)
    assert Pause.WAITING in [next(second) for _ in range(5)]
    finish(accepted(scheduler, checked))
    finish(accepted(scheduler, finish(second)))
    assert [scheduler.jobs.get(name).state for name in "xy"] == [State.OMITTED, State.OMITTED]


def test_a_submit_that_waits_for_another_does_not_hold_up_that_one() -> None:
    """The large one has the name `x`, and a dependency that the small one has; the small one waits for it."""
    scheduler = pilot()
    large = begun(scheduler.check([job("x"), *many("a"), job("z", after=["y"])]))
    small = scheduler.check([job("y", after=["x"])])
    assert next(small) is Pause.WAITING
    finish(accepted(scheduler, finish(large)))
    finish(accepted(scheduler, finish(small)))
    assert scheduler.jobs.get("z").state is State.OMITTED
    assert scheduler.jobs.get("y").state is State.QUEUED


def test_what_a_submit_on_its_way_in_counts_on_is_not_removed() -> None:
    """Live it would be missed, in a replay it would be there."""
    scheduler = pilot()
    scheduler.submit([job("base")], 1.0)
    checked = finish(scheduler.check([job("b", after=["base"])]))
    assert not scheduler.may_be_removed("base")
    finish(accepted(scheduler, checked))
    assert scheduler.may_be_removed("base")


def test_a_chain_of_omissions_takes_no_more_than_its_share_of_a_turn() -> None:
    scheduler = pilot()
    chain = [job("c0"), *(job(f"c{number}", after=[f"c{number - 1}"]) for number in range(1, 50))]
    first, *others = scheduler.submit(chain, 1.0)
    scheduler.take_decisions()
    scheduler.most_per_turn = 10
    scheduler.cancel(first, 2.0)
    turns = []
    while not scheduler.settled:
        turns.append(len(scheduler.take_decisions().changes))
        scheduler.plan(2.0)
    assert max(turns) <= 11  # and the cancelled one itself
    assert {other.state for other in others} == {State.OMITTED}
    invariants.check(scheduler)


@pytest.mark.parametrize("most", [None, 7])
def test_iterations_that_wait_for_those_of_a_cancelled_job_are_omitted(most: int | None) -> None:
    scheduler = pilot()
    target, dependent = scheduler.submit([job("x", count=40), job("y", count=40, after=["x:*"])], 1.0)
    scheduler.most_per_turn = most
    scheduler.cancel(target, 2.0)
    for _ in range(20):
        scheduler.take_decisions()
        scheduler.plan(2.0)
    assert dependent.state.final
    assert dependent.message_of(39) == "dependency x:39 ended CANCELED"
    invariants.check(scheduler)


def test_iterations_that_wait_for_those_of_an_ended_job_are_judged_one_by_one() -> None:
    scheduler = pilot()
    (target,) = scheduler.submit([job("x", count=3)], 1.0)
    scheduler.cancel_task(target, 1, 1.0)
    (dependent,) = scheduler.submit([job("y", count=3, after=["x:*"])], 2.0)
    assert [dependent.tasks.state(pos) for pos in range(3)] == [State.QUEUED, State.OMITTED, State.QUEUED]
    assert dependent.unmet_at == [1, 0, 1]


def test_a_removed_job_of_many_iterations_leaves_the_counts_as_they_were() -> None:
    scheduler = pilot()
    (some,) = scheduler.submit([job("x", count=1000)], 1.0)
    scheduler.cancel_task(some, 700, 1.0)
    scheduler.cancel(some, 2.0)
    scheduler.remove(some)
    assert sum(scheduler.jobs.tasks_in) == 0
    assert not any(scheduler.jobs.tasks_in)


def test_a_million_iterations_are_cancelled_without_room_for_what_they_have_not_done() -> None:
    """Rows for results that will never come would be 50 MB, and filling them a long turn."""
    scheduler = pilot()
    scheduler.on_node_up(NodeNo(0))
    (large,) = scheduler.submit([job("large", count=10**6)], 1.0)
    scheduler.plan(1.0)
    running = large.tasks.in_flight()
    assert running == list(range(len(running)))
    assert len(running) >= 4
    tracemalloc.start()
    scheduler.cancel(large, 2.0)
    grown, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert grown < 4 << 20
    last = large.tasks.load(10**6 - 1)
    assert (last.state, last.run, last.ended_s) == (State.CANCELED, 0, 0.0)
    assert large.tasks.load(0).state is State.SCHEDULED
    assert large.tasks.in_flight() == running
    assert large.finished == 10**6 - len(running)
    invariants.check(scheduler)


def test_a_plan_starts_its_share_of_a_large_allocation_and_the_next_ones_the_rest() -> None:
    scheduler = Scheduler([node(f"n{number}", 4) for number in range(10)])
    scheduler.dispatch.most_starts = 10
    for number in range(10):
        scheduler.on_node_up(NodeNo(number))
    scheduler.submit([job("many", count=1000)], 1.0)
    started = []
    for _ in range(5):
        scheduler.plan(1.0)
        started.append(40 - scheduler.nodes.free_count)
        assert scheduler.planned == (started[-1] == 40)
        invariants.check(scheduler)
    assert started == [12, 24, 36, 40, 40]


def test_what_waits_only_for_the_next_plan_is_not_passed() -> None:
    """Else nodes would be held for it, as for work that does not fit."""
    scheduler = Scheduler([node(f"n{number}", 4) for number in range(10)], reserve_after_s=0.0)
    scheduler.dispatch.most_starts = 10
    for number in range(10):
        scheduler.on_node_up(NodeNo(number))
    scheduler.submit([job("many", count=1000), job("later", 2)], 1.0)
    scheduler.plan(1.0)
    assert (scheduler.planned, scheduler.dispatch.reserved) == (False, None)


def test_running_tasks_of_a_cancelled_job_are_stopped_a_share_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Between two shares some end, are tried again, or wait to be: all the others are over by the end."""
    monkeypatch.setattr(cancellation, "_STOPPED", 3)
    world = World(node("n", 8))
    world.submit(job("many", count=100, retries=1), job("after", after=["many"]))
    assert world.running == [f"many:{number}" for number in range(8)]
    many = world.scheduler.jobs.get("many")
    steps = begun(world.scheduler.cancel_in_steps(many, world.now))
    world.settle()
    assert world.running == [f"many:{number}" for number in range(3, 8)]
    assert world.states("many")[8:] == ["CANCELED"] * 92
    world.finish("many:3")
    world.finish("many:4", 1)
    assert "many:4" in world.running, "it is tried again"
    world.drain(0)
    world.finish("many:5", 1)
    assert world.state("many", 5) == "QUEUED"
    with pytest.raises(RefusedError, match="already canceled"):
        world.cancel("many")
    finish(steps)
    world.settle()
    assert world.running == []
    assert world.states("many") == ["CANCELED"] * 3 + ["SUCCEED"] + ["CANCELED"] * 96
    assert (world.state("many"), world.state("after")) == ("CANCELED", "OMITTED")


def test_jobs_with_needs_of_their_own_are_asked_for_a_share_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    scheduler, asked = Scheduler([node("n", 4, mem=1 << 30)]), [0]
    why_never = capacity.why_never

    def counted(nodes: Nodes, need: Need) -> str | None:
        asked[-1] += 1
        return why_never(nodes, need)

    monkeypatch.setattr(capacity, "why_never", counted)
    specs = [job(f"a{number}", mem=number + 1) for number in range(3 * SLICE)]
    for _ in scheduler.check(specs):
        asked.append(0)
    assert sum(asked) == 3 * SLICE
    assert max(asked) <= SLICE
