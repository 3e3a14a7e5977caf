"""`pilotfish`, and what the turns of its loop take: in place of `python -m pilotfish`.

    TURNS_FILE=turns.txt python tests/benchmarks/timed_turns.py service --wd ...

Each turn that took LONG_S or more of the loop's CPU time becomes a line: seconds since the start, CPU time, time by the clock,
the handlers that had a part in it, and where it was after LOOK_S. CPU time, because what a turn waits for on a busy machine is
not its own.
"""

from __future__ import annotations

import gc
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable
from functools import partial
from heapq import heappop
from pathlib import Path
from types import FrameType
from typing import Any

from pilotfish.pilot.loop import Handler, Loop

LONG_S, PART_S, LOOK_S = 0.02, 0.004, 0.03
_seen: list[str] = []
_collections = [0.0, 0.0, 0.0]


def look(number: int, frame: FrameType | None) -> None:
    stack = traceback.extract_stack(frame)[-6:]
    _seen.append(" < ".join(f"{Path(at.filename).name}:{at.lineno} {at.name}" for at in reversed(stack)))


def named(handler: Callable[..., Any]) -> str:
    while isinstance(handler, partial):
        handler = handler.func
    return getattr(handler, "__qualname__", repr(handler))


def note_collection(phase: str, info: dict[str, int]) -> None:
    """Python's garbage collection happens within whatever allocates."""
    now = time.thread_time()
    _collections[info["generation"]] += now if phase == "stop" else -now


def timed(loop: Loop, end_of_turn: Handler, file: Any, began: float) -> None:
    """As Loop.turn."""
    events = loop._poller.poll(loop._patience_ms())
    cpu, clock = time.thread_time(), time.perf_counter()
    _seen.clear()
    _collections[:] = [0.0, 0.0, 0.0]
    signal.setitimer(signal.ITIMER_PROF, LOOK_S)
    parts: dict[str, float] = {}

    def call(handler: Handler) -> None:
        before = time.thread_time()
        handler()
        name = named(handler)
        parts[name] = parts.get(name, 0.0) + time.thread_time() - before

    for source, _ in events:
        reader = loop._readers.get(source)
        if reader is not None:
            call(reader)
    now = loop.clock()
    while loop._timers and loop._timers[0][0] <= now:
        handler = heappop(loop._timers)[2].handler
        if handler is not None:
            call(handler)
    call(end_of_turn)
    signal.setitimer(signal.ITIMER_PROF, 0)
    took = time.thread_time() - cpu
    if took >= LONG_S:
        parts |= {f"garbage {generation}": spent for generation, spent in enumerate(_collections)}
        largest = sorted(parts.items(), key=lambda part: -part[1])
        texts = [f"{name} {1000 * seconds:.0f}" for name, seconds in largest if seconds >= PART_S]
        wall, where = time.perf_counter() - clock, _seen[0] if _seen else ""
        print(
            f"{clock - began:8.2f} s  {1000 * took:5.0f} ms CPU {1000 * wall:6.0f} ms  {', '.join(texts)}; {where}",
            file=file,
            flush=True,
        )


def main() -> None:
    path = os.environ.pop("TURNS_FILE")
    if sys.argv[1] == "service":
        file, began = open(path, "w"), time.perf_counter()
        signal.signal(signal.SIGPROF, look)
        gc.callbacks.append(note_collection)
        Loop.turn = lambda loop, end_of_turn: timed(loop, end_of_turn, file, began)  # type: ignore[method-assign]
    from pilotfish.__main__ import main as pilotfish

    pilotfish()


if __name__ == "__main__":
    main()
