"""Reads the folders of runs into one `Record`.

What has ended is in the report, all else in the journal: which nodes there were, when what was accepted, which attempts came to
nothing. A folder of the original has no journal; then the nodes are those on which something ran. Both are read through the
readers that everybody uses, once and from front to back.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

from ...pilot.model.job_spec import JobSpec
from ...pilot.model.resources import NodeSpec, bits, host_of
from ...pilot.model.results import PlacedShare
from ...pilot.model.states import State
from ...pilot.model.variables import of_iteration, substitute
from ...pilot.wire import journal, records
from ...pilot.wire.connection import AUX_PREFIX
from ...pilot.wire.reply_texts import parse_allocation
from ...pilot.wire.report import ReadEntry
from .. import ledger
from ..outcome import report_entries, tail_of
from ..run_folder import RunFolder
from .record import Failure, Fault, LostAttempt, NodeFacts, RealTimes, Record, RunFacts, Submit
from .tasks import Core, Job, Place

REPORT = "jobs.report"
_MOST_FAILURES = 20
_LINES = 12
_FINAL = "final_status.json"


def read_runs(folders: Sequence[RunFolder]) -> Record:
    """Several runs become one record; names of tasks and nodes that more than one has get the run's name in front.

    Raises PilotfishError when a journal or a ledger cannot be read.
    """
    journals = [_Journal(folder.path) for folder in folders]
    tasks = _shared([list(each.jobs) for each in journals])
    nodes = _shared([[host_of(spec.name) for spec in each.specs] for each in journals])
    record = Record()
    for folder, known in zip(folders, journals, strict=True):
        prefix = f"{folder.name}/"
        _RunReading(record, folder, known, prefix if tasks else "", prefix if nodes else "").read()
    record.submits.sort()
    record.faults.sort()
    return record


def _shared(names: Sequence[Sequence[str]]) -> bool:
    """Whether some name is in more than one of these."""
    count = Counter(name for each in names for name in set(each))
    return any(times > 1 for times in count.values())


class _Node:
    def __init__(self, spec: NodeSpec, from_s: float) -> None:
        self.spec = spec
        self.from_s = from_s
        self.to_s = 0.0


class _Lost(NamedTuple):
    job_no: int
    pos: int
    shares: tuple[PlacedShare, ...]
    started_s: float
    ended_s: float
    reason: str


_WORK = (records.Sent, records.Ended, records.Succeeded, records.AgentExpected, records.AgentUp)


class _Journal:
    """What the journal of one run says. `jobs`: those that are part of it now, by name."""

    def __init__(self, folder: Path) -> None:
        self.jobs: dict[str, JobSpec] = {}
        self.queued_s: dict[str, float] = {}
        self.nodes: list[_Node] = []
        self.submits: list[Submit] = []
        self.lost: list[_Lost] = []
        self.faults: list[Fault] = []
        self._downs: list[Fault] = []
        """Agents that are gone; if nothing but the end follows, that was their end too."""
        self.began_s = self.closed_s = self.latest_s = 0.0
        self.by_number: dict[int, JobSpec] = {}
        path = folder / journal.FILE_NAME
        if path.exists():
            with open(path, "rb") as file:
                for record in journal.Reader(file, str(path)):
                    self._take(record)
        self.jobs = {spec.name: spec for spec in self.by_number.values()}

    @property
    def specs(self) -> list[NodeSpec]:
        return [node.spec for node in self.nodes]

    def _take(self, record: records.Record) -> None:
        self._take_work(record)
        if self._downs and isinstance(record, _WORK):  # its own record has no time
            self.faults += [fault._replace(time_s=self.latest_s) for fault in self._downs]
            self._downs.clear()

    def _take_work(self, record: records.Record) -> None:
        if isinstance(record, records.Succeeded):
            if record.results.ended_s:
                self.latest_s = max(self.latest_s, record.results.ended_s[-1])
        elif isinstance(record, records.Ended):
            for result in record.results:
                self._take_result(result)
        elif isinstance(record, records.Sent):
            self.latest_s = max(self.latest_s, record.time_s)
        elif isinstance(record, records.Submitted):
            self._take_submitted(record)
        elif isinstance(record, records.Removed):
            for number in record.job_nos:
                self.by_number.pop(number, None)
        elif isinstance(record, records.Opened):
            self.began_s = self.began_s or record.time_s
            self.latest_s, self.closed_s = max(self.latest_s, record.time_s), 0.0
        elif isinstance(record, records.Closed):
            self.closed_s = record.time_s
            self._downs.clear()
        else:
            self._take_node(record)

    def _take_submitted(self, record: records.Submitted) -> None:
        self.latest_s = max(self.latest_s, record.time_s)
        self.by_number.update(zip(record.numbers, record.jobs, strict=True))
        self.queued_s.update(dict.fromkeys([spec.name for spec in record.jobs], record.time_s))
        self.submits.append(Submit(record.time_s, sum(spec.task_count for spec in record.jobs)))

    def _take_result(self, result: records.Result) -> None:
        self.latest_s = max(self.latest_s, result.ended_s)
        if result.state == State.QUEUED:
            reason = result.message or result.cause.name.lower().replace("_", " ")
            times = result.started_s, result.ended_s or self.latest_s
            self.lost.append(_Lost(result.job_no, result.pos, result.shares, *times, reason))

    def _take_node(self, record: records.Record) -> None:
        if isinstance(record, records.NodeJoined):
            self.nodes.append(_Node(record.spec, self.latest_s))
        elif isinstance(record, records.AgentUp) and record.core_ids:
            with suppress(IndexError):
                node = self.nodes[record.node]
                node.spec = replace(node.spec, core_ids=tuple(record.core_ids))
        elif isinstance(record, records.AgentDown):
            self._downs.append(Fault(self.latest_s, self.node_name(record.node), "its agent was gone"))
        elif isinstance(record, records.NodeLeft):
            self.latest_s = max(self.latest_s, record.time_s)
            self.faults.append(Fault(record.time_s, self.node_name(record.node), "the node left"))
            with suppress(IndexError):
                self.nodes[record.node].to_s = record.time_s

    def node_name(self, number: int) -> str:
        return host_of(self.nodes[number].spec.name) if 0 <= number < len(self.nodes) else ""


class _RunReading:
    """Adds one run to a record. `before_task`, `before_node`: what to put in front of names."""

    def __init__(self, record: Record, folder: RunFolder, known: _Journal, before_task: str, before_node: str) -> None:
        self._record = record
        self._folder = folder
        self._journal = known
        self._before_task = before_task
        self._before_node = before_node
        self._jobs: dict[str, int] = {}
        self._cores: dict[Core, int] = {}
        self._places: dict[str, int] = {}
        self._whole: dict[str, int] = {}
        """By job with iterations: how many it has, from its own entry."""
        self._seen: Counter[str] = Counter()
        self._clock = _Clock()

    def read(self) -> None:
        record, known = self._record, self._journal
        kept = ledger.read(self._folder.path, known.jobs)
        self._add_nodes()
        for entry in report_entries(self._folder.path / REPORT):
            if isinstance(entry, str):
                self._note(entry)
            elif kept.counts(entry.name):
                self._add(entry)
        self._count_unstarted(kept)
        record.submits += known.submits or self._submits()
        record.lost += [self._lost(each) for each in known.lost if each.job_no in known.by_number]
        record.faults += [fault._replace(node=self._before_node + fault.node) for fault in known.faults]
        self._add_facts()
        self._add_real_times()

    def _note(self, problem: str) -> None:
        text = f"{self._folder.path / REPORT}: {problem}"
        if text not in self._record.problems and (self._folder.path / REPORT).exists():
            self._record.problems.append(text)

    # --- nodes and places -----------------------------------------------------------------------------------------------

    def _add_nodes(self) -> None:
        for node in self._journal.nodes:
            spec, name = node.spec, self._before_node + host_of(node.spec.name)
            self._record.nodes.append(
                NodeFacts(
                    name, len(spec.core_ids), len(spec.gpu_ids), spec.mem_bytes, node.from_s, node.to_s, spec.joined
                )
            )
            for core in spec.core_ids:
                self._core(name, core)

    def _core(self, node: str, name: str) -> int:
        core = Core(node, name)
        number = self._cores.get(core)
        if number is None:
            number = self._cores[core] = len(self._record.cores)
            self._record.cores.append(core)
        return number

    def _place(self, allocation: str) -> int:
        number = self._places.get(allocation)
        if number is None:
            shares = tuple((self._before_node + node, tuple(cores)) for node, cores in parse_allocation(allocation))
            cores = tuple(self._core(node, core) for node, names in shares for core in names)
            number = self._places[allocation] = len(self._record.tasks.places)
            self._record.tasks.places.append(Place(shares, cores))
        return number

    # --- tasks ----------------------------------------------------------------------------------------------------------

    def _job(self, name: str) -> int:
        number = self._jobs.get(name)
        if number is None:
            spec = self._journal.jobs.get(name)
            memory = 0 if spec is None else spec.resources.need.mem_bytes
            number = self._jobs[name] = len(self._record.tasks.jobs)
            queued_s = self._journal.queued_s.get(name, 0.0)
            self._record.tasks.jobs.append(Job(self._before_task + name, queued_s, memory))
        return number

    def _add(self, entry: ReadEntry) -> None:
        name, _, index = entry.name.partition(":")
        times = {each["state"]: self._clock.seconds(each["date"]) for each in entry.history}
        spec = self._journal.jobs.get(name)
        job = self._job(name)
        if not index:
            queued_s = times.get("QUEUED", 0.0)
            if queued_s:
                self._record.tasks.jobs[job] = self._record.tasks.jobs[job]._replace(queued_s=queued_s)
            if entry.iterations is not None or (spec is not None and spec.iteration is not None) or self._seen[name]:
                self._whole[name] = entry.iterations or self._seen[name]
                unstarted = self._whole[name] - self._seen[name]
                if unstarted > 0:  # they have ended together with their job
                    self._record.unlisted["OMITTED" if entry.state == "OMITTED" else "CANCELED"] += unstarted
                return
        self._seen[name] += 1
        ran = entry.runtime
        self._record.tasks.add(
            job,
            int(index) if index else None,
            entry.state,
            (times.get("SCHEDULED", 0.0), times.get("EXECUTING", 0.0), times.get(entry.state, 0.0)),
            self._place(ran.allocation) if ran.allocation else 0,
            None if ran.exit_code is None else int(ran.exit_code),
            int(ran.pid or 0),
            ran.pname or "",
            ran.wd or "",
            float(ran.cpu_s or 0.0),
            int(ran.max_rss_kib or 0),
            int(ran.attempts or (1 if ran.allocation else 0)),
            entry.messages,
        )
        if entry.state != State.SUCCEED.name and len(self._record.failures) < _MOST_FAILURES:
            row = len(self._record.tasks) - 1
            self._record.failures.append(Failure(row, self._last_lines(entry.name, ran.wd)))

    def _last_lines(self, task: str, folder: str | None) -> str:
        """What a task wrote last to stderr, else to stdout; empty when neither was kept."""
        job, _, index = task.partition(":")
        spec = self._journal.jobs.get(job)
        if spec is None or folder is None:
            return ""
        values = {}
        if spec.iteration is not None:
            iteration, pos = spec.iteration, int(index) - spec.iteration.start
            values = of_iteration(int(index), iteration.value_at(pos), bool(iteration.params))
        names = [name for name in (spec.execution.stderr, spec.execution.stdout) if name is not None]
        texts = (tail_of(Path(folder) / substitute(name, values), _LINES) for name in names)
        return next((text for text in texts if text), "")

    def _count_unstarted(self, kept: ledger.Ledger) -> None:
        """What has neither an end of its own nor one with its job is left."""
        for name, spec in self._journal.jobs.items():
            entry = kept.get(name)
            count = spec.task_count if entry is None else entry.wanted_count
            if name not in self._whole:
                self._record.left += max(0, count - self._seen[name])

    def _submits(self) -> list[Submit]:
        """Of an original, which has no journal: from what each job says of itself."""
        jobs = self._record.tasks.jobs
        return [
            Submit(jobs[number].queued_s, self._seen[name])
            for name, number in self._jobs.items()
            if jobs[number].queued_s
        ]

    def _lost(self, lost: _Lost) -> LostAttempt:
        spec = self._journal.by_number[lost.job_no]
        names: list[Core] = []
        for share in lost.shares:
            node = self._journal.nodes[share.node].spec
            names += [
                Core(self._before_node + host_of(node.name), node.core_ids[bit]) for bit in bits(int(share.cores, 16))
            ]
        return LostAttempt(
            self._before_task + spec.task_name(lost.pos),
            names[0].node if names else "",
            tuple(self._core(*name) for name in names),
            lost.started_s,
            lost.ended_s,
            lost.reason,
        )

    # --- the run itself -------------------------------------------------------------------------------------------------

    def _add_facts(self) -> None:
        folder, known = self._folder, self._journal
        final = _final_status(folder.path)
        began_s = known.began_s or self._clock.seconds(str(final.get("Started", "")))
        ended_s = self._clock.seconds(str(final.get("Generated", ""))) or known.closed_s
        if known.began_s and not known.closed_s:  # it goes on, or was killed: the status is of an earlier end
            ended_s = 0.0
        state = folder.state
        if state == "stopped" and ended_s:
            state = "ended"
        self._record.runs.append(RunFacts(folder.name, folder.path, state, began_s, ended_s, sum(self._seen.values())))

    def _add_real_times(self) -> None:
        """From the `rtimes_*.log` files beside the auxiliary folder, which agents write with `--enable-rt-stats`."""
        measured: dict[str, RealTimes] = {}
        for path in sorted(self._folder.path.parent.glob("rtimes_*.log")):
            content = _json(path)
            for name, times in content.get("rt", {}).items():
                with suppress(KeyError, TypeError, AttributeError):
                    began_s, ended_s = self._clock.seconds(times["s"]), self._clock.seconds(times["f"])
                    if began_s and ended_s:
                        measured[self._before_task + name] = RealTimes(began_s, ended_s)
        for name, row in self._record.tasks.rows(list(measured)).items():
            self._record.real[row] = measured[name]


class _Clock:
    """Local times in ISO format as seconds since the epoch. Very many of them lie in few minutes."""

    def __init__(self) -> None:
        self._minutes: dict[str, float] = {}

    def seconds(self, text: str) -> float:
        """0.0 for what is no time."""
        minute_s = self._minutes.get(text[:16])
        try:
            if minute_s is None:
                minute_s = self._minutes[text[:16]] = datetime.fromisoformat(text[:16]).timestamp()
            return minute_s + float(text[17:])
        except ValueError:
            return 0.0


def _final_status(folder: Path) -> dict[str, Any]:
    """What the pilot, ours or an original, said last about itself; empty when it could not."""
    system = _json(folder / _FINAL).get("System", {})
    return system if isinstance(system, dict) else {}


def _json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}


def find_all(folder: Path) -> Iterator[Path]:
    """The auxiliary folders in a working folder, and the folder itself when it is one: those of originals too."""
    found = [folder] if folder.name.startswith(AUX_PREFIX) else sorted(folder.glob(f"{AUX_PREFIX}*"))
    return (each.resolve() for each in found if (each / REPORT).exists())
