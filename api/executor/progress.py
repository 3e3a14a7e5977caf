"""How far the calls of a `map` are: a bar of tqdm where that is installed, in notebooks its widget; else a line of text."""

from __future__ import annotations

import concurrent.futures
import sys
import threading
import time
from importlib.util import find_spec
from typing import Any

_EVERY_S = 0.5


class Line:
    """As much of tqdm's bar as is used here: a line on stderr that is written anew twice a second, and at the end."""

    def __init__(self) -> None:
        self.total = 0
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


def new_bar() -> Any:
    if find_spec("tqdm") is None:
        return Line()
    if find_spec("ipywidgets") is None:  # tqdm.auto would warn in a notebook
        from tqdm import tqdm
    else:
        from tqdm.auto import tqdm
    return tqdm(total=0, unit=" calls")


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
