"""How far calls are: a bar of tqdm where that is installed, in notebooks its widget; else a line of text.

`wait` and `as_completed` are those of `concurrent.futures` with it; they take futures of any executor.
"""

from __future__ import annotations

import concurrent.futures
import sys
import threading
import time
from collections.abc import Collection, Iterable, Iterator
from contextlib import nullcontext
from importlib.util import find_spec
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from concurrent.futures._base import DoneAndNotDoneFutures

AnyFuture = TypeVar("AnyFuture", bound="concurrent.futures.Future[Any]")
T = TypeVar("T")

_EVERY_S = 0.5


def wait(
    fs: Iterable[concurrent.futures.Future[T]],
    timeout: float | None = None,
    return_when: str = concurrent.futures.ALL_COMPLETED,
    *,
    progress: bool = False,
) -> DoneAndNotDoneFutures[T]:
    """As `concurrent.futures.wait`. `progress`: show how many of the futures are done, until this returns."""
    futures = set(fs)
    if not progress:
        return concurrent.futures.wait(futures, timeout, return_when)
    with Shown(futures) as shown:
        found = concurrent.futures.wait(futures, timeout, return_when)
        shown.end(len(found.done))
        return found


def as_completed(
    fs: Iterable[AnyFuture], timeout: float | None = None, *, progress: bool = False
) -> Iterator[AnyFuture]:
    """As `concurrent.futures.as_completed`. `progress`: show how many of the futures are done, until the last one is taken."""
    futures = list(set(fs))
    count = len(futures)
    with Shown(futures) if progress else nullcontext() as shown:
        # Each is let go when it is taken: a million results need not be in memory together.
        left: Iterator[Any] = _emptied(futures)
        taken: Iterator[Any] = concurrent.futures.as_completed(left, timeout)
        yield from taken
        if shown is not None:
            shown.end(count)


def _emptied(values: list[T]) -> Iterator[T]:
    while values:
        yield values.pop()


class Shown:
    """Inside the block a bar shows how many of these futures are done."""

    def __init__(self, futures: Collection[concurrent.futures.Future[Any]]) -> None:
        self._bar = new_bar(len(futures))
        self._lock = threading.Lock()
        self._is_open = True
        self._done = 0
        for future in futures:
            future.add_done_callback(self._count)

    def _count(self, _: object) -> None:
        with self._lock:
            if self._is_open:
                self._done += 1
                self._bar.update(1)

    def end(self, done: int) -> None:
        """So many are done: who waits for a future learns of it before its callbacks, which count here."""
        with self._lock:
            self._is_open = False
            self._bar.update(done - self._done)

    def __enter__(self) -> Shown:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._lock:
            self._is_open = False
            self._bar.close()


class Line:
    """As much of tqdm's bar as is used here: a line on stderr that is written anew twice a second, and at the end."""

    def __init__(self, total: int = 0) -> None:
        self.total = total
        self._done = 0
        self._last = 0.0

    def update(self, count: int) -> None:
        self._done += count
        if time.monotonic() - self._last >= _EVERY_S:
            self._write("")

    def close(self) -> None:
        self._write("\n")

    def _write(self, end: str) -> None:
        self._last = time.monotonic()
        print(f"\r{self._done}/{self.total} calls", end=end, file=sys.stderr, flush=True)


def new_bar(total: int = 0) -> Any:
    if find_spec("tqdm") is None:
        return Line(total)
    if find_spec("ipywidgets") is None:  # tqdm.auto would warn in a notebook
        from tqdm import tqdm
    else:
        from tqdm.auto import tqdm
    return tqdm(total=total, unit=" calls")


class Watched(concurrent.futures.Executor):
    """Submits the calls of one `map` and shows how many have ended; `in_chunks`: it gets chunks of arguments."""

    def __init__(self, executor: concurrent.futures.Executor, in_chunks: bool) -> None:
        self._executor = executor
        self._in_chunks = in_chunks
        self._bar = new_bar()
        self._lock = threading.RLock()
        self._left = 1
        """Calls that have not ended, and one for `all_submitted`."""

    def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> concurrent.futures.Future[Any]:
        count = len(args[0][0]) if self._in_chunks else 1
        with self._lock:
            self._bar.total += count
            self._left += 1
        future = self._executor.submit(fn, *args, **kwargs)
        future.add_done_callback(lambda _: self._ended(count))
        return future

    def all_submitted(self) -> None:
        self._ended(0)

    def _ended(self, count: int) -> None:
        with self._lock:
            self._left -= 1
            if count:
                self._bar.update(count)
            if not self._left:
                self._bar.close()
