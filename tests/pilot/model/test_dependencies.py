"""pilot/model/dependencies.py: what an end means for those that wait for it, also when it came before they did."""

from __future__ import annotations

import pytest
from world import World, job, node


@pytest.mark.parametrize(("exit_code", "states"), [(0, ["EXECUTING", "QUEUED"]), (1, ["OMITTED", "QUEUED"])])
def test_an_element_whose_counterpart_has_already_ended_follows_from_how_it_ended(
    exit_code: int, states: list[str]
) -> None:
    world = World(node("n", 4))
    world.submit(job("a", count=2))
    world.finish("a:0", exit_code)
    world.submit(job("b", count=2, after=["a:*"]))
    assert world.states("b") == states


@pytest.mark.parametrize(("exit_code", "state"), [(0, "EXECUTING"), (1, "OMITTED")])
def test_a_job_that_waits_for_one_iteration_that_has_ended_follows_from_how_it_ended(
    exit_code: int, state: str
) -> None:
    world = World(node("n", 4))
    world.submit(job("a", count=2))
    world.finish("a:1", exit_code)
    world.submit(job("b", after=["a:1"]))
    assert world.state("b") == state
