"""What monitoring systems collect: counters and gauges of a pilot, as OpenMetrics over HTTP or as a file.

The loop makes the text every few seconds from counters that exist anyway. A thread hands it out, and another writes it to the
file: neither a client that is slow nor a disk that hangs can hold up the loop, and nothing of the core is shared with them but
the bytes of the last text. It says how much runs where, and no names of tasks; who may connect may read it.

Rejected: to serve HTTP in the loop. It would need a parser, a state for each connection and time limits, for a page that one
client asks for four times a minute.
"""

from __future__ import annotations

import logging
import socket
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from threading import Event, Thread
from typing import TYPE_CHECKING, NamedTuple

from ..files import write_atomically
from ..model.errors import SettingsError
from ..model.running import running
from ..model.states import NodeState, State
from ..version import VERSION
from .metrics_threads import start_thread
from .parts import Parts

if TYPE_CHECKING:
    from .metrics_server import Server

log = logging.getLogger(__name__)

_EVERY_S = 2.0
_FILE_EVERY_S = 5.0
_LAST_WRITE_S = 1.0
_MOST_NODES = 1000
"""With more, only their sums are given."""
_READABLE = 0o644
"""Of the file: who collects it is somebody else."""

Labels = Mapping[str, str]


class Family(NamedTuple):
    """One metric. `samples`: labels and value; a counter's name has no `_total`, an info's no `_info`."""

    name: str
    kind: str
    help: str
    samples: Sequence[tuple[Labels, float]]


class Metrics:
    """The text of now, and those who hand it out."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._made_s = float("-inf")
        self._server: Server | None = None
        self._file: _File | None = None

    def open(self) -> None:
        """Begin, as the settings say. Raises SettingsError."""
        settings = self._parts.settings
        if settings.metrics is not None:
            from .metrics_server import serve  # http.server takes long to import, and few pilots need it

            self._server = serve(settings.metrics)
            self._parts.status.metrics_address = self._server.address
            log.info("metrics.served", extra={"address": self._server.address})
        if settings.metrics_file is not None:
            self._file = _File(settings.metrics_file)
        self.look()
        if self._file is not None:
            self._file.start()

    def look(self) -> None:
        """Called twice a second."""
        if self._server is None and self._file is None:
            return
        now = self._parts.loop.clock()
        if now - self._made_s >= _EVERY_S:
            self._made_s = now
            self._make(up=True)

    def _make(self, up: bool) -> None:
        families = list(_families(self._parts, up))
        if self._server is not None:
            self._server.text = as_text(families).encode()
        if self._file is not None:
            self._file.text = as_text(families, open_metrics=False).encode()

    def close(self) -> None:
        """The file stays, and says that the pilot has ended."""
        self._make(up=False)
        if self._file is not None:
            self._file.close()


# --- what there is ------------------------------------------------------------------------------------------------------


def _families(parts: Parts, up: bool) -> Iterator[Family]:
    scheduler, recent = parts.scheduler, parts.recent
    jobs, nodes = scheduler.jobs, scheduler.nodes
    about = {"id": parts.aux.instance_id, "host": socket.gethostname(), "version": VERSION}
    yield Family("pilotfish_pilot", "info", "The pilot.", [(about, 1)])
    yield Family("pilotfish_up", "gauge", "1 while the pilot runs.", [({}, float(up))])
    yield Family("pilotfish_start_time_seconds", "gauge", "When it was started.", [({}, parts.status.started_s)])
    if scheduler.dispatch.ends_s is not None:
        yield Family("pilotfish_end_time_seconds", "gauge", "When its time is over.", [({}, scheduler.dispatch.ends_s)])
    yield Family("pilotfish_tasks", "gauge", "Tasks by state.", _by_state(jobs.tasks_in))
    yield Family("pilotfish_tasks_running", "gauge", "Tasks that run now.", [({}, running(scheduler))])
    yield Family("pilotfish_tasks_ended", "counter", "Tasks that have ended.", [({}, recent.ended)])
    yield Family("pilotfish_jobs", "gauge", "Jobs by state.", _by_state(jobs.jobs_in))
    shapes = sum(shape.head() is not None for shape in scheduler.queue)
    yield Family("pilotfish_queue_shapes", "gauge", "Different needs among the tasks that wait.", [({}, shapes)])
    states = [({"state": state.name.lower()}, nodes.in_state[state]) for state in NodeState]
    yield Family("pilotfish_nodes", "gauge", "Nodes by state.", states)
    yield from _resources(parts)
    yield Family("pilotfish_warnings", "counter", "Warnings of the pilot.", [({}, len(parts.status.warnings))])
    yield Family("pilotfish_journal_bytes", "gauge", "Size of the journal.", [({}, parts.store.size)])


def _by_state(counts: Sequence[int]) -> list[tuple[Labels, float]]:
    return [({"state": state.name.lower()}, counts[state]) for state in State]


def _resources(parts: Parts) -> Iterator[Family]:
    nodes = parts.scheduler.nodes
    here = list(nodes.here)
    cores = sum(nodes.all_cores[node].bit_count() for node in here)
    gpus = sum(len(nodes.specs[node].gpu_ids) for node in here)
    mem = sum(nodes.specs[node].mem_bytes for node in here)
    free_cores = sum(nodes.free_cores[node].bit_count() for node in here)
    free_gpus = sum(nodes.stocks.gpus[node].free for node in here)
    free_mem = sum(nodes.free_mem[node] for node in here if nodes.specs[node].mem_bytes)
    for name, what, total, free in (
        ("cores", "Cores", cores, free_cores),
        ("gpus", "GPUs", gpus, free_gpus),
        ("memory_bytes", "Memory", mem, free_mem),
    ):
        yield Family(f"pilotfish_{name}", "gauge", f"{what} that tasks can have.", [({}, total)])
        yield Family(f"pilotfish_used_{name}", "gauge", f"{what} that tasks have.", [({}, total - free)])
    totals, in_use = Counter[str](), Counter[str]()
    for stock in nodes.named():
        totals[stock.resource.name] += stock.resource.total
        in_use[stock.resource.name] += stock.resource.total - stock.free
    for name, what, counts in (("resource", "can have", totals), ("used_resource", "have", in_use)):
        if totals:
            samples: list[tuple[Labels, float]] = [({"name": key}, counts[key]) for key in totals]
            yield Family(f"pilotfish_{name}", "gauge", f"How much of a named resource tasks {what}.", samples)
    if len(here) <= _MOST_NODES:
        used = [
            ({"node": nodes.specs[node].name}, (nodes.all_cores[node] & ~nodes.free_cores[node]).bit_count())
            for node in here
        ]
        yield Family("pilotfish_node_used_cores", "gauge", "Cores of a node that tasks have.", used)


# --- as text ------------------------------------------------------------------------------------------------------------


def as_text(families: Sequence[Family], open_metrics: bool = True) -> str:
    """OpenMetrics 1.0, or the older text format of Prometheus, which is what a node exporter reads from files."""
    lines = []
    for name, kind, text, samples in families:
        suffix = {"counter": "_total", "info": "_info"}.get(kind, "")
        family = name if open_metrics else name + suffix
        shown = "gauge" if kind == "info" and not open_metrics else kind
        lines += [f"# TYPE {family} {shown}", f"# HELP {family} {text}"]
        lines += [f"{name}{suffix}{_labels(labels)} {_number(value)}" for labels, value in samples]
    return "\n".join([*lines, "# EOF\n" if open_metrics else ""])


def _labels(labels: Labels) -> str:
    parts = [f'{name}="{_escaped(value)}"' for name, value in labels.items()]
    return f"{{{','.join(parts)}}}" if parts else ""


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def _number(value: float) -> str:
    return str(int(value)) if value == int(value) else repr(value)


# --- as a file ----------------------------------------------------------------------------------------------------------


class _File:
    """Writes the text again and again. A failure is told in the log once, until it has been written."""

    def __init__(self, path: Path) -> None:
        self._path = path.absolute()
        self.text = b""
        self._ends = Event()
        self._failing = False
        self._thread: Thread | None = None

    def start(self) -> None:
        """Raises SettingsError when it cannot be written even now."""
        try:
            self._write()
        except OSError as error:
            raise SettingsError(f"cannot be written: {error.strerror}", where=f"--metrics-file {self._path}") from error
        self._thread = start_thread("metrics-file", self._run)

    def close(self) -> None:
        self._ends.set()
        if self._thread is not None:
            self._thread.join(_LAST_WRITE_S)

    def _write(self) -> None:
        write_atomically(self._path, self.text, mode=_READABLE)

    def _run(self) -> None:
        ends = False
        while not ends:
            ends = self._ends.wait(_FILE_EVERY_S)
            try:
                self._write()
            except OSError as error:
                if not self._failing:
                    log.error("metrics.failed", extra={"path": str(self._path), "reason": error.strerror})
                self._failing = True
            else:
                self._failing = False
