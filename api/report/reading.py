"""Reads the folders of runs into one `Record`.

What has ended is in the report, all else in the journal: which nodes there were, when what was accepted, which attempts came to
nothing. A folder of the original has no journal; then the nodes are those on which something ran. Both are read through the
readers that everybody uses, once and from front to back.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

from ...pilot.model.errors import RefusedError
from ...pilot.model.job_spec import JobSpec
from ...pilot.model.resources import bits, host_of
from ...pilot.wire import reply_texts
from ...pilot.wire.connection import AUX_PREFIX
from ...pilot.wire.report import ReadEntry
from ..run_folder import RunFolder
from ..task_output import last_lines
from ..task_records import NOT_ENDED, REPORT, SUCCEEDED, Batch, TaskRecords
from .journal_facts import Journal, Lost
from .record import Failure, LostAttempt, NodeFacts, RealTimes, Record, RunFacts, Submit
from .tasks import Core, Job, Place

_MOST_FAILURES = 20
_LINES = 12
_CLOCKS_S = 5.0
"""By how much the clocks of two nodes may differ."""
_FINAL = "final_status.json"


def read_runs(folders: Sequence[RunFolder]) -> Record:
    """Several runs become one record; names of tasks and nodes that more than one has get the run's name in front.

    Raises PilotfishError when a journal or a ledger cannot be read.
    """
    journals = [Journal(folder.path) for folder in folders]
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


class _RunReading:
    """Adds one run to a record. `before_task`, `before_node`: what to put in front of names."""

    def __init__(self, record: Record, folder: RunFolder, known: Journal, before_task: str, before_node: str) -> None:
        self._record = record
        self._folder = folder
        self._journal = known
        self._before_task = before_task
        self._before_node = before_node
        self._tasks = TaskRecords(folder.path)
        self._first_job = len(record.tasks.jobs)
        self._first_row = len(record.tasks)
        self._count = 0
        self._cores: dict[Core, int] = {}
        self._places: dict[str, int] = {"": 0}
        self._clock = _Clock()

    def read(self) -> None:
        record, known = self._record, self._journal
        self._add_nodes()
        if known.by_number:
            self._add_batches()
        else:
            self._add_entries()
        if self._tasks.problem:
            self._check_is_json()
            self._note(self._tasks.problem)
        record.submits += known.submits or self._submits()
        record.lost += [self._lost(each) for each in known.lost if each.job_no in known.by_number]
        record.faults += [fault._replace(node=self._before_node + fault.node) for fault in known.faults]
        self._add_facts()
        self._add_real_times()

    def _check_is_json(self) -> None:
        """Of a report in which something cannot be read. Raises RefusedError for one that is for people."""
        path = self._folder.path / REPORT
        with suppress(OSError), open(path, "rb") as file:
            if file.read(1) not in (b"{", b""):
                remedy = "start the pilot with --report-format json or columns to have it read by programs"
                raise RefusedError("the report is text", where=str(path), remedy=remedy)

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
            shares = tuple(
                (self._before_node + node, tuple(cores)) for node, cores in reply_texts.parse_allocation(allocation)
            )
            cores = tuple(self._core(node, core) for node, names in shares for core in names)
            number = self._places[allocation] = len(self._record.tasks.places)
            text = reply_texts.allocation(shares) if self._before_node else allocation
            self._record.tasks.places.append(Place(shares, cores, text))
        return number

    # --- tasks ----------------------------------------------------------------------------------------------------------

    def _add_batches(self) -> None:
        """Of a run of ours."""
        jobs: dict[str, int] = {}
        for batch in self._tasks.batches():
            if batch.state[0] == NOT_ENDED:
                self._record.left += len(batch)
            elif not batch.ended_s[0]:  # they have ended together with their job
                self._record.unlisted.update(batch.state)
            else:
                first = len(self._record.tasks)
                self._record.tasks.extend(
                    batch, self._numbers(batch.jobs, jobs), list(map(self._place, batch.allocation))
                )
                self._note_failures(batch, first)
                self._count += len(batch)

    def _numbers(self, specs: Sequence[JobSpec], known: dict[str, int]) -> list[int]:
        """Of the jobs of a batch, which are often one and the same."""
        if specs[0] is specs[-1] and len(specs) > 1 and specs.count(specs[0]) == len(specs):
            return [self._number(specs[0], known)] * len(specs)
        return [self._number(spec, known) for spec in specs]

    def _number(self, spec: JobSpec, known: dict[str, int]) -> int:
        number = known.get(spec.name)
        if number is None:
            number = known[spec.name] = len(self._record.tasks.jobs)
            queued_s, memory = self._journal.queued_s.get(spec.name, 0.0), spec.resources.need.mem_bytes
            start = None if spec.iteration is None else spec.iteration.start
            words = partial(self._tasks.program_and_folder, spec)
            self._record.tasks.jobs.append(Job(self._before_task + spec.name, queued_s, memory, start, words))
        return number

    def _note_failures(self, batch: Batch, first: int) -> None:
        if len(self._record.failures) >= _MOST_FAILURES or batch.state.count(SUCCEEDED) == len(batch):
            return
        for at, state in enumerate(batch.state):
            if state != SUCCEEDED and len(self._record.failures) < _MOST_FAILURES:
                row, aux = self._tasks.row(batch, at), self._folder.path
                lines = last_lines(aux, row, _LINES) or last_lines(aux, row, _LINES, of_stderr=False)
                self._record.failures.append(Failure(first + at, lines))

    def _add_entries(self) -> None:
        """Of an original, whose report is all there is."""
        jobs: dict[str, int] = {}
        seen: Counter[int] = Counter()
        for entry in self._tasks.lines():
            if isinstance(entry, ReadEntry):
                name, _, index = entry.name.partition(":")
                number = jobs.setdefault(name, len(jobs) + self._first_job)
                if number == len(self._record.tasks.jobs):
                    self._record.tasks.jobs.append(Job(self._before_task + name))
                times = {each["state"]: self._clock.seconds(each["date"]) for each in entry.history}
                job = self._record.tasks.jobs[number]
                if not index:
                    job = self._record.tasks.jobs[number] = job._replace(queued_s=times.get("QUEUED", 0.0))
                if index or not seen[number]:  # else it is the job that has these iterations
                    seen[number] += 1
                    self._add_entry(entry, number, int(index) if index else None, times)

    def _add_entry(self, entry: ReadEntry, job: int, index: int | None, times: Mapping[str, float]) -> None:
        ran = entry.runtime
        took = reply_texts.parse_rtime(ran.rtime) if ran.rtime else None
        if index is not None and self._record.tasks.jobs[job].start is None:
            self._record.tasks.jobs[job] = self._record.tasks.jobs[job]._replace(start=0)
        self._record.tasks.add(
            job,
            index or 0,
            entry.state,
            (times.get("SCHEDULED", 0.0), times.get("EXECUTING", 0.0), times.get(entry.state, 0.0)),
            self._place(ran.allocation or ""),
            None if ran.exit_code is None else int(ran.exit_code),
            int(ran.pid or 0),
            (ran.pname or "", ran.wd or ""),
            None if took is None else took.total_seconds(),
            1 if ran.allocation else 0,
            entry.messages,
        )
        self._count += 1

    def _submits(self) -> list[Submit]:
        """Of an original, which has no journal: from what each job says of itself."""
        tasks = self._record.tasks
        counts = Counter(tasks.job[self._first_row :])
        return [Submit(tasks.jobs[job].queued_s, count) for job, count in counts.items() if tasks.jobs[job].queued_s]

    def _lost(self, lost: Lost) -> LostAttempt:
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
        self._record.runs.append(RunFacts(folder.name, folder.path, state, began_s, ended_s, self._count))

    def _add_real_times(self) -> None:
        """From the `rtimes_*.log` files beside the auxiliary folder, which agents write with `--enable-rt-stats`."""
        measured: dict[str, RealTimes] = {}
        for path in sorted(self._folder.path.parent.glob("rtimes_*.log")):
            content = _json(path)
            for name, times in content.get("rt", {}).items():
                with suppress(KeyError, TypeError, AttributeError):
                    began_s, ended_s = self._clock.seconds(times["s"]), self._clock.seconds(times["f"])
                    if began_s and ended_s >= self._record.runs[-1].began_s - _CLOCKS_S:  # else of an earlier run
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
