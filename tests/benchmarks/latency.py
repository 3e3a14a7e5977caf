"""What one client, one reader or one disk costs everybody else: the latency of another client while they do their worst.

    python tests/benchmarks/latency.py [CASE...] [--python PYTHON]

For each case a pilot is started that has tasks of 0.05 s to run all the time. Beside the hostile client another one asks
`resourcesInfo` every 20 ms and a third submits a job every 0.5 s; then the pilot gets SIGTERM. Printed are the latencies of the
second, the submits of the third, how many tasks ended meanwhile, whether an agent was lost or silent, the peak of memory, and
how long the end took.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import zmq

SLOW_SYNC = r"""
#include <unistd.h>
#include <stdlib.h>
static void pause_s(void) { const char *s = getenv("SLOW_SYNC_S"); if (s) usleep((useconds_t)(atof(s) * 1e6)); }
int fdatasync(int fd) { (void)fd; pause_s(); return 0; }
int fsync(int fd) { (void)fd; pause_s(); return 0; }
"""
LONGEST_S = 60.0
MOST_TURNS = 8
TIMED = Path(__file__).with_name("timed_turns.py")


class Pilot:
    def __init__(self, python: str, environ: dict[str, str] | None = None, options: Sequence[str] = ()) -> None:
        self.wd = Path(tempfile.mkdtemp(prefix="latency-"))
        began = time.monotonic()
        environ = os.environ | (environ or {})
        program = [str(TIMED)] if "TURNS_FILE" in environ else ["-m", "pilotfish"]
        settings = ["--wd", str(self.wd), "--id", "d", "--nodes", "2", "--kill-grace", "1", *options]
        self.process = subprocess.Popen(
            [python, *program, "service", *settings], env=environ, cwd=self.wd, stdout=subprocess.DEVNULL
        )
        self.aux = self.wd / ".qcgpjm-service-d"
        while not (self.aux / "connection.json").exists():
            time.sleep(0.02)
        self.ready_s = time.monotonic() - began
        self.info = json.loads((self.aux / "connection.json").read_text())
        self.context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()

    def client(self) -> zmq.Socket[bytes]:
        socket = self.context.socket(zmq.DEALER)
        socket.setsockopt(zmq.LINGER, 0)
        socket.connect(self.info["request_addresses"]["ipc"])
        return socket

    def peak_mib(self) -> float:
        for line in Path(f"/proc/{self.process.pid}/status").read_text().splitlines():
            if line.startswith("VmHWM"):
                return int(line.split()[1]) / 1024
        return 0.0

    def end_s(self) -> float:
        began = time.monotonic()
        self.process.terminate()
        try:
            self.process.wait(60)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        return time.monotonic() - began


def ask(socket: zmq.Socket[bytes], request: dict[str, Any], patience_s: float = LONGEST_S) -> float | None:
    """How long the reply took; None: it did not come."""
    began = time.monotonic()
    socket.send_multipart([b"", json.dumps(request).encode()])
    if not socket.poll(int(patience_s * 1000)):
        return None
    socket.recv_multipart()
    return time.monotonic() - began


def sleepers(name: str, count: int) -> dict[str, Any]:
    execution = {"exec": "sleep", "args": ["0.05"]}
    return {"request": "submit", "jobs": [{"name": name, "iteration": {"stop": count}, "execution": execution}]}


class Others:
    """The clients that mean no harm, each in a thread."""

    def __init__(self, pilot: Pilot) -> None:
        self.latencies: list[float] = []
        self.submits: list[float] = []
        self._pilot = pilot
        self._over = threading.Event()
        self._threads = [threading.Thread(target=one, daemon=True) for one in (self._look, self._submit)]
        for thread in self._threads:
            thread.start()

    def _look(self) -> None:
        socket = self._pilot.client()
        while not self._over.is_set():
            self.latencies.append(ask(socket, {"request": "resourcesInfo"}) or LONGEST_S)
            time.sleep(0.02)

    def _submit(self) -> None:
        socket, number = self._pilot.client(), 0
        while not self._over.is_set():
            number += 1
            self.submits.append(ask(socket, sleepers(f"small{number}", 1)) or LONGEST_S)
            time.sleep(0.5)

    def stop(self) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join(1.0)


def measure(
    name: str,
    python: str,
    hostile: Callable[[Pilot], str],
    environ: dict[str, str] | None = None,
    options: Sequence[str] = (),
) -> None:
    pilot = Pilot(python, environ, options)
    first = pilot.client()
    ask(first, sleepers("work", 100_000))
    others = Others(pilot)
    time.sleep(1.0)
    ended = ended_tasks(pilot)
    began = time.monotonic()
    note = hostile(pilot)
    seconds = time.monotonic() - began
    peak = pilot.peak_mib()
    rate = (ended_tasks(pilot) - ended) / seconds
    others.stop()
    end_s = pilot.end_s()
    latencies, submits = sorted(others.latencies), sorted(others.submits)
    log = (pilot.aux / "service.log").read_text()
    print(
        f"{name:10s} {note}: start {pilot.ready_s:.1f} s; other client n={len(latencies)} p50={_ms(latencies, 0.5)}"
        f" p99={_ms(latencies, 0.99)} max={_ms(latencies, 1.0)}; submits n={len(submits)} p50={_ms(submits, 0.5)}"
        f" max={_ms(submits, 1.0)}; tasks {rate:.0f}/s; agents lost {log.count('agent.lost') - log.count('told to stop') // 2};"
        f" silent {log.count('agent.silent')}; peak {peak:.0f} MiB; SIGTERM {end_s:.1f} s",
        flush=True,
    )


def _ms(values: list[float], share: float) -> str:
    return f"{1000 * values[min(len(values) - 1, int(len(values) * share))]:.0f} ms" if values else "-"


def ended_tasks(pilot: Pilot) -> int:
    with open(pilot.aux / "jobs.report", "rb") as report:
        return sum(chunk.count(b"\n") for chunk in iter(lambda: report.read(1 << 20), b""))


def idle(pilot: Pilot) -> str:
    time.sleep(5)
    return "nothing else"


@cache
def million_jobs() -> bytes:
    jobs = b",".join(b'{"name":"x%d","execution":{"exec":"true"}}' % number for number in range(10**6))
    return b'{"request":"submit","jobs":[' + jobs + b"]}"


def submit(pilot: Pilot) -> str:
    socket = pilot.client()
    socket.send_multipart([b"", million_jobs()])
    began = time.monotonic()
    answered = socket.poll(180_000)
    return f"10^6 jobs in one request, answered {f'after {time.monotonic() - began:.0f} s' if answered else 'never'}"


def iterations(pilot: Pilot) -> str:
    socket = pilot.client()
    ask(socket, sleepers("large", 10**6))
    for _ in range(60):
        socket.send_multipart([b"", b'{"request":"jobInfo","jobNames":["large"],"params":{"withChilds":true}}'])
    time.sleep(25)
    return "10^6 iterations asked 60 times, never read"


def file(pilot: Pilot) -> str:
    began = time.monotonic()
    socket = pilot.client()
    while count_of(socket) < 10**6 and time.monotonic() - began < 180:
        time.sleep(1.0)
    return f"10^6 jobs in a file, in after {time.monotonic() - began:.0f} s"


def count_of(socket: zmq.Socket[bytes]) -> int:
    """Jobs."""
    socket.send_multipart([b"", b'{"request":"status"}'])
    count: int = json.loads(socket.recv_multipart()[-1])["data"]["JobStats"]["TotalJobs"]
    return count


def cancel(pilot: Pilot) -> str:
    socket = pilot.client()
    ask(socket, sleepers("large", 10**6))
    jobs = [{"name": f"y{number}", "execution": {"exec": "true"}} for number in range(100_000)]
    ask(socket, {"request": "submit", "jobs": jobs}, 180)
    began = time.monotonic()
    ask(socket, {"request": "cancelJob", "jobNames": ["large", *(job["name"] for job in jobs)]}, 180)
    return f"10^6 iterations and 10^5 jobs cancelled, in {time.monotonic() - began:.0f} s"


def text(pilot: Pilot) -> str:
    socket = pilot.client()
    took = [
        ask(socket, {"request": "submit", "jobs": [{"name": f"z{size}", "execution": {"script": "x" * (size << 20)}}]})
        for size in (7, 40)
    ]
    time.sleep(3)
    return f"scripts of 7 and 40 MB, answered after {took[0] or 0:.1f} and {took[1] or 0:.1f} s"


def compaction(pilot: Pilot) -> str:
    socket, number = pilot.client(), 0
    while not (compacted := "journal.compacted" in (pilot.aux / "service.log").read_text()) and number < 60:
        number += 1
        names = [f"c{number}-{place}" for place in range(5000)]
        execution = {"script": f"# {'x' * 300}"}
        ask(socket, {"request": "submit", "jobs": [{"name": name, "execution": execution} for name in names]}, 180)
        ask(socket, {"request": "cancelJob", "jobNames": names}, 180)
        ask(socket, {"request": "removeJob", "jobNames": names}, 180)
    return f"{5000 * number} jobs submitted, cancelled and removed, the journal {'' if compacted else 'not '}compacted"


def disk(pilot: Pilot) -> str:
    time.sleep(20)
    return "fdatasync of 5 s"


def slow_sync() -> dict[str, str]:
    folder = Path(tempfile.mkdtemp(prefix="slow-sync-"))
    (folder / "slow.c").write_text(SLOW_SYNC)
    library = folder / "slow.so"
    subprocess.run(["cc", "-shared", "-fPIC", "-o", library, folder / "slow.c"], check=True)
    return {"LD_PRELOAD": str(library), "SLOW_SYNC_S": "5"}


def requests_file() -> list[str]:
    path = Path(tempfile.mkdtemp(prefix="requests-")) / "requests.json"
    path.write_bytes(b"[" + million_jobs() + b"]")
    return ["--file-path", str(path), "--net"]


def main() -> None:
    cases: dict[str, Callable[[Pilot], str]] = {
        f.__name__: f for f in (idle, submit, file, iterations, cancel, text, compaction, disk)
    }
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("cases", nargs="*", help=f"{', '.join(cases)}; default: all")
    parser.add_argument("--python", default=sys.executable, help="the Python whose Pilotfish is measured")
    parser.add_argument(
        "--turns", action="store_true", help="show the longest turns of the manager's loop (of this tree)"
    )
    arguments = parser.parse_args()
    for name in arguments.cases or cases:
        million_jobs()  # made before, because it would hold up the other clients, which are threads here
        environ = slow_sync() if name == "disk" else {}
        turns = Path(tempfile.mkdtemp(prefix="turns-")) / "turns"
        if arguments.turns:
            environ["TURNS_FILE"] = str(turns)
        measure(name, arguments.python, cases[name], environ, requests_file() if name == "file" else ())
        if arguments.turns:
            lines = sorted(turns.read_text().splitlines(), key=lambda line: -int(line.split()[2]))
            print("\n".join(lines[:MOST_TURNS]) or "no turn of 20 ms", flush=True)


if __name__ == "__main__":
    main()
