"""The core under random jobs, ends, cancels and nodes that come and go: the invariants hold after each step (world.py)."""

from __future__ import annotations

from fractions import Fraction

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule
from world import World, job, node, wants

from pilotfish.pilot.model.errors import NotEnoughResourcesError, RefusedError
from pilotfish.pilot.model.ids import NodeNo
from pilotfish.pilot.model.job_spec import JobSpec, Need, Placement, Size
from pilotfish.pilot.model.resources import NamedResource, NodeSpec
from pilotfish.pilot.model.topology import Group

NVME = NamedResource("nvme", ("0", "1", "2"))
SCRATCH = NamedResource("scratch", amount=100, in_bytes=True)
GROUPS = (Group(0b0011, 0b1), Group(0b1100, 0))
OF_POOL = (NamedResource("licence", amount=3), NamedResource("port", ("8000", "8001")))
NODES = (
    node("n", 4, gpus=1, mem=100, tags="a", named=(NVME,)),
    node("m", 2, mem=50, tags="ab", named=(SCRATCH,)),
    node("k", 3),
)
JOINED = (node("g", 4, mem=100, tags="b", joined=True), node("h", 1, gpus=2, tags="ac", joined=True, named=(NVME,)))
ALL = tuple(node(name, 8, gpus=2, mem=100, tags="abc", joined=True, named=(NVME, SCRATCH)) for name in ("y", "z"))
"""On these everything fits that `specs` makes."""


NAMED = (
    *[()] * 6,
    wants(nvme=1),
    wants(nvme=Fraction(1, 4)),
    wants(nvme=Fraction(2, 3), scratch=30),
    wants(gpu=Fraction(1, 3)),
    wants(licence=1),
    wants(licence=3),
    wants(licence=1, nvme=2),
    wants(port=1),
    wants(port=Fraction(1, 2)),
)


ALTERNATIVES = (
    (Need(Size.exactly(2)),),
    (Need(Size.exactly(1), named=wants(licence=1)), Need(Size.exactly(3))),
    (Need(None, Size.exactly(1)), Need(Size.exactly(1), gpus=1)),
)


@st.composite
def specs(draw: st.DrawFn, name: str, known: list[str]) -> JobSpec:
    cores = draw(st.sampled_from([1, 1, 1, 2, 4, 7, (1, 3), (2, None), None]))
    nodes = draw(st.sampled_from([None, None, None, 1, 2])) if cores is not None else 1
    named = draw(st.sampled_from(NAMED))
    has_part = any(want.name == "gpu" for want in named)
    return job(
        name,
        cores,
        nodes,
        count=draw(st.sampled_from([None, None, 1, 3, 40])),
        after=draw(st.lists(st.sampled_from(known), max_size=2, unique=True)) if known else (),
        gpus=0 if has_part else draw(st.sampled_from([0, 0, 0, 1])),
        mem=draw(st.sampled_from([0, 0, 30])),
        priority=draw(st.integers(-1, 1)),
        retries=draw(st.sampled_from([0, 0, 1])),
        tags=draw(st.sampled_from(["", "", "", "a", "b", "ab", "c"])),
        named=named,
        placement=draw(st.sampled_from([Placement.COMPACT] * 3 + [*Placement])),
        apart=draw(st.sampled_from(["", "", "", "x", "y"])),
        alternatives=draw(st.sampled_from([(), (), (), *ALTERNATIVES])),
    )


class SchedulerMachine(RuleBasedStateMachine):
    """One pilot of three uneven nodes, and joined nodes that come and go."""

    def __init__(self) -> None:
        super().__init__()
        self.world = World(*NODES, crash_limit=3, reserve_after_s=5, of_pool=OF_POOL)
        self.world.scheduler.nodes.set_groups(NodeNo(0), GROUPS, GROUPS)
        self.names: list[str] = []
        self.down: set[int] = set()
        self.numbers = list(range(len(NODES)))
        """Which number each of NODES has now."""
        self.draining: set[int] = set()
        self.joined: dict[int, NodeSpec] = {}

    @rule(data=st.data(), count=st.integers(1, 3))
    def submit(self, data: st.DataObject, count: int) -> None:
        batch = []
        known = list(self.names)
        for _ in range(count):
            name = f"j{len(known)}"
            batch.append(data.draw(specs(name, known[-4:])))
            known.append(name)
        try:
            self.world.submit(*batch)
        except NotEnoughResourcesError:
            assert all(self.world.scheduler.jobs.find(spec.name) is None for spec in batch)
        else:
            self.names = known

    @precondition(lambda self: self.world.running)
    @rule(data=st.data(), exit_code=st.sampled_from([0, 0, 0, 1]), took_s=st.sampled_from([0.001, 1.0]))
    def finish(self, data: st.DataObject, exit_code: int, took_s: float) -> None:
        self.world.finish(data.draw(st.sampled_from(sorted(self.world.running))), exit_code, took_s=took_s)

    @precondition(lambda self: self.names)
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(self.names))
        count = self.world.scheduler.jobs.get(name).spec.task_count
        try:
            self.world.cancel(name, data.draw(st.one_of(st.none(), st.integers(0, count - 1))))
        except RefusedError:
            pass

    @rule(number=st.sampled_from(range(len(NODES))))
    def lose_or_revive(self, number: int) -> None:
        if number in self.down:
            self.world.revive(self.numbers[number])
        else:
            self._lose(number)
        self.down ^= {number}

    @rule(number=st.sampled_from(range(len(NODES))), ended=st.integers(0, 2), exit_code=st.sampled_from([0, 0, 1]))
    def cut_or_mend(self, number: int, ended: int, exit_code: int) -> None:
        """A node is cut off and works on; when it is back it tells what has ended meanwhile."""
        mine = self.numbers[number]
        if number not in self.down | self.draining:
            self.world.cut(mine)
            self.down.add(number)
        elif mine in self.world.away:
            for _ in range(min(ended, len(self.world.away[mine].running))):
                self.world.finish_away(mine, exit_code)
            self.world.come_back(mine)
            self.down.remove(number)

    def _lose(self, number: int) -> None:
        self.world.lose(self.numbers[number])
        self.draining.discard(number)

    @rule(number=st.sampled_from(range(len(NODES))))
    def drain_or_end(self, number: int) -> None:
        """The agent of a node drains; once nothing runs there it ends, and another may come."""
        if number in self.down:
            return
        if number not in self.draining:
            self.world.drain(self.numbers[number])
            self.draining.add(number)
        elif not self.world.running_on(self.numbers[number]):
            self._lose(number)
            self.down.add(number)

    @rule(spec=st.sampled_from(JOINED))
    def node_joins(self, spec: NodeSpec) -> None:
        if spec not in self.joined.values():
            self.world.scheduler.nodes.elastic = True
            self.joined[self.world.join(spec)] = spec

    @precondition(lambda self: self.joined)
    @rule(data=st.data())
    def joined_node_drains(self, data: st.DataObject) -> None:
        self.world.drain(data.draw(st.sampled_from(sorted(self.joined))))

    @precondition(lambda self: self.joined)
    @rule(data=st.data())
    def joined_node_leaves(self, data: st.DataObject) -> None:
        """Drained or not."""
        number = data.draw(st.sampled_from(sorted(self.joined)))
        del self.joined[number]
        self.world.lose(number)
        self.world.leave(number)

    @rule(number=st.sampled_from(range(len(NODES))))
    def exchange(self, number: int) -> None:
        """A node leaves for good and another one like it joins, as when a pilot goes on in another allocation."""
        self.world.leave(self.numbers[number])
        self.numbers[number] = self.world.join(NODES[number])
        self.down.discard(number)
        self.draining.discard(number)

    @rule(seconds=st.sampled_from([0.5, 2.0, 6.0]))
    def pass_time(self, seconds: float) -> None:
        self.world.pass_time(seconds)

    def teardown(self) -> None:
        """With all nodes back, and some that have everything, every job reaches a final state, and nothing ran before what it
        depends on.
        """
        for number in self.draining:
            self.world.lose(self.numbers[number])
        for number in self.down | self.draining:
            self.world.revive(self.numbers[number])
        for spec in ALL:
            self.world.join(spec)
        self.world.run_to_end()
        jobs = list(self.world.scheduler.jobs)
        assert all(found.state.final for found in jobs), [found for found in jobs if not found.state.final]
        self._check_order()

    def _check_order(self) -> None:
        first_start: dict[str, int] = {}
        succeeded: dict[str, int] = {}
        for at, event in enumerate(self.world.events):
            name, state = event.rsplit(" ", 1)
            if state == "SUCCEED":
                succeeded[name] = at
            elif state == "SCHEDULED":
                first_start.setdefault(name.partition(":")[0], at)
        for found in self.world.scheduler.jobs:
            for dependency in found.spec.after:
                started = first_start.get(found.spec.name)
                assert started is None or succeeded[dependency.job] < started


SchedulerMachine.TestCase.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
TestScheduler = SchedulerMachine.TestCase


def test_equal_inputs_give_equal_decisions() -> None:
    """So replaying a journal gives the state back."""

    def life() -> list[str]:
        world = World(*NODES)
        world.submit(*[job(f"j{i}", 1 + i % 3, count=1 + i % 4, priority=i % 2) for i in range(20)])
        world.cancel("j7")
        world.lose(1)
        world.run_to_end(exit_code=1)
        return world.events

    assert life() == life()
