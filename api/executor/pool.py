"""`Pool`: the interface of `multiprocessing.Pool` on an executor, for programs that take a pool and call its `map`."""

from __future__ import annotations

import concurrent.futures
import multiprocessing
import queue
import weakref
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import chain
from threading import Lock
from types import TracebackType
from typing import Any, Generic, TypeVar

from .executor import Chunks, Executor, chunks_of
from .future import Future

T = TypeVar("T")

_CHUNKS_PER_CORE = 4
"""So many tasks for each core, unless `chunksize` is given: few cost less, many even out."""


class Pool:
    """A pool of function workers on the cores of a pilot, with the methods of `multiprocessing.Pool`.

    As a context manager it is terminated at the end, as that one is.

    Args:
        processes: how many cores of this machine it uses; None: all, or those of the allocation in which this runs.
        initializer: called in each function worker before its first call, with `initargs`.
        maxtasksperchild: after so many calls a function worker is replaced.
        executor: use this one, and leave it open at the end; `executor.options(...)` says what each call asks for.
        settings: others of Executor (`connect`, `name`, `cache`, ...).

    Raises:
        ValueError, TypeError: for an argument that makes no sense.
    """

    def __init__(
        self,
        processes: int | None = None,
        initializer: Callable[..., object] | None = None,
        initargs: Iterable[Any] = (),
        maxtasksperchild: int | None = None,
        *,
        executor: Executor | None = None,
        **settings: Any,
    ) -> None:
        self._owned: Executor | None = None
        if executor is None:
            executor = self._owned = Executor(processes, initializer=initializer, initargs=tuple(initargs), **settings)
        elif processes is not None or initializer is not None or settings:
            raise TypeError("an executor that is given has its workers already: leave out the other arguments")
        self._executor = executor if maxtasksperchild is None else executor.options(max_calls=maxtasksperchild)
        self._is_open = True
        self._futures: weakref.WeakSet[Future[Any]] = weakref.WeakSet()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._executor!r}>"

    def __enter__(self) -> Pool:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.terminate()

    # --- calls --------------------------------------------------------------------------------------------------------------

    def apply(self, func: Callable[..., T], args: Iterable[Any] = (), kwds: Mapping[str, Any] | None = None) -> T:
        return self.apply_async(func, args, kwds).get()

    def apply_async(
        self,
        func: Callable[..., T],
        args: Iterable[Any] = (),
        kwds: Mapping[str, Any] | None = None,
        callback: Callable[[T], object] | None = None,
        error_callback: Callable[[BaseException], object] | None = None,
    ) -> PoolResult[T]:
        self._need_open()
        future = self._executor.submit(func, *args, **(kwds or {}))
        self._futures.add(future)
        return PoolResult([future], future.result, callback, error_callback)

    def map(self, func: Callable[[Any], T], iterable: Iterable[Any], chunksize: int | None = None) -> list[T]:
        return self.map_async(func, iterable, chunksize).get()

    def map_async(
        self,
        func: Callable[[Any], T],
        iterable: Iterable[Any],
        chunksize: int | None = None,
        callback: Callable[[list[T]], object] | None = None,
        error_callback: Callable[[BaseException], object] | None = None,
    ) -> PoolResult[list[T]]:
        return self._gathered(func, zip(iterable, strict=True), chunksize, callback, error_callback)

    def starmap(
        self, func: Callable[..., T], iterable: Iterable[Iterable[Any]], chunksize: int | None = None
    ) -> list[T]:
        return self.starmap_async(func, iterable, chunksize).get()

    def starmap_async(
        self,
        func: Callable[..., T],
        iterable: Iterable[Iterable[Any]],
        chunksize: int | None = None,
        callback: Callable[[list[T]], object] | None = None,
        error_callback: Callable[[BaseException], object] | None = None,
    ) -> PoolResult[list[T]]:
        return self._gathered(func, map(tuple, iterable), chunksize, callback, error_callback)

    def imap(self, func: Callable[[Any], T], iterable: Iterable[Any], chunksize: int = 1) -> PoolIterator[T]:
        """The results in order, as they come. All calls are submitted at once."""
        waiting = deque(self._submit(func, zip(iterable, strict=True), chunksize))

        def take(timeout: float | None) -> list[T]:
            if not waiting:
                raise StopIteration
            if not waiting[0].done():
                concurrent.futures.wait([waiting[0]], timeout)
            if not waiting[0].done():
                raise multiprocessing.TimeoutError
            return waiting.popleft().result()

        return PoolIterator(take)

    def imap_unordered(self, func: Callable[[Any], T], iterable: Iterable[Any], chunksize: int = 1) -> PoolIterator[T]:
        """As `imap`, in the order in which the calls end."""
        ended: queue.SimpleQueue[concurrent.futures.Future[list[T]]] = queue.SimpleQueue()
        futures = self._submit(func, zip(iterable, strict=True), chunksize)
        for future in futures:
            future.add_done_callback(ended.put)
        left = len(futures)

        def take(timeout: float | None) -> list[T]:
            nonlocal left
            if not left:
                raise StopIteration
            try:
                future = ended.get(timeout=timeout)
            except queue.Empty:
                raise multiprocessing.TimeoutError from None
            left -= 1
            return future.result()

        return PoolIterator(take)

    def _gathered(
        self,
        func: Callable[..., T],
        calls: Iterator[tuple[Any, ...]],
        chunksize: int | None,
        callback: Callable[[list[T]], object] | None,
        error_callback: Callable[[BaseException], object] | None,
    ) -> PoolResult[list[T]]:
        if chunksize is None:
            self._need_open()
            known = list(calls)
            share = _CHUNKS_PER_CORE * self._executor.pilot.resources()["total_cores"]
            calls, chunksize = iter(known), max(1, -(-len(known) // share))
        futures = self._submit(func, calls, chunksize)

        def collect() -> list[T]:
            return list(chain.from_iterable(future.result() for future in futures))

        return PoolResult(futures, collect, callback, error_callback)

    def _submit(
        self, func: Callable[..., T], calls: Iterator[tuple[Any, ...]], chunksize: int
    ) -> list[Future[list[T]]]:
        self._need_open()
        if chunksize < 1:
            raise ValueError(f"Chunksize must be 1+, not {chunksize}")
        chunks = Chunks(self._executor)
        futures = [chunks.submit(func, chunk) for chunk in chunks_of(calls, chunksize)]
        self._futures.update(futures)
        return futures

    def _need_open(self) -> None:
        if not self._is_open:
            raise ValueError("Pool not running")

    # --- the end ------------------------------------------------------------------------------------------------------------

    def close(self) -> None:
        """Take no more calls."""
        self._is_open = False

    def terminate(self) -> None:
        """Stop all calls of this pool, also those that execute."""
        self.close()
        for future in list(self._futures):
            self._executor.interrupt(future)
        self._end()

    def join(self) -> None:
        """Wait until all calls have ended. Raises ValueError before `close` or `terminate`."""
        if self._is_open:
            raise ValueError("Pool is still running")
        concurrent.futures.wait(list(self._futures))
        self._end()

    def _end(self) -> None:
        if self._owned is not None:
            self._owned.shutdown()


class PoolResult(Generic[T]):
    """What `multiprocessing.Pool` calls an AsyncResult."""

    def __init__(
        self,
        futures: Sequence[Future[Any]],
        collect: Callable[[], T],
        callback: Callable[[T], object] | None,
        error_callback: Callable[[BaseException], object] | None,
    ) -> None:
        self._futures = futures
        self._collect = collect
        self._callback = callback
        self._error_callback = error_callback
        self._lock = Lock()
        self._left = len(futures)
        if not futures:
            self._tell()
        for future in futures:
            future.add_done_callback(self._count)

    def _count(self, _: object) -> None:
        with self._lock:
            self._left -= 1
            is_last = not self._left
        if is_last:
            self._tell()

    def _tell(self) -> None:
        if self._callback is None and self._error_callback is None:
            return
        try:
            value = self._collect()
        except BaseException as error:
            if self._error_callback is not None:
                self._error_callback(error)
        else:
            if self._callback is not None:
                self._callback(value)

    def get(self, timeout: float | None = None) -> T:
        """The result, or the exception of the call. Raises multiprocessing.TimeoutError."""
        self.wait(timeout)
        if not self.ready():
            raise multiprocessing.TimeoutError
        return self._collect()

    def wait(self, timeout: float | None = None) -> None:
        concurrent.futures.wait(self._futures, timeout)

    def ready(self) -> bool:
        return all(future.done() for future in self._futures)

    def successful(self) -> bool:
        """Whether no call has raised anything. Raises ValueError before all have ended."""
        if not self.ready():
            raise ValueError(f"{self!r} not ready")
        return not any(future.cancelled() or future.exception() for future in self._futures)


class PoolIterator(Generic[T]):
    """The results of `imap`: an iterator whose `next` may have a time limit."""

    def __init__(self, take: Callable[[float | None], list[T]]) -> None:
        self._take = take
        self._taken: Iterator[T] = iter(())

    def __iter__(self) -> PoolIterator[T]:
        return self

    def __next__(self) -> T:
        return self.next()

    def next(self, timeout: float | None = None) -> T:
        """Raises multiprocessing.TimeoutError, and StopIteration after the last."""
        for value in self._taken:
            return value
        self._taken = iter(self._take(timeout))
        return next(self._taken)
