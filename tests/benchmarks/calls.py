"""Python calls, side by side with the pools that people use: the rows of docs/executor.md.

Each row is measured in turn with the standard library's pool of processes, round by round, as a shared machine changes its
speed while one looks. executorlib, Parsl and dask.distributed run in installations of their own (peers.py), only with --peers.

python tests/benchmarks/calls.py [--quick] [--peers]
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import Executor as AnyExecutor
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import shared_memory
from typing import NamedTuple

import numpy as np
import peers
import psutil
import scale

from pilotfish import Executor

SLOTS = len(os.sched_getaffinity(0))


class Row(NamedTuple):
    what: str
    value: str
    ratio: str
    goal: str
    ok: bool | None


def same(value: object) -> object:
    return value


def rate(executor: AnyExecutor, calls: int, chunksize: int) -> float:
    begin = time.perf_counter()
    assert sum(1 for _ in executor.map(same, range(calls), chunksize=chunksize)) == calls
    return calls / (time.perf_counter() - begin)


def rows(quick: bool, with_peers: bool = False) -> Iterator[Row]:
    calls, rounds = (4_000, 2) if quick else (20_000, 3)
    yield _first_result()
    with Executor() as ours, ProcessPoolExecutor(SLOTS) as theirs:
        for executor in (ours, theirs):
            rate(executor, 1_000, 1)
        for chunksize, count in ((1, calls), (10, calls * 5), (100, calls * 20)):
            pairs = [(rate(ours, count, chunksize), rate(theirs, count, chunksize)) for _ in range(rounds)]
            speed, ratio = (statistics.median(values) for values in ([a for a, _ in pairs], [a / b for a, b in pairs]))
            least = 0.8 if chunksize == 1 else 1.0
            what = f"Executor.map, chunks of {chunksize}"
            yield Row(what, f"{speed:.0f}/s", f"{ratio:.2f} of the pool", f">= {least}", ratio >= least)
            if chunksize == 1:
                yield Row("  the same in numbers", f"{speed:.0f}/s", "", ">= 10000/s", speed >= 10_000)
        yield _latency(ours)
        yield _array(ours, theirs, 20 if quick else 100, rounds)
    yield _memory(2_000 if quick else 20_000)
    yield from _soak(100_000 if quick else 1_000_000)
    for chunksize, waves in ((1, 4 if quick else 10), (10, 2)):
        yield _many_cores(chunksize, waves)
    if with_peers:
        yield from against_peers(calls)


def against_peers(calls: int) -> Iterator[Row]:
    """Each between two measurements of ours."""
    with Executor() as ours:
        rate(ours, 1_000, 1)
        for name, script, factor in PEERS:
            try:
                peers.environment(name)  # now, so that it costs neither of the two
                before = rate(ours, calls, 1)
                peer = 1 / peers.script(name, script, SLOTS, calls // 4)
            except (OSError, subprocess.SubprocessError) as error:
                print(f"{name} could not be measured: {error}", file=sys.stderr)
                continue
            ratio = (before + rate(ours, calls, 1)) / 2 / peer
            what = f"  against {peers.version(name)}"
            yield Row(what, f"{peer:.0f}/s", f"{ratio:.1f} x", f">= {factor}", ratio >= factor)


def _first_result() -> Row:
    times = []
    with _compiled():
        for _ in range(4):
            begin = time.perf_counter()
            with Executor() as executor:
                executor.submit(abs, 1).result()  # a function of the user brings the modules that it needs
                times.append(time.perf_counter() - begin)
    median = statistics.median(times[1:])
    return Row("Executor() -> first result", f"{median * 1e3:.0f} ms", "", "<= 500 ms", median <= 0.5)


@contextmanager
def _compiled() -> Iterator[None]:
    """What is started inside finds its modules compiled, as an installation has them, also in a shell that forbids to write
    them down (PYTHONDONTWRITEBYTECODE).
    """
    forbidden = os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    with tempfile.TemporaryDirectory(prefix="pf-compiled-") as os.environ["PYTHONPYCACHEPREFIX"]:
        yield
    del os.environ["PYTHONPYCACHEPREFIX"]
    if forbidden is not None:
        os.environ["PYTHONDONTWRITEBYTECODE"] = forbidden


def _latency(executor: Executor) -> Row:
    times = []
    for number in range(200):
        begin = time.perf_counter()
        executor.submit(same, number).result()
        times.append(time.perf_counter() - begin)
    median = statistics.median(times)
    return Row("one call, submit -> result", f"{median * 1e3:.2f} ms", "", "<= 2 ms", median <= 0.002)


def _array(ours: Executor, theirs: AnyExecutor, megabytes: int, rounds: int) -> Row:
    array = np.arange(megabytes * 125_000.0)

    def there_and_back() -> float:
        begin = time.perf_counter()
        assert ours.submit(same, array).result()[-1] == array[-1]
        return time.perf_counter() - begin

    ratios = []
    for _ in range(rounds + 1):
        seconds = there_and_back()
        ratios.append(_in_shared_memory(theirs, array) / seconds)
    ratio = statistics.median(ratios[1:])
    what = f"an array of {megabytes} MB there and back"
    return Row(what, f"{seconds * 1e3:.0f} ms", f"{ratio:.2f} of the pool", ">= 0.7", ratio >= 0.7)


def _in_shared_memory(pool: AnyExecutor, array: np.ndarray) -> float:
    """As one does it by hand with the standard library."""
    begin = time.perf_counter()
    there = shared_memory.SharedMemory(create=True, size=array.nbytes)
    np.ndarray(array.shape, array.dtype, there.buf)[:] = array
    name = pool.submit(_copy_in_shared_memory, there.name, array.shape).result()
    back = shared_memory.SharedMemory(name)
    assert np.ndarray(array.shape, array.dtype, back.buf).copy()[-1] == array[-1]
    seconds = time.perf_counter() - begin
    for memory in (there, back):
        memory.close()
        memory.unlink()
    return seconds


def _copy_in_shared_memory(name: str, shape: tuple[int, ...]) -> str:
    there = shared_memory.SharedMemory(name)
    back = shared_memory.SharedMemory(create=True, size=there.size)
    np.ndarray(shape, "f8", back.buf)[:] = np.ndarray(shape, "f8", there.buf)
    for memory in (there, back):
        memory.close()
    return back.name


def _memory(calls: int) -> Row:
    """Of this process and of the manager, for calls that wait behind one that takes all cores."""
    with Executor() as executor:
        rate(executor, 1_000, 1)
        all_cores = executor.options(cores=SLOTS)
        blocker = all_cores.submit(time.sleep, 3600)
        while not blocker.running():
            time.sleep(0.01)
        both = [psutil.Process(), psutil.Process(executor.pilot._process.pid)]
        before = [process.memory_info().rss for process in both]
        futures = [all_cores.submit(same, number) for number in range(calls)]
        while not futures[-1].task or executor.pilot.client.task_counts().total < calls:
            time.sleep(0.05)
        grown = [(process.memory_info().rss - rss) / calls for process, rss in zip(both, before, strict=True)]
        for future in futures:
            future.cancel()
        executor.interrupt(blocker)
    text = f"{grown[0]:.0f} + {grown[1]:.0f} bytes"
    return Row("a waiting call, client + manager", text, "", "<= 1 KiB each", max(grown) <= 1024)


def _soak(calls: int) -> Iterator[Row]:
    """Very many calls through one executor, in ten parts whose results are taken: is the last like the first?"""
    rates, sizes = [], []
    with Executor() as executor:
        rate(executor, 1_000, 1)
        both = [psutil.Process(), psutil.Process(executor.pilot._process.pid)]
        for _ in range(10):
            begin = time.perf_counter()
            for _ in range(0, calls // 10, _AT_ONCE):
                rate(executor, _AT_ONCE, 1)
            rates.append(calls / 10 / (time.perf_counter() - begin))
            sizes.append([process.memory_info().rss for process in both])
    late, early = statistics.median(rates[-3:]), statistics.median(rates[:3])
    what = f"{calls:,} calls: the last third against the first"
    yield Row(what, f"{late:.0f}/s", f"{late / early:.2f}", ">= 0.9", late >= 0.9 * early)
    grown = [(last - second) / calls * 10 / 8 for second, last in zip(sizes[1], sizes[-1], strict=True)]
    text = f"{grown[0]:.1f} + {grown[1]:.1f} bytes"
    yield Row("  memory kept of each, client + manager", text, "", "<= 16 each", max(grown) <= 16)


def _many_cores(chunksize: int, waves: int) -> Row:
    """So many calls of a second for each core of simulated nodes, from the first start to the last result."""
    nodes = 1000
    calls = waves * nodes * scale.CORES * chunksize
    os.environ["PRETENDED_CHUNK"] = str(chunksize)
    with (
        scale.SimulatedPilot(nodes, float(chunksize)) as pilot,
        Executor(connect=pilot.folder / ".qcgpjm-service-scale") as executor,
    ):
        begin = time.perf_counter()
        assert sum(1 for _ in executor.map(same, range(calls), chunksize=chunksize)) == calls
        seconds = time.perf_counter() - begin
    busy = calls / (nodes * scale.CORES * seconds)
    what = f"{nodes:,} simulated x {scale.CORES} cores, calls of 1 s, chunks of {chunksize}"
    return Row(what, f"{calls / seconds:,.0f}/s", f"{busy:.0%} busy", ">= 95%", busy >= 0.95)


_AT_ONCE = 10_000

_PEER = """
import sys, time
def same(value):
    return value
def main():
    slots, calls = int(sys.argv[1]), int(sys.argv[2])
    {start}
    assert list(results(100)) == list(range(100))
    begin = time.perf_counter()
    assert list(results(calls)) == list(range(calls))
    print("seconds", time.perf_counter() - begin, flush=True)
    {end}
if __name__ == "__main__":
    main()
"""
_MAP = "results = lambda calls: executor.map(same, range(calls))"
_EXECUTORLIB = _PEER.format(
    start=f"""from executorlib import SingleNodeExecutor
    executor = SingleNodeExecutor(max_workers=slots, block_allocation=True)
    {_MAP}""",
    end="executor.shutdown()",
)
_PARSL = _PEER.format(
    start=f"""from parsl import Config, HighThroughputExecutor
    from parsl.concurrent import ParslPoolExecutor
    from parsl.providers import LocalProvider
    workers = HighThroughputExecutor(
        address="127.0.0.1", max_workers_per_node=slots, provider=LocalProvider(init_blocks=1, max_blocks=1)
    )
    executor = ParslPoolExecutor(Config(executors=[workers], initialize_logging=False))
    {_MAP}""",
    end="executor.shutdown()",
)
_DASK = _PEER.format(
    start="""from distributed import Client
    client = Client(n_workers=slots, threads_per_worker=1, dashboard_address=None)
    results = lambda calls: client.gather(client.map(same, range(calls), pure=False))""",
    end="client.close()",
)
PEERS = (("executorlib", _EXECUTORLIB, 2.0), ("parsl", _PARSL, 5.0), ("distributed", _DASK, 5.0))
"""Name on PyPI, program, and how many times as fast we must be. Each is set up with a process for each core that stays
there between two calls, and used in its own fastest way: of dask, `Client.map` is faster than its `concurrent.futures`.
"""


def main() -> None:
    for row in rows("--quick" in sys.argv, "--peers" in sys.argv):
        print(f"{row.what:40} {row.value:>24} {row.ratio:>18} {row.goal:>14} {row.ok}", flush=True)


if __name__ == "__main__":
    main()
