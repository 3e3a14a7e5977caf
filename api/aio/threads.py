"""Work that blocks, beside the event loop.

Not asyncio's own pool: some of this waits for minutes and would fill the pool for everybody, and the end of the program waits
for the threads of a pool. Here each piece of work has a thread of its own, a daemon. So nothing has to be renewed after a fork.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

T = TypeVar("T")


async def in_thread(work: Callable[[], T], undo: Callable[[T], object] | None = None) -> T:
    """What it returns. When who waits for it is cancelled it goes on all the same, and `undo` gets what it returns."""
    future: Future[T] = Future()
    threading.Thread(target=_run, args=(work, future), name="pilotfish-await", daemon=True).start()
    try:
        return await asyncio.shield(asyncio.wrap_future(future))
    except asyncio.CancelledError:
        if undo is not None:
            future.add_done_callback(lambda done: undo(done.result()) if done.exception() is None else None)
        raise


def _run(work: Callable[[], T], future: Future[T]) -> None:
    future.set_running_or_notify_cancel()
    try:
        result = work()
    except BaseException as error:  # it is raised where it is waited for
        future.set_exception(error)
    else:
        future.set_result(result)
