"""The folder of a run that is over, made without running anything: what happened is said, the real encoders write it."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType

from pilotfish.pilot.model.ids import JobNo, NodeNo
from pilotfish.pilot.model.job_spec import Execution, Iteration, JobSpec, Need, Resources, Size
from pilotfish.pilot.model.resources import NodeSpec
from pilotfish.pilot.model.results import PlacedShare, Result
from pilotfish.pilot.model.states import Cause, State
from pilotfish.pilot.model.tasks import TaskRecord
from pilotfish.pilot.wire import journal, records
from pilotfish.pilot.wire.report import ReportEntry, encode_json
from pilotfish.pilot.wire.runtime import Ran

BEGAN_S = 1_800_000_000.0
"""All other times are seconds since then."""

Cores = dict[str, list[int]]
"""By node, the numbers of cores."""


class PastRun:
    """`with PastRun(folder, {"n1": 4}) as run`: began at 0. Jobs are numbered as they come, cores by their ids."""

    def __init__(self, wd: Path, nodes: dict[str, int], name: str = "past", memory_gib: int = 0) -> None:
        self.wd = wd
        self.folder = wd / f".qcgpjm-service-{name}"
        self.folder.mkdir(mode=0o700)
        self._jobs: dict[str, tuple[JobNo, JobSpec]] = {}
        self._nodes: dict[str, NodeNo] = {}
        self._journal = bytearray(journal.HEADER)
        self._report = bytearray()
        self.record(records.Opened(name, "e", BEGAN_S))
        for node, cores in nodes.items():
            self.join(node, cores, memory_gib)

    def record(self, record: records.Record) -> None:
        self._journal += journal.encode(record)

    def join(self, node: str, cores: int, memory_gib: int = 0, joined: bool = False) -> None:
        self._nodes[node] = NodeNo(len(self._nodes))
        ids = tuple(map(str, range(cores)))
        self.record(records.NodeJoined(NodeSpec(node, ids, mem_bytes=memory_gib << 30, joined=joined)))

    def leave(self, node: str, at_s: float) -> None:
        self.record(records.AgentDown(self._nodes[node], node))
        self.record(records.NodeLeft(self._nodes[node], BEGAN_S + at_s))

    def job(self, name: str, tasks: int | None = None, cores: int = 1, memory_mib: int = 0, at_s: float = 0.0) -> None:
        """`tasks`: how many iterations; None: it is one task."""
        need = Need(cores=Size.exactly(cores), mem_bytes=memory_mib << 20)
        iteration = None if tasks is None else Iteration(0, tasks)
        execution = Execution(exec="/usr/bin/sim", stdout=f"{name}.out", stderr=f"{name}.err")
        self.submit(JobSpec(name, execution, Resources(need), iteration), at_s)

    def submit(self, spec: JobSpec, at_s: float = 0.0) -> None:
        number = JobNo(len(self._jobs) + 1)
        self._jobs[spec.name] = number, spec
        self.record(records.Submitted(number, BEGAN_S + at_s, [spec]))

    def task(
        self,
        name: str,
        cores: Cores,
        began_s: float,
        ended_s: float,
        code: int = 0,
        attempts: int = 1,
        message: str = "",
        scheduled_s: float | None = None,
        cpu_s: float = 0.0,
        rss_mib: int = 10,
    ) -> None:
        """It has run, and ended with this code."""
        state = State.SUCCEED if code == 0 else State.FAILED
        pid, since_s = 1000 + len(self._report), began_s if scheduled_s is None else scheduled_s
        times = BEGAN_S + since_s, BEGAN_S + began_s, BEGAN_S + ended_s
        used = cpu_s, rss_mib * 1024
        record = TaskRecord(state, attempts, Cause.EXITED, code, pid, *times, *used, self._shares(cores))
        history = [(State.SCHEDULED, record.scheduled_s), (State.EXECUTING, record.started_s), (state, record.ended_s)]
        allocation = ",".join(f"{node}[{':'.join(map(str, some))}]" for node, some in cores.items())
        ran = Ran(record, allocation, str(self.wd), "sim", next(iter(cores)), attempts)
        self._entry(name, state, history, ran, message)

    def not_started(self, name: str, state: State, at_s: float, message: str = "") -> None:
        self._entry(name, state, [(state, BEGAN_S + at_s)], None, message)

    def _entry(
        self, name: str, state: State, history: list[tuple[State, float]], ran: Ran | None, message: str
    ) -> None:
        whole = ":" not in name
        described: dict[str, object] | None = {} if whole else None
        self._report += encode_json(ReportEntry(name, state, history, ran, described, described, messages=message))

    def lost(self, name: str, cores: Cores, began_s: float, ended_s: float, reason: str = "its agent was lost") -> None:
        """An attempt that came to nothing."""
        job, _, index = name.partition(":")
        number, _ = self._jobs[job]
        times = BEGAN_S + began_s, BEGAN_S + began_s, BEGAN_S + ended_s
        where = self._shares(cores)
        result = Result(number, int(index or 0), 1, State.QUEUED, Cause.LOST, -1, 1, *times, 0.0, 0, reason, where)
        self.record(records.Ended([result]))

    def _shares(self, cores: Cores) -> tuple[PlacedShare, ...]:
        return tuple(
            PlacedShare(self._nodes[node], format(sum(1 << core for core in some), "x"), "0")
            for node, some in cores.items()
        )

    def close(self, at_s: float) -> None:
        self.record(records.Closed(BEGAN_S + at_s, False))

    def write(self) -> None:
        (self.folder / journal.FILE_NAME).write_bytes(self._journal)
        (self.folder / "jobs.report").write_bytes(self._report)

    def __enter__(self) -> PastRun:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            self.write()
