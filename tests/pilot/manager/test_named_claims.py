"""What an agent says it holds of named resources: what it was given comes back the same, what cannot be is garbage."""

from __future__ import annotations

import sys
from fractions import Fraction
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "model"))

from world import World, job, node, wants

from pilotfish.pilot.manager.claims import Claims, GarbageError
from pilotfish.pilot.manager.work_frames import WorkFrames
from pilotfish.pilot.model.decisions import Orders
from pilotfish.pilot.model.ids import GrantId, NodeNo, PoolId
from pilotfish.pilot.model.job_spec import JobSpec, Placement
from pilotfish.pilot.model.resources import PARTS, UNUSED, NamedResource
from pilotfish.pilot.wire import frames
from pilotfish.pilot.wire.frames import NamedShare

NVME = NamedResource("nvme", ("a", "b"))
SCRATCH = NamedResource("scratch", amount=100, in_bytes=True)
OF_POOL = [NamedResource("seat", amount=3), NamedResource("port", ("80", "81"))]


def world_of_one() -> World:
    return World(node("n", 4, gpus=2, named=[NVME, SCRATCH]), of_pool=OF_POOL)


def hello(*grants: frames.NewGrant, running: tuple[frames.Started, ...] = ()) -> frames.Hello:
    """As it arrives."""
    message = frames.Hello(frames.VERSION, "n-1", "n", "n", 7, list(grants), list(running), {}, 1)
    back = frames.decode_to_manager(frames.encode([message]))[0]
    assert isinstance(back, frames.Hello)
    return back


@pytest.mark.parametrize(
    "spec",
    [
        job("a", named=wants(nvme=2, scratch=30, seat=2)),
        job("a", named=wants(nvme=Fraction(1, 3), gpu=Fraction(1, 4), port=1)),
        job("a", 2, gpus=1, placement=Placement.EXCLUSIVE, apart="db"),
        job("a", 2, placement=Placement.SCATTER, apart="db"),
    ],
)
def test_what_an_agent_was_given_it_tells_the_next_manager(spec: JobSpec) -> None:
    """That one knows the nodes, the pool and the attempt. What is the pool's counts only while the attempt does."""
    before, after = world_of_one(), world_of_one()
    before.submit(spec)
    after.submit(spec)
    (grant,) = before.scheduler.dispatch.grants.values()
    (key,) = after.scheduler.dispatch.attempts
    for forgotten in list(after.scheduler.dispatch.grants.values()):
        after.scheduler.dispatch.returned(forgotten)
    (told,) = WorkFrames(before.scheduler, False, lambda _: []).work(Orders(grants=[grant]), set()).grants
    running = frames.Started(*key, grant.grant_id, 5, 1000.0)
    claims = Claims(after.scheduler, {"n": NodeNo(0)})
    claims.check_hello(NodeNo(0), hello(told, running=(running,)), again=False)
    assert claims.held(NodeNo(0), hello(told, running=(running,))).grants == [grant]
    (unused,) = claims.held(NodeNo(0), hello(told)).grants
    assert {taken.name for taken in unused.shares[0].named}.isdisjoint({"seat", "port"})


def grant_of(number: int, *named: NamedShare, cores: tuple[str, ...] = ("0",)) -> frames.NewGrant:
    return frames.NewGrant(GrantId(number), PoolId(1), [frames.NodeShare("n", list(cores), [], list(named))], False, 0)


@pytest.mark.parametrize(
    "grants",
    [
        [grant_of(1, NamedShare("fpga", ["0"], 0))],
        [grant_of(1, NamedShare("nvme", ["c"], 0))],
        [grant_of(1, NamedShare("nvme", [], 1))],
        [grant_of(1, NamedShare("nvme", ["a"], 0, PARTS))],
        [grant_of(1, NamedShare("nvme", ["a", "b"], 0, 5))],
        [grant_of(1, NamedShare("nvme", ["a"], 0), NamedShare("nvme", ["b"], 0))],
        [grant_of(1, NamedShare("scratch", [], 101))],
        [grant_of(1, NamedShare("scratch", [], -1))],
        [grant_of(1, NamedShare("seat", [], 4))],
        [grant_of(1, NamedShare("gpu", ["7"], 0, 5))],
        [grant_of(1, NamedShare(UNUSED, ["0"], 0))],
        [grant_of(1, NamedShare(UNUSED, ["9"], 0))],
        [grant_of(1, NamedShare("apart:x", [], 2))],
        [grant_of(1, NamedShare("other:", [], 1))],
        [grant_of(n, NamedShare("nvme", ["a"], 0), cores=(str(n),)) for n in (1, 2)],
        [grant_of(n, NamedShare("nvme", ["a"], 0, PARTS // 2 + 1), cores=(str(n),)) for n in (1, 2)],
        [grant_of(n, NamedShare("scratch", [], 51), cores=(str(n),)) for n in (1, 2)],
        [grant_of(n, NamedShare("apart:x", [], 1), cores=(str(n),)) for n in (1, 2)],
    ],
)
def test_what_cannot_have_been_given_is_garbage(grants: list[frames.NewGrant]) -> None:
    world = world_of_one()
    with pytest.raises(GarbageError):
        Claims(world.scheduler, {"n": NodeNo(0)}).check_hello(NodeNo(0), hello(*grants), again=False)
