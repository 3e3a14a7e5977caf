"""The calls that earlier lives of an executor with a name have sent: their results are those of the same calls of now."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Any

from ...pilot.wire import replies
from .future import Future, settle
from .sent_job import KEY_BYTES, Call, SentJob


class EarlierCalls:
    """`jobs`: those of the earlier lives, by name, as the pilot lists them."""

    def __init__(self, jobs: Sequence[replies.CallJob]) -> None:
        self.jobs: dict[str, SentJob] = {}
        self._places: dict[bytes, deque[tuple[str, int]]] = {}
        """By what the calls are: jobs and positions."""
        self._known: list[tuple[Future[Any], bytes]] = []
        """Calls of now whose results are here already."""
        for job in jobs:
            self.jobs[job.job] = SentJob.of_earlier_life(job.count)
            for pos in range(len(job.keys) // KEY_BYTES):
                key = job.keys[pos * KEY_BYTES : (pos + 1) * KEY_BYTES]
                self._places.setdefault(key, deque()).append((job.job, pos))

    def takes_over(self, call: Call) -> bool:
        """Whether an earlier life of this executor has made the same call: then its result is that of this one.

        One that has failed is made again. The caller holds the lock under which ends are taken.
        """
        places = self._places.get(call.key)
        while places:
            name, pos = places.popleft()
            job = self.jobs[name]
            assert job.found is not None
            ended = job.found.get(pos)
            if ended is not None and ended[1] != "SUCCEED":
                continue
            call.future.task = f"{name}:{pos}"
            if ended is None:
                job.futures[pos] = call.future
            else:
                self._known.append((call.future, ended[0]))
            return True
        return False

    def settle(self) -> int:
        """Give the calls that were taken over the results that are here already; returns how many these are."""
        known, self._known = self._known, []
        for future, data in known:
            settle(future, data, keep=True)
        return len(known)
