"""Tables of millions of entries that grow a little at a time.

A dictionary that is full becomes a larger one at once: with 700,000 names that takes a tenth of a second, in which nobody is
served. So a large one here is many small ones. An access costs a tenth of a microsecond more.

Rejected: to make dictionaries large from the beginning, which Python has no way for, and which every pilot would pay for.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain
from typing import Generic, TypeVar

V = TypeVar("V")

_PARTS = 256
_SMALL = 4096
"""Up to so many entries are in one dictionary: most tables have few."""
_IN_CHUNK_BITS = 10


class ByName(Generic[V]):
    """As a dictionary with texts for keys. What is in it has no order."""

    __slots__ = ("_mask", "_parts")

    def __init__(self) -> None:
        self._parts: list[dict[str, V]] = [{}]
        self._mask = 0

    def get(self, name: str) -> V | None:
        return self._parts[hash(name) & self._mask].get(name)

    def __contains__(self, name: str) -> bool:
        return name in self._parts[hash(name) & self._mask]

    def __getitem__(self, name: str) -> V:
        return self._parts[hash(name) & self._mask][name]

    def __setitem__(self, name: str, value: V) -> None:
        part = self._parts[hash(name) & self._mask]
        part[name] = value
        if not self._mask and len(part) > _SMALL:
            self._mask = _PARTS - 1
            self._parts = [{} for _ in range(_PARTS)]
            for each, its_value in part.items():
                self._parts[hash(each) & self._mask][each] = its_value

    def __delitem__(self, name: str) -> None:
        del self._parts[hash(name) & self._mask][name]

    def __iter__(self) -> Iterator[str]:
        return chain.from_iterable(self._parts)

    def __len__(self) -> int:
        return sum(map(len, self._parts))


class ByNumber(Generic[V]):
    """As a dictionary with numbers for keys, most of which follow each other; by chunks of neighbours."""

    __slots__ = ("_chunks",)

    def __init__(self) -> None:
        self._chunks: dict[int, dict[int, V]] = {}

    def get(self, number: int) -> V | None:
        chunk = self._chunks.get(number >> _IN_CHUNK_BITS)
        return None if chunk is None else chunk.get(number)

    def __contains__(self, number: object) -> bool:
        return isinstance(number, int) and number in self._chunks.get(number >> _IN_CHUNK_BITS, ())

    def __setitem__(self, number: int, value: V) -> None:
        self._chunks.setdefault(number >> _IN_CHUNK_BITS, {})[number] = value

    def __delitem__(self, number: int) -> None:
        chunk = self._chunks[number >> _IN_CHUNK_BITS]
        del chunk[number]
        if not chunk:
            del self._chunks[number >> _IN_CHUNK_BITS]

    def __iter__(self) -> Iterator[int]:
        """The numbers in ascending order."""
        return chain.from_iterable(sorted(self._chunks[key]) for key in sorted(self._chunks))

    def __len__(self) -> int:
        return sum(map(len, self._chunks.values()))
