"""Threads that hand out what monitoring systems collect."""

from __future__ import annotations

import signal
from collections.abc import Callable
from threading import Thread


def start_thread(name: str, act: Callable[[], None]) -> Thread:
    """Signals are the loop's: each thread begins with all of them blocked."""

    def run() -> None:
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        act()

    thread = Thread(target=run, name=name, daemon=True)
    thread.start()
    return thread
