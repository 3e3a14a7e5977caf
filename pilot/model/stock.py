"""What is free of one resource of one place: of a node's GPUs, or of a named resource of a node or of the pool."""

# A slot (a thing with an id) is wholly free (`slots`), given out as a whole, or *shared*: then `left` has how much of it is
# free, more than nothing or not. It is wholly free again once all its parts are back, in whatever order.
#
# Parts are taken of the shared slot that has least left and enough: the others stay whole for those who want the whole of
# one, as long as that is possible.

from __future__ import annotations

from collections.abc import Collection, Iterable

from .job_spec import Need, Want
from .resources import APART, GPU, PARTS, UNUSED, NamedResource, NodeSpec, Taken, is_condition, lowest, mask_of


class Stock:
    """What is free of a resource. `choose` says what to take, `take` takes it."""

    __slots__ = ("amount", "left", "resource", "slots")

    def __init__(self, resource: NamedResource) -> None:
        self.resource = resource
        self.amount = resource.amount
        self.slots = mask_of(len(resource.ids))
        """Those that are wholly free."""
        self.left: dict[int, int] = {}
        """Of those that are shared: how many parts are free."""

    def __repr__(self) -> str:
        return f"<Stock {self.resource.name} {self.free}/{self.resource.total} {self.left}>"

    @property
    def free(self) -> int:
        """How many are wholly free, or how much is."""
        return self.slots.bit_count() + self.amount

    @property
    def has_all(self) -> bool:
        """Nothing of it is given out."""
        return self.free == self.resource.total and not self.left

    def fits(self, want: Want) -> bool:
        """Whether it is free now."""
        if want.parts:
            return self.slots != 0 or any(left >= want.parts for left in self.left.values())
        return want.amount <= self.free

    def could_fit(self, want: Want) -> bool:
        """Whether it would be if all were free."""
        return bool(self.resource.ids) if want.parts else want.amount <= self.resource.total

    def choose(self, want: Want) -> Taken:
        """What to take for something that fits."""
        if not want.parts:
            if self.resource.ids:
                return Taken(want.name, 0, lowest(self.slots, want.amount))
            return Taken(want.name, want.amount)
        shared = [(left, slot) for slot, left in self.left.items() if left >= want.parts]
        slots = 1 << min(shared)[1] if shared else self.slots & -self.slots
        return Taken(want.name, 0, slots, want.parts)

    def is_free(self, taken: Taken) -> bool:
        if not taken.parts or taken.slots & self.slots:
            return taken.amount <= self.amount and not taken.slots & ~self.slots
        return self.left.get(taken.slots.bit_length() - 1, 0) >= taken.parts

    def take(self, taken: Taken) -> None:
        self.amount -= taken.amount
        self.slots &= ~taken.slots
        if taken.parts:
            slot = taken.slots.bit_length() - 1
            self.left[slot] = self.left.get(slot, PARTS) - taken.parts

    def give_back(self, taken: Taken) -> None:
        if not taken.parts:
            self.amount += taken.amount
            self.slots |= taken.slots
            return
        slot = taken.slots.bit_length() - 1
        left = self.left.pop(slot) + taken.parts
        if left == PARTS:
            self.slots |= taken.slots
        else:
            self.left[slot] = left


class Stocks:
    """All of them: those of the pool, and for each node its GPUs and its named resources.

    A name of the pool's is never one of a node's; who brings a node is told so where it comes in.
    """

    def __init__(self, pool: Iterable[NamedResource]) -> None:
        self.pool = {resource.name: Stock(resource) for resource in pool}
        self.gpus: list[Stock] = []
        """By node, those that have left included."""
        self._of_node: list[dict[str, Stock]] = []
        self.apart: set[tuple[int, str]] = set()
        """Which nodes have a task that is to be apart from others, by node and name."""

    def add_node(self, spec: NodeSpec) -> None:
        self.gpus.append(Stock(NamedResource(GPU, spec.gpu_ids)))
        self._of_node.append({resource.name: Stock(resource) for resource in spec.named} if spec.named else _NONE)

    def of_node(self, need: Need) -> tuple[Want, ...]:
        """What of the named resources that are needed is needed of each node."""
        return tuple(want for want in need.named if want.name not in self.pool) if self.pool else need.named

    def of_pool(self, need: Need) -> tuple[Want, ...]:
        """What of them is needed once, of the pool."""
        return tuple(want for want in need.named if want.name in self.pool) if self.pool else ()

    def named(self, node: int) -> Collection[Stock]:
        return self._of_node[node].values()

    def get(self, node: int, name: str) -> Stock | None:
        """None: the node has no such thing."""
        return self.gpus[node] if name == GPU else self._of_node[node].get(name)

    def node_fits(self, node: int, wants: Iterable[Want]) -> bool:
        """Whether the node has all of these free."""
        return all(self._fits(node, want) for want in wants)

    def _fits(self, node: int, want: Want) -> bool:
        if want.name.startswith(APART):
            return (node, want.name) not in self.apart
        stock = self.get(node, want.name)
        return stock is not None and stock.fits(want)

    def node_could_fit(self, node: int, wants: Iterable[Want]) -> bool:
        """Whether it would, if all were free."""
        stocks = [(self.get(node, want.name), want) for want in wants if not is_condition(want.name)]
        return all(stock is not None and stock.could_fit(want) for stock, want in stocks)

    def pool_fits(self, need: Need) -> bool:
        return all(self.pool[want.name].fits(want) for want in self.of_pool(need))

    def choose_of_node(self, node: int, wants: Iterable[Want]) -> tuple[Taken, ...]:
        """For wants that fit."""
        return tuple(self._choose(node, want) for want in wants)

    def _choose(self, node: int, want: Want) -> Taken:
        stock = self.get(node, want.name)
        return Taken(want.name, 1) if stock is None else stock.choose(want)

    def choose_of_pool(self, need: Need) -> tuple[Taken, ...]:
        return tuple(self.pool[want.name].choose(want) for want in self.of_pool(need))

    def take(self, node: int, named: Iterable[Taken]) -> None:
        for taken in named:
            if not is_condition(taken.name):
                self.of(node, taken).take(taken)
            elif taken.name != UNUSED:
                self.apart.add((node, taken.name))

    def give_back(self, node: int, named: Iterable[Taken]) -> None:
        for taken in named:
            if not is_condition(taken.name):
                self.of(node, taken).give_back(taken)
            elif taken.name != UNUSED:
                self.apart.remove((node, taken.name))

    def is_free(self, node: int, named: Iterable[Taken]) -> bool:
        return all(
            (node, taken.name) not in self.apart if is_condition(taken.name) else self.of(node, taken).is_free(taken)
            for taken in named
        )

    def of(self, node: int, taken: Taken) -> Stock:
        """Whose it was: the pool's, or this node's."""
        stock = self.pool.get(taken.name) or self.get(node, taken.name)
        assert stock is not None, f"nobody has {taken.name}"
        return stock


_NONE: dict[str, Stock] = {}
"""Of all nodes that have nothing; nobody writes to it."""
