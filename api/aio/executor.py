"""`AsyncExecutor`: an Executor whose calls are awaited.

Nothing of it runs in the event loop but the wait: pickling, writing large arguments and the start of the pilot are done in
threads. What is cancelled here is cancelled in the pilot, as far as it has not begun.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from functools import partial
from itertools import islice
from types import TracebackType
from typing import Any, ParamSpec, TypeVar, overload

from ..executor.command import Command, CommandResult
from ..executor.executor import Executor
from ..executor.future import Future
from ..executor.progress import Shown
from .threads import in_thread

P = ParamSpec("P")
T = TypeVar("T")

_SENT_TOGETHER = 500


class AsyncExecutor:
    """Calls Python functions on the cores of a pilot, for asyncio: `async with AsyncExecutor() as executor`.

    At the end of the block it waits for all calls; when the block was left by an exception, those that have not begun are
    cancelled, and when it was cancelled itself (Ctrl-C, `asyncio.timeout`), those that execute are stopped, too. May
    be used by the event loops of several threads.

    Args:
        max_workers: as that of Executor, like all that follow, by keyword.

    Raises:
        ValueError, TypeError: for an argument that makes no sense.
    """

    def __init__(self, max_workers: int | None = None, **settings: Any) -> None:
        self.executor = Executor(max_workers, **settings)
        """What it builds on: the futures of that one may be arguments here."""

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.executor!r}>"

    async def __aenter__(self) -> AsyncExecutor:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None and not isinstance(error, Exception):
            self.executor._core.interrupt_all()
        await self.shutdown(cancel_futures=error is not None)

    @overload
    async def submit(self, fn: Command, /) -> CommandResult: ...

    @overload
    async def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T: ...

    async def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Any:
        """Call `fn(*args, **kwargs)` on a core of the pilot, or run a Command; returns its result, or raises its exception.

        When the task that waits is cancelled, so is a call that has not begun.
        """
        future = await in_thread(partial(self.executor.submit, fn, *args, **kwargs), Future.cancel)
        return await asyncio.wrap_future(future)

    async def map(self, fn: Callable[..., T], *iterables: Iterable[Any], progress: bool = False) -> AsyncIterator[T]:
        """The results of `fn` for the arguments, in their order: `async for result in executor.map(fn, items)`.

        `progress`: show how many calls have ended. The first call that fails raises its exception; then, and when the loop is
        left early, those that have not begun are cancelled.
        """
        futures = deque(await self._submit_all(fn, zip(*iterables, strict=False)))
        count = len(futures)
        with _shown(futures, progress) as shown:
            try:
                while futures:
                    yield await asyncio.wrap_future(futures.popleft())
            finally:
                _cancel(futures)
            if shown is not None:
                shown.end(count)

    async def as_completed(
        self, fn: Callable[..., T], *iterables: Iterable[Any], progress: bool = False
    ) -> AsyncIterator[T]:
        """As `map`, in the order in which the calls end."""
        futures = await self._submit_all(fn, zip(*iterables, strict=False))
        loop = asyncio.get_running_loop()
        ended: asyncio.Queue[Any] = asyncio.Queue()

        def tell(future: Any) -> None:
            with suppress(RuntimeError):  # the event loop is closed
                loop.call_soon_threadsafe(ended.put_nowait, future)

        for future in futures:
            future.add_done_callback(tell)
        with _shown(futures, progress) as shown:
            try:
                for _ in futures:
                    yield (await ended.get()).result()
            finally:
                _cancel(futures)
            if shown is not None:
                shown.end(len(futures))

    async def _submit_all(self, fn: Callable[..., T], calls: Iterator[tuple[Any, ...]]) -> list[Future[T]]:
        futures: list[Future[T]] = []
        try:
            while together := list(islice(calls, _SENT_TOGETHER)):
                futures += await in_thread(partial(_submit, self.executor, fn, together), _cancel)
        except BaseException:
            _cancel(futures)
            raise
        return futures

    def options(self, **options: Any) -> AsyncExecutor:
        """This executor, for calls that ask for something else: see `Executor.options`."""
        view = object.__new__(type(self))
        view.executor = self.executor.options(**options)
        return view

    async def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Take no more calls; `wait` until all have ended. `cancel_futures`: those that have not begun are cancelled."""
        await in_thread(partial(self.executor.shutdown, wait, cancel_futures=cancel_futures))


def _submit(executor: Executor, fn: Callable[..., T], calls: Sequence[tuple[Any, ...]]) -> list[Future[T]]:
    futures: list[Future[T]] = []
    try:
        for args in calls:
            futures.append(executor.submit(fn, *args))
    except BaseException:
        _cancel(futures)
        raise
    return futures


def _shown(futures: Collection[Future[Any]], progress: bool) -> AbstractContextManager[Shown | None]:
    return Shown(futures) if progress else nullcontext()


def _cancel(futures: Iterable[Future[Any]]) -> None:
    for future in futures:
        future.cancel()
