"""Calls that are sent together: a job of the pilot, what stands for it here, and its bytes."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, NamedTuple

import msgpack

from ...pilot.functions import values
from .functions import Code
from .future import Future
from .inputs import Slot
from .options import Options


class Call(NamedTuple):
    """One call that waits to be sent.

    `how`: with its arguments, or with each of them (functions/worker.py); `slots`: the futures among them.
    """

    future: Future[Any]
    code: Code
    how: int
    arguments: bytes
    options: Options
    slots: Sequence[Slot] = ()
    key: bytes = b""
    """What it is, for an executor that is to find its calls again."""


class SentJob:
    """Calls that were sent together."""

    __slots__ = ("files", "found", "futures", "left", "needs")

    def __init__(self, calls: Sequence[Call], needs: Sequence[Future[Any]]) -> None:
        self.found: dict[int, tuple[bytes, str]] | None = None
        self.futures: list[Future[Any] | None] = [call.future for call in calls]
        self.left = len(calls)
        self.files = [path for call in calls if (path := values.file_of(call.arguments)) is not None]
        """Of large arguments: they are needed until all calls are over, which may be tried again."""
        self.needs = needs
        """Futures whose results it takes from the pilot."""

    @classmethod
    def of_earlier_life(cls, count: int) -> SentJob:
        """One whose calls nobody waits for yet; `found`: the results and states of those that have ended."""
        job = cls([], ())
        job.futures, job.left, job.found = [None] * count, count, {}
        return job

    def end(self) -> None:
        """All its calls are over, or it was refused."""
        for future in self.needs:
            future.drop_dependent()
        for path in self.files:
            with suppress(OSError):
                os.unlink(path)


def data_of(calls: Sequence[Call], given: Sequence[bytes | int]) -> bytes:
    """Functions and arguments as function workers read them. `given`: values, or places among what other calls return."""
    places: dict[bytes, int] = {}
    functions: list[tuple[bytes, bytes]] = []
    entries = []
    for call in calls:
        place = places.get(call.code.digest)
        if place is None:
            place = places[call.code.digest] = len(functions)
            functions.append((call.code.digest, call.code.data))
        slots = [(number, slot.path) for number, slot in enumerate(call.slots)]
        entries.append((place, call.how, call.arguments, slots))
    packed: bytes = msgpack.packb((functions, entries, given))
    return packed
