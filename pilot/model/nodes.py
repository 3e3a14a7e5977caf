"""What is free on the nodes, and whether a need fits now: the only place that takes and gives back what they have."""

# Node sets are ints used as bit masks (bit n is node n), like core sets. `_level[c]` is the set of usable nodes with
# exactly c free cores, so "which nodes have at least 4" is an OR over small integers and no walk over a thousand nodes.
#
# Where a node stands is one state (`Node.state`, states.py), and `move` is the only way to change it. `usable`, the set of
# nodes that are READY, and with it `_level`, `_any` and `free_count`, are indexes of the states and of what is free; they
# exist for speed, and invariants.py counts them again.
#
# Why bit masks and not lists of cores: taking the lowest three free cores of 128 is a handful of integer operations, and a
# grant is compared with what is free by one `&`. Why the lowest ids first: tasks that run side by side then share caches
# and sockets, and the choice is the same in each replay.
#
# Rejected: a heap of nodes by free cores. Each grant moves a node in it, O(log n) with a comparison in Python for each
# step; here it is two XORs.
#
# Example. Two nodes of 4 cores: `_level[4]` is 0b11. A task of 1 core: node 0, core 0; `_level[4]` is 0b10, `_level[3]`
# 0b01. A task of 4 cores now looks at `_level[4]` and finds node 1 without having looked at node 0.

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import islice

from .ids import NodeNo
from .job_spec import Need, Placement, Size
from .node import Node
from .node_times import NodeTimes
from .resources import GPU, UNUSED, NamedResource, NodeSpec, Share, Taken, bits, lowest, mask_of
from .states import NODE_TABLE, SERVED, NodeEvent, NodeState, illegal_event
from .stock import Stock, Stocks
from .topology import Group, choose, scattered, whole


class Nodes:
    """The nodes of the pilot. Work goes to those that are READY (`usable`).

    A node that has left for good keeps its number, by which results name it, and is never used again.
    `reserve_system_core` keeps core 0 of the first node out of everything (`--system-core`). `of_pool`: what no node has, and
    all share.
    """

    def __init__(
        self,
        specs: Iterable[NodeSpec] = (),
        reserve_system_core: bool = False,
        of_pool: Iterable[NamedResource] = (),
    ) -> None:
        self._all: list[Node] = []
        self.elastic = False
        """Nodes may yet come: what fits on none of those that are here waits for them instead of being refused."""
        self.in_state = [0] * len(NodeState)
        """Nodes by state."""
        self.specs: list[NodeSpec] = []
        """By number, those that have left included."""
        self.all_cores: list[int] = []
        self.system_cores = 0
        self.total_cores = 0
        """All cores that tasks can get, on usable nodes or not."""
        self.free_cores: list[int] = []
        self.free_mem: list[int] = []
        self.stocks = Stocks(of_pool)
        """GPUs, and all that has a name."""
        self.usable = 0
        """The set of nodes that are READY: an index of their states, kept by `move` alone."""
        self.free_count = 0
        """Free cores on usable nodes."""
        self._core_ids: dict[tuple[str, ...], tuple[str, ...]] = {}
        """Each list of ids once: nodes of 128 cores have 7 KiB of them, and all the same."""
        self._groups: dict[NodeNo, Sequence[Group]] = {}
        self._domains: dict[NodeNo, Sequence[Group]] = {}
        self._tagged: dict[tuple[str, ...], int] = {}
        self.size: list[int] = []
        """The cores of each that tasks can get."""
        self._level = [0]
        self._any = 0
        """Usable nodes with a free core: `with_at_least(1)`, kept up to date because most work asks for one core."""
        self._at_least: dict[int, int] = {}
        self.times = NodeTimes()
        self._system_core_on: NodeNo | None = None
        self._reserve_system_core = reserve_system_core
        for spec in specs:
            self.add(spec)

    def __getitem__(self, node: NodeNo) -> Node:
        return self._all[node]

    def __iter__(self) -> Iterator[Node]:
        """By number, those that have left included."""
        return iter(self._all)

    @property
    def here(self) -> Iterator[NodeNo]:
        """The numbers of the nodes that have not left, usable or not."""
        return (each.number for each in self._all if each.state is not NodeState.LEFT)

    @property
    def count(self) -> int:
        return len(self.specs) - self.in_state[NodeState.LEFT]

    def named(self) -> Iterator[Stock]:
        """All named resources, of the pool and of the nodes that have not left."""
        yield from self.stocks.pool.values()
        for node in self.here:
            yield from self.stocks.named(node)

    def is_served(self, node: NodeNo) -> bool:
        """Whether it has an agent that has reported."""
        return self._all[node].state in SERVED

    def serves(self, node: NodeNo) -> None:
        """Its agent is of use: earlier failures do not count any more."""
        record = self._all[node]
        record.failures, record.has_served = 0, True

    def namesakes(self, node: NodeNo, among: Iterable[NodeNo]) -> list[NodeNo]:
        """Of these nodes those of the same name: itself, and what a joined node was before it left and came again."""
        name = self.specs[node].name
        return [other for other in among if self.specs[other].name == name]

    def move(self, node: NodeNo, event: NodeEvent) -> None:
        """Let `event` happen to the node. Raises IllegalTransitionError before anything is changed."""
        record = self._all[node]
        before = record.state
        after = NODE_TABLE[event][before]
        if after is None:
            raise illegal_event(before, event, f"node {self.specs[node].name}")
        self.in_state[before] -= 1
        self.in_state[after] += 1
        record.state = after
        if (before is NodeState.READY) != (after is NodeState.READY):
            self._set_usable(node, after is NodeState.READY)
        if event is NodeEvent.REPORT:
            record.reason, record.has_come = "", True
        elif event is NodeEvent.LEAVE:
            self.total_cores -= self.size[node]
            record.expected.clear()
            self._tagged.clear()
            self.times.forget(node)
            if self._system_core_on == node:
                self._system_core_on, self.system_cores = None, 0

    @property
    def usable_count(self) -> int:
        """How many can be used now."""
        return self.usable.bit_count()

    def add(self, spec: NodeSpec) -> NodeNo:
        """A new node, EXPECTED; returns its number."""
        node = NodeNo(len(self.specs))
        cores = mask_of(len(spec.core_ids))
        if self._reserve_system_core and self._system_core_on is None:
            self._system_core_on, self.system_cores = node, 1
            cores &= ~1
        self._all.append(Node(node))
        self.in_state[NodeState.EXPECTED] += 1
        self.specs.append(self._with_ids(spec, spec.core_ids))
        self.all_cores.append(cores)
        self.free_cores.append(cores)
        self.free_mem.append(spec.mem_bytes)
        self.stocks.add_node(spec)
        self.size.append(cores.bit_count())
        self.total_cores += cores.bit_count()
        self._level += [0] * (cores.bit_count() + 1 - len(self._level))
        self._tagged.clear()
        return node

    def name_cores(self, node: NodeNo, core_ids: Sequence[str]) -> None:
        """Learn the real ids of its cores, to which tasks can be bound; so far they were only counted. Their number stays."""
        self.specs[node] = self._with_ids(replace(self.specs[node], bind=True), tuple(core_ids))

    def _with_ids(self, spec: NodeSpec, core_ids: tuple[str, ...]) -> NodeSpec:
        return replace(spec, core_ids=self._core_ids.setdefault(core_ids, core_ids))

    def set_groups(self, node: NodeNo, groups: Sequence[Group], domains: Sequence[Group] = ()) -> None:
        """Which of its cores and GPUs lie close together; nodes without groups have no such preference.

        `domains`: which have memory of their own (NUMA).
        """
        self._groups[node], self._domains[node] = groups, domains

    def _set_usable(self, node: NodeNo, usable: bool) -> None:
        bit = 1 << node
        count = self.free_cores[node].bit_count()
        self.usable ^= bit
        self._level[count] ^= bit
        if count:
            self._any ^= bit
        self.free_count += count if usable else -count
        self._at_least.clear()

    def with_at_least(self, cores: int) -> int:
        """The set of usable nodes with that many free cores."""
        if cores == 1:
            return self._any
        nodes = self._at_least.get(cores)
        if nodes is None:
            nodes = 0
            for level in self._level[cores:]:
                nodes |= level
            self._at_least[cores] = nodes
        return nodes

    def with_tags(self, tags: tuple[str, ...]) -> int:
        """The set of nodes that have all these tags, usable or not."""
        nodes = self._tagged.get(tags)
        if nodes is None:
            nodes = sum(1 << node for node in self.here if self.has_tags(node, tags))
            self._tagged[tags] = nodes
        return nodes

    def has_tags(self, node: int, tags: tuple[str, ...]) -> bool:
        """Whether the node has all of them."""
        return all(tag in self.specs[node].tags for tag in tags)

    def most_mem(self) -> int:
        """The most memory that one node has; 0 when some node does not tell."""
        amounts = [self.specs[node].mem_bytes for node in self.here]
        return max(amounts, default=0) if all(amounts) else 0

    # --- taking and giving back -----------------------------------------------------------------------------------------

    def take(self, shares: Sequence[Share]) -> None:
        """Mark as used what `find` returned."""
        for node, cores, gpus, mem_bytes, named in shares:
            self._set_free(node, self.free_cores[node] & ~cores)
            self.free_mem[node] -= mem_bytes
            if gpus:
                self.stocks.gpus[node].slots &= ~gpus
            if named:
                self.stocks.take(node, named)

    def take_single_cores(self, node: NodeNo, most: int) -> list[Share]:
        """Mark as used, and return, the first free cores of the node, at most so many."""
        shares = [Share(node, 1 << bit, 0, 0) for bit in islice(bits(self.free_cores[node]), most)]
        taken = sum(share.cores for share in shares)
        self._set_free(node, self.free_cores[node] & ~taken)
        return shares

    def give_back(self, shares: Sequence[Share]) -> None:
        for node, cores, gpus, mem_bytes, named in shares:
            self._set_free(node, self.free_cores[node] | cores)
            self.free_mem[node] += mem_bytes
            if gpus:
                self.stocks.gpus[node].slots |= gpus
            if named:
                self.stocks.give_back(node, named)

    def is_free(self, share: Share) -> bool:
        """Whether all of it could be taken."""
        node, cores, gpus, mem_bytes, named = share
        if self.specs[node].mem_bytes and mem_bytes > self.free_mem[node]:
            return False
        is_free = not cores & ~self.free_cores[node] and not gpus & ~self.stocks.gpus[node].slots
        return is_free and self.stocks.is_free(node, named)

    def without_taken(self, share: Share) -> Share:
        """`share` without what it has of the pool and others have taken meanwhile."""
        pool = self.stocks.pool
        return share._replace(
            named=tuple(taken for taken in share.named if taken.name not in pool or pool[taken.name].is_free(taken))
        )

    def _set_free(self, node: NodeNo, free: int) -> None:
        before, after = self.free_cores[node].bit_count(), free.bit_count()
        self.free_cores[node] = free
        bit = 1 << node
        if before != after and self.usable & bit:
            self._level[before] ^= bit
            self._level[after] ^= bit
            if not before or not after:
                self._any ^= bit
            self.free_count += after - before
            self._at_least.clear()

    # --- fitting --------------------------------------------------------------------------------------------------------

    def find(self, need: Need, without: int = 0) -> tuple[Share, ...] | None:
        """Where `need` fits now, leaving the node set `without` alone; None when it does not.

        Nodes in order and lowest free ids first; a need for cores anywhere is kept on one node if one can hold it.
        """
        if self.free_count == 0:
            return None
        if need.tags:
            without |= ~self.with_tags(need.tags)
        if need.named:
            return self._find_named(need, without)
        return self._find(need, without)

    def _find_named(self, need: Need, without: int) -> tuple[Share, ...] | None:
        """`find`, and what is the pool's goes with the first share."""
        if not self.stocks.pool_fits(need):
            return None
        shares = self._find(need, without)
        of_pool = self.stocks.choose_of_pool(need)
        if shares is None or not of_pool:
            return shares
        return (shares[0]._replace(named=shares[0].named + of_pool), *shares[1:])

    def _find(self, need: Need, without: int) -> tuple[Share, ...] | None:
        if need.nodes is not None:
            return self._find_nodes(need, need.nodes, without)
        if self.is_per_node(need):
            return self._find_nodes(need, _ONE, without)
        assert need.cores is not None
        return self._find_anywhere(need.cores, without, need.placement is Placement.SCATTER)

    def is_per_node(self, need: Need) -> bool:
        """Whether something is needed of each node of the task, so that it is kept on one if it does not say how many."""
        if need.placement.is_per_node:
            return True
        return bool(need.gpus or need.mem_bytes or (need.named and self.stocks.of_node(need)))

    def _find_anywhere(self, cores: Size, without: int, scatter: bool) -> tuple[Share, ...] | None:
        wanted = cores.min if cores.max is None else cores.max
        whole = self.with_at_least(wanted) & ~without if wanted < len(self._level) else 0
        if whole and cores.max is not None:
            node = NodeNo(next(self._emptiest(whole)) if scatter else (whole & -whole).bit_length() - 1)
            free = self.free_cores[node]
            if scatter:
                return (Share(node, scattered(self._groups.get(node, ()), free, wanted), 0, 0),)
            return (Share(node, free & -free if wanted == 1 else self._choose(node, free, wanted, 0, ()).cores, 0, 0),)
        if self.free_count < cores.min:
            return None
        left = self.free_count if cores.max is None else cores.max
        shares = []
        there = self.with_at_least(1) & ~without
        for number in self._emptiest(there) if scatter else bits(there):
            node = NodeNo(number)
            count = min(left, self.free_cores[node].bit_count())
            shares.append(Share(node, lowest(self.free_cores[node], count), 0, 0))
            left -= count
            if left == 0:
                break
        got = sum(share.cores.bit_count() for share in shares)
        return tuple(shares) if got >= cores.min else None

    def _find_nodes(self, need: Need, nodes: Size, without: int) -> tuple[Share, ...] | None:
        """Per-node needs: each node gives cores (all of them when `need.cores` is None), GPUs and memory."""
        candidates = self.with_at_least(max(1, need.cores.min) if need.cores else 1) & ~without
        if candidates.bit_count() < nodes.min:
            return None
        shares: list[Share] = []
        wants = self.stocks.of_node(need) if need.named else ()
        scatter, alone = need.placement is Placement.SCATTER, need.placement is Placement.EXCLUSIVE
        for number in self._emptiest(candidates) if scatter else bits(candidates):
            node = NodeNo(number)
            free = self.free_cores[node]
            if (alone or need.cores is None) and free != self.all_cores[node]:
                continue
            if need.gpus > self.stocks.gpus[node].free or need.mem_bytes > self._free_mem_of(node, need):
                continue
            if wants and not self.stocks.node_fits(node, wants):
                continue
            most = need.cores.max if need.cores is not None else None
            count = free.bit_count() if most is None else min(most, free.bit_count())
            if need.placement in _ON_WHOLE:
                free = self._whole(node, need)
                count = free.bit_count()
                if not free:
                    continue
            named = self.stocks.choose_of_node(node, wants) if wants else ()
            chosen = self._choose(node, free, count, need.gpus, named)
            if scatter:
                chosen = Group(scattered(self._groups.get(node, ()), free, count), chosen.gpus)
            if alone and chosen.cores != free:
                named += (Taken(UNUSED, 0, free & ~chosen.cores),)
                chosen = Group(free, chosen.gpus)
            shares.append(Share(node, *chosen, need.mem_bytes, named))
            if len(shares) == nodes.max:
                break
        return tuple(shares) if len(shares) >= nodes.min else None

    def _whole(self, node: NodeNo, need: Need) -> int:
        """The cores of as many whole sockets, or NUMA domains, as `need` takes; 0 when not enough of them are free."""
        groups = (self._domains if need.placement is Placement.NUMA else self._groups).get(node, ())
        least = self.size[node] if need.cores is None else max(1, need.cores.min)
        return whole(groups, self.all_cores[node], self.free_cores[node], least)

    def whole_is_free(self, node: NodeNo, need: Need) -> bool:
        return need.placement not in _ON_WHOLE or self._whole(node, need) != 0

    def _emptiest(self, nodes: int) -> Iterator[int]:
        """Of these usable nodes those with most free cores first."""
        for level in reversed(self._level):
            yield from bits(level & nodes)

    def _choose(self, node: NodeNo, free_cores: int, cores: int, gpus: int, named: Sequence[Taken]) -> Group:
        """Some of these cores, and whole GPUs; cores close to the GPU of which `named` has a part."""
        groups = self._groups.get(node, ())
        part = next((taken.slots for taken in named if taken.name == GPU), 0)
        if part and not gpus:
            return Group(choose(groups, Group(free_cores, part), cores, 1).cores, 0)
        return choose(groups, Group(free_cores, self.stocks.gpus[node].slots), cores, gpus)

    def _free_mem_of(self, node: NodeNo, need: Need) -> int:
        """On nodes whose memory is not known it is not counted: every need fits there."""
        return self.free_mem[node] if self.specs[node].mem_bytes else need.mem_bytes


_ONE = Size.exactly(1)
_ON_WHOLE = (Placement.SOCKET, Placement.NUMA)
