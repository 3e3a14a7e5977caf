"""What must hold after every event, as code: run by the property tests after each step, and under `--debug-checks`."""

# Each check counts anew, from the facts, what some index or counter claims: this file believes nothing that is kept for
# speed. It is slow on purpose, O(everything). It has no rules that no sequence of events can break, and every rule that a
# mistake has once broken.

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from .errors import InternalError
from .ids import NodeNo
from .queue import all_pendings
from .resources import GPU, PARTS, UNUSED, Taken, bits, is_condition
from .scheduler import Scheduler
from .states import AWAITED, SERVED, AttemptState, NodeState, State
from .stock import Stock


def check(scheduler: Scheduler) -> None:
    """Raises AssertionError naming the first rule that is broken."""
    _check_nodes(scheduler)
    _check_stocks(scheduler)
    _check_attempts(scheduler)
    _check_tables_of_nodes(scheduler)
    _check_shapes(scheduler)
    _check_lost(scheduler)
    _check_counters(scheduler)


def require(scheduler: Scheduler) -> None:
    """`check` for a running manager. Raises InternalError: what was decided must be neither written down nor done."""
    try:
        check(scheduler)
    except AssertionError as error:
        remedy = "report it with the journal, which ends before the mistake; --resume goes on from there"
        raise InternalError(f"an invariant is broken: {error}", remedy=remedy) from error


def _check_nodes(scheduler: Scheduler) -> None:
    """No core or byte is given out twice, and none leaks: free and granted make the whole."""
    nodes = scheduler.nodes
    sizes = [nodes.all_cores[number].bit_count() for number in nodes.here]
    assert nodes.total_cores == sum(sizes), "the cores of the nodes are miscounted"
    for number, spec in enumerate(nodes.specs):
        cores, mem = nodes.free_cores[number], nodes.free_mem[number]
        for grant in scheduler.dispatch.grants.values():
            for share in grant.shares:
                if share.node == NodeNo(number):
                    assert not cores & share.cores, f"core of {spec.name} given out twice"
                    cores |= share.cores
                    mem += share.mem_bytes
        assert cores == nodes.all_cores[number], f"core of {spec.name} lost"
        assert mem == spec.mem_bytes or not spec.mem_bytes, f"memory of {spec.name} lost"
        assert not spec.mem_bytes or nodes.free_mem[number] >= 0, f"memory of {spec.name} given out twice"
    usable = [each.number for each in nodes if each.state is NodeState.READY]
    assert nodes.usable == sum(1 << number for number in usable), "usable nodes are not those that are READY"
    assert nodes.in_state == [sum(each.state is state for each in nodes) for state in NodeState], "nodes miscounted"
    assert nodes.free_count == sum(nodes.free_cores[n].bit_count() for n in usable), "free cores miscounted"
    with_free = sum(1 << n for n in usable if nodes.free_cores[n])
    assert nodes.with_at_least(1) == with_free, "nodes with free cores miscounted"


def _check_stocks(scheduler: Scheduler) -> None:
    """The same of GPUs and named resources, of nodes and of the pool: to the last part of a GPU."""
    stocks, specs = scheduler.nodes.stocks, scheduler.nodes.specs
    granted: dict[tuple[int, str], list[Taken]] = {}
    apart: list[tuple[int, str]] = []
    for grant in scheduler.dispatch.grants.values():
        for share in grant.shares:
            whole_gpus = (Taken(GPU, 0, share.gpus),) if share.gpus else ()
            for taken in (*share.named, *whole_gpus):
                if is_condition(taken.name):
                    apart += [(share.node, taken.name)] * (taken.name != UNUSED)
                    continue
                node = _POOL if taken.name in stocks.pool else share.node
                granted.setdefault((node, taken.name), []).append(taken)
    every = [(_POOL, stock) for stock in stocks.pool.values()]
    every += [(node, stock) for node in range(len(specs)) for stock in (stocks.gpus[node], *stocks.named(node))]
    for node, stock in every:
        place = "the pool" if node == _POOL else specs[node].name
        _check_stock(stock, granted.pop((node, stock.resource.name), []), f"{stock.resource.name} of {place}")
    assert len(apart) == len(set(apart)), f"two together on a node that are to be apart: {apart}"
    assert stocks.apart == set(apart), "what is to be apart is miscounted"
    assert not granted, f"granted and nobody has it: {list(granted)}"


def _check_stock(stock: Stock, granted: Iterable[Taken], what: str) -> None:
    assert stock.amount >= 0, f"{what} given out twice"
    free = dict.fromkeys(bits(stock.slots), PARTS)
    assert not free.keys() & stock.left.keys(), f"{what} is free and shared"
    free |= stock.left
    amount = stock.amount
    for taken in granted:
        amount += taken.amount
        for slot in bits(taken.slots):
            free[slot] = free.get(slot, 0) + (taken.parts or PARTS)
    assert all(parts <= PARTS for parts in free.values()), f"{what} given out twice"
    assert free == dict.fromkeys(range(len(stock.resource.ids)), PARTS), f"{what} lost"
    assert amount == stock.resource.amount, f"{what} lost"
    assert all(0 <= left < PARTS for left in stock.left.values()), f"{what} is shared by nobody"


_POOL = -1
"""Stands for the pool where nodes have numbers."""


_STATES_OF_TASK = {
    AttemptState.SENT: {State.SCHEDULED},
    AttemptState.IN_DOUBT: {State.SCHEDULED},
    AttemptState.RUNNING: {State.EXECUTING},
    AttemptState.CANCELING: {State.SCHEDULED, State.EXECUTING},
    AttemptState.BROKEN: {State.EXECUTING},
}
"""What the task of an attempt in flight can be."""


def _check_attempts(scheduler: Scheduler) -> None:
    """An attempt in flight belongs to a task that is, and each grant runs at most one."""
    dispatch = scheduler.dispatch
    used: Counter[int] = Counter()
    in_flight = 0
    for key, attempt in dispatch.attempts.items():
        assert attempt.job.tasks.run(key.pos) == key.run, f"{attempt} is not the latest attempt"
        state = attempt.job.tasks.state(key.pos)
        assert state in _STATES_OF_TASK.get(attempt.state, ()), f"{attempt} is {state.name}"
        is_canceled = attempt.job.canceling and attempt.job.no not in scheduler.being_canceled
        cancels = is_canceled and attempt.state is not AttemptState.CANCELING
        assert not cancels, f"{attempt} of a cancelled job is not being stopped"
        home = scheduler.nodes[attempt.node].state
        assert home in SERVED or home in AWAITED, f"{attempt}, which is {home.name}"
        if attempt.grant is not None and state is State.EXECUTING:
            used[attempt.grant.grant_id] += 1
        in_flight += 1
    assert all(count == 1 for count in used.values()), "two tasks on one grant"
    tasks_in = scheduler.jobs.tasks_in
    assert in_flight == tasks_in[State.SCHEDULED] + tasks_in[State.EXECUTING], "tasks in flight without an attempt"
    pools = Counter(grant.pool for grant in dispatch.grants.values())
    for pool in dispatch.pools.values():
        assert pool.grants == pools[pool.pool_id], "grants of a pool miscounted"
        assert all(key in dispatch.attempts for key in pool.unstarted), "a pool waits for an attempt that is over"


def _check_tables_of_nodes(scheduler: Scheduler) -> None:
    """What a node has is found without a look through everything, and is all that it has."""
    dispatch = scheduler.dispatch
    attempts = Counter((attempt.node, key) for key, attempt in dispatch.attempts.items())
    grants = Counter((grant.shares[0].node, number) for number, grant in dispatch.grants.items())
    pools = Counter((pool.node, number) for number, pool in dispatch.pools.items())
    numbers = [node.number for node in scheduler.nodes]
    assert attempts == Counter((node, each.key) for node in numbers for each in dispatch.attempts_on(node)), "attempts"
    assert grants == Counter((node, each.grant_id) for node in numbers for each in dispatch.grants_at.of(node)), (
        "grants"
    )
    assert pools == Counter((node, each.pool_id) for node in numbers for each in dispatch.pools_at.of(node)), "pools"


def _check_shapes(scheduler: Scheduler) -> None:
    """Shapes and pools live only with work: what is over costs nothing."""
    shapes = {id(shape): shape for shape in scheduler.queue}
    users: Counter[int] = Counter()
    for job in scheduler.jobs:
        for pending in all_pendings(job):
            for entry in pending.entries:
                assert id(entry.shape) in shapes, f"{job} waits in a shape that was forgotten"
                users[id(entry.shape)] += 1
    for number, shape in shapes.items():
        assert shape.users == users[number], f"users of {shape.need} miscounted"
        for node, pool in shape.pools.items():
            assert scheduler.dispatch.pools.get(pool.pool_id) is pool, "a pool that only its shape knows"
            assert pool.node == node, "a pool listed under another node"
    assert all(id(pool.shape) in shapes for pool in scheduler.dispatch.pools.values()), "a pool of a forgotten shape"


def _check_lost(scheduler: Scheduler) -> None:
    """Nothing lost outlives its node, or its task: what nobody can report any more costs nothing."""
    for attempt in scheduler.lost:
        assert attempt.state in (AttemptState.LOST, AttemptState.EXCUSED), f"{attempt} is kept as lost"
        assert scheduler.jobs.by_no(attempt.key.job_no) is attempt.job, f"{attempt} of a job that was removed"
        assert not attempt.job.tasks.state(attempt.key.pos).final, f"{attempt} of a task that is over"
        home = scheduler.nodes[attempt.node]
        over = SERVED | {NodeState.GIVEN_UP}
        if not scheduler.nodes.specs[home.number].joined:
            over |= {NodeState.LEFT}
        assert home.state not in over, f"{attempt}, which is {home.state.name}"


def _check_counters(scheduler: Scheduler) -> None:
    tasks: Counter[State] = Counter()
    jobs: Counter[State] = Counter()
    for job in scheduler.jobs:
        states = [job.tasks.state(pos) for pos in range(job.spec.task_count)]
        tasks.update(states)
        jobs[job.state] += 1
        finals = sum(state.final for state in states)
        assert job.finished == finals, f"{job} miscounts its endings"
        assert job.failed == sum(state.final and state is not State.SUCCEED for state in states), f"{job} miscounts"
        assert job.state.final == (finals == len(states)), f"{job} should have ended, or should not"
    assert scheduler.jobs.tasks_in == [tasks[state] for state in State], "task counters are off"
    assert scheduler.jobs.jobs_in == [jobs[state] for state in State], "job counters are off"
