"""What clients and reports see of jobs and tasks: runtime data, history, placements, in the old protocol's words."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path

from ..model.attempts import Attempt
from ..model.decisions import Change, Succeeded
from ..model.ids import JobNo, NodeNo
from ..model.jobs import Job
from ..model.resources import GPU, NamedResource, NodeSpec, bits, host_of
from ..model.results import PlacedPart, PlacedShare
from ..model.running import running_of
from ..model.scheduler import Scheduler
from ..model.states import State
from ..model.steps import Pause, Steps
from ..model.tasks import ManyTasks, TaskRecord
from ..model.variables import of_iteration, substitute
from ..wire import codec, replies, reply_bytes, reply_texts
from ..wire.describe import undescribe
from ..wire.overview import Failure
from ..wire.report import PlaceTexts, ReportEntry, TaskLines, place_texts
from ..wire.report_columns import EndedTask
from ..wire.runtime import Ran, runtime

_CHILDREN = 100
"""Iterations in one slice."""
_MOST_JOBS, _MOST_PLACES = 1024, 65_536
"""Of so many it is remembered what the report says of them."""
_UNKNOWN = TaskLines("", "", "")


class Views:
    """Read-only looks at the scheduler's jobs. `root_wd`: the pilot's working directory, absolute."""

    def __init__(self, scheduler: Scheduler, root_wd: Path) -> None:
        self._scheduler = scheduler
        self._root_wd = codec.to_text(str(root_wd))
        self._lines: dict[JobNo, TaskLines | None] = {}
        self._place_texts: dict[int, PlaceTexts] = {}
        self._texts_on_node = TextsOnNode(scheduler.nodes.specs)
        of_pool = {name: stock.resource for name, stock in scheduler.nodes.stocks.pool.items()}
        self._places = lru_cache(maxsize=65_536)(lambda shares: _place(scheduler.nodes.specs, of_pool, shares))

    # --- one task -------------------------------------------------------------------------------------------------------

    def record(self, job: Job, pos: int) -> TaskRecord:
        """What is known of a task now, running ones included."""
        attempt = self._attempt(job, pos)
        return job.tasks.load(pos) if attempt is None else attempt.record()

    def _attempt(self, job: Job, pos: int) -> Attempt | None:
        if job.tasks.state(pos) in (State.SCHEDULED, State.EXECUTING):
            return self._scheduler.attempt_of(job, pos)
        return None

    def history(self, job: Job, pos: int | None, record: TaskRecord | None) -> list[tuple[State, float]]:
        """States with their times, oldest first. Iterations have no QUEUED, iteration jobs only that and the end."""
        entries: list[tuple[State, float]] = []
        if pos is None or not job.is_iteration:
            entries.append((State.QUEUED, job.submitted_s))
        if record is None:
            return [*entries, (job.state, job.ended_s)] if job.state.final else entries
        if record.scheduled_s:
            entries.append((State.SCHEDULED, record.scheduled_s))
        if record.started_s and record.pid > 0:
            entries.append((State.EXECUTING, record.started_s))
        if record.state.final:
            entries.append((record.state, record.ended_s or job.ended_s))
        return entries

    def ran(self, job: Job, pos: int, record: TaskRecord) -> Ran | None:
        """None for a task that was never placed."""
        if not record.shares:
            return None
        place = self._places(record.shares)
        wd, program = self._wd(job, pos, place), self._program(job, pos, place)
        return Ran(record, place.text, wd, program, place.nodes[0], job.attempts(pos), place.resources)

    def _wd(self, job: Job, pos: int, place: Place) -> str:
        wd = job.spec.execution.wd
        if wd is None:
            return self._root_wd
        return _below(self._root_wd, self._filled(job, pos, place, wd))

    def _program(self, job: Job, pos: int, place: Place) -> str:
        program = job.spec.execution.exec
        return "bash" if program is None else _basename(self._filled(job, pos, place, program))

    def _filled(self, job: Job, pos: int, place: Place, text: str) -> str:
        """With the variables of the start phase, as the agent filled them in."""
        if "$" not in text:
            return text
        values = {
            "root_wd": self._root_wd,
            "ncores": str(place.cores),
            "nnodes": str(len(place.nodes)),
            "nlist": ",".join(place.nodes),
        }
        iteration = job.spec.iteration
        if iteration is not None:
            values |= of_iteration(iteration.start + pos, iteration.value_at(pos), bool(iteration.params))
        return substitute(text, values)

    def files(self, job: Job, pos: int, shares: tuple[PlacedShare, ...]) -> tuple[str, str]:
        """The absolute names of stdout and stderr of a task that was placed there; empty where it has none."""
        place, execution = self._places(shares), job.spec.execution
        wd = self._wd(job, pos, place)
        stdout, stderr = (
            "" if name is None else _below(wd, self._filled(job, pos, place, name))
            for name in (execution.stdout, execution.stderr)
        )
        return stdout, stderr

    def failure(self, change: Change) -> Failure:
        """What there is to say of a task that has failed."""
        job, pos = change.job, change.pos or 0
        shares = job.tasks.load(pos).shares
        failure = Failure(job.spec.task_name(pos), change.time_s, change.exit_code, change.message)
        if shares:
            failure.node = self._places(shares).nodes[0]
            failure.stdout, failure.stderr = self.files(job, pos, shares)
        return failure

    # --- entries --------------------------------------------------------------------------------------------------------

    def info(self, job: Job, pos: int | None, name: str) -> replies.JobInfo:
        """The data of one jobInfo entry, without the iterations."""
        whole_iteration = job.is_iteration and pos is None
        state = job.state if pos is None else job.tasks.state(pos)
        info = replies.JobInfo(name, state.name, messages=job.message_of(pos) or None)
        record = None if whole_iteration else self.record(job, pos or 0)
        if whole_iteration:
            info.iterations = _iterations(job, running_of(self._scheduler, job))
        if record is not None:
            info.runtime = self._runtime(job, pos or 0, record)
        info.history = reply_texts.history(self.history(job, pos, record)) or None
        return info

    def children(self, job: Job, start: int, stop: int) -> Steps[list[bytes]]:
        """The iterations at positions start..stop-1, in stretches of `childs`."""
        stretches = []
        for first in range(start, stop, _CHILDREN):
            last = min(first + _CHILDREN, stop)
            stretches.append(reply_bytes.stretch([self._child(job, at) for at in range(first, last)]))
            yield Pause.MORE
        return stretches

    def _child(self, job: Job, pos: int) -> replies.IterationInfo:
        record = self.record(job, pos)
        index = job.spec.index_of(pos)
        assert index is not None
        messages = job.message_of(pos) or None
        return replies.IterationInfo(index, record.state.name, self._runtime(job, pos, record), messages)

    def _runtime(self, job: Job, pos: int, record: TaskRecord) -> replies.Runtime | None:
        ran = self.ran(job, pos, record)
        return None if ran is None else runtime(ran)

    def report_line(self, ending: Change) -> str | None:
        """`report_entry` as JSON, where nothing but its numbers distinguishes the task from its job's others; else None."""
        job, pos, state, _, _, message = ending
        tasks = job.tasks
        if pos is None or message or _is_special(job, (pos,)) or not isinstance(tasks, ManyTasks):
            return None
        row = tasks.ended_row(pos)
        exit_code, pid, place, _, _, scheduled_s, started_s, ended_s, _ = row
        if exit_code < 0 or pid <= 0 or not place or not (scheduled_s and started_s and ended_s):
            return None
        lines = self._lines.get(job.no, _UNKNOWN)
        if lines is _UNKNOWN:
            lines = self._task_lines(job)
        if lines is None or job.spec.iteration is None:
            return None
        texts = self._texts_of_place(place)
        return lines.encode(job.spec.iteration.start + pos, state, row, texts)

    def report_lines(self, succeeded: Succeeded) -> str | None:
        """`report_line` for these, where that can be had for all of them together; else None."""
        job, ends = succeeded.job, succeeded.ends
        if _is_special(job, ends.pos) or job.spec.iteration is None:
            return None
        lines = self._lines.get(job.no, _UNKNOWN)
        if lines is _UNKNOWN:
            lines = self._task_lines(job)
        places = list(map(self._texts_of_place, succeeded.places))
        return None if lines is None else lines.encode_all(job.spec.iteration.start, ends, places)

    def _task_lines(self, job: Job) -> TaskLines | None:
        """What the entries of this job's tasks have in common; None when their folders or programs differ."""
        execution, lines = job.spec.execution, None
        if "$" not in f"{execution.wd}{execution.exec}":
            lines = TaskLines(job.spec.name, self._wd(job, 0, _NOWHERE), self._program(job, 0, _NOWHERE))
        if len(self._lines) >= _MOST_JOBS:
            self._lines.clear()
        self._lines[job.no] = lines
        return lines

    def _texts_of_place(self, number: int) -> PlaceTexts:
        texts = self._place_texts.get(number)
        if texts is not None:
            return texts
        if len(self._place_texts) >= _MOST_PLACES:
            self._place_texts.clear()
        shares = self._scheduler.jobs.places.shares(number)
        if len(shares) == 1 and not shares[0].named and shares[0].gpus == "0":
            texts = self._texts_on_node.of(shares[0])
        else:
            place = self.place(number)
            texts = place_texts(place.text, place.nodes[0], place.resources)
        self._place_texts[number] = texts
        return texts

    def place(self, number: int) -> Place:
        """The place of that number in the registry."""
        return self._places(self._scheduler.jobs.places.shares(number))

    def ended_task(self, ending: Change) -> EndedTask | None:
        """For the report in columns; None for a job with iterations, and for what was never placed."""
        job, pos, state, _, _, message = ending
        if pos is None and job.is_iteration:
            return None
        record = job.tasks.load(pos or 0)
        if not record.shares:
            return None
        return EndedTask(
            job.spec.task_name(pos or 0),
            job.spec.index_of(pos or 0),
            state,
            record.exit_code,
            record.pid,
            self._scheduler.jobs.places.number(record.shares),
            record.max_rss_kib,
            record.cpu_s,
            record.scheduled_s,
            record.started_s,
            record.ended_s,
            job.attempts(pos or 0),
            message,
        )

    def report_entry(self, ending: Change) -> ReportEntry:
        """The `jobs.report` entry of a job or iteration that has just ended."""
        job, pos, state, _, _, message = ending
        if pos is not None:
            record = job.tasks.load(pos)
            ran, history = self.ran(job, pos, record), self.history(job, pos, record)
            return ReportEntry(job.spec.task_name(pos), state, history, ran, messages=message)
        only_task = None if job.is_iteration else job.tasks.load(0)
        ran = None if only_task is None else self.ran(job, 0, only_task)
        history = self.history(job, None, only_task)
        described = undescribe(job.spec)
        parts = described["execution"], described["resources"], described.get("dependencies")
        iterations = job.spec.task_count if job.is_iteration else None
        return ReportEntry(job.spec.name, state, history, ran, *parts, message, iterations)


def _is_special(job: Job, positions: Collection[int]) -> bool:
    """Whether one of these tasks has a message, or was started more than once: on a large pilot some of each job are."""
    return any(of and not of.keys().isdisjoint(positions) for of in (job.messages, job.failures, job.crashes))


# Most tasks of a pilot have few different folders and programs, and each ending asks for both.
_basename = lru_cache(maxsize=1024)(os.path.basename)


@lru_cache(maxsize=1024)
def _below(root: str, wd: str) -> str:
    return os.path.normpath(os.path.join(root, wd))


class Place:
    """Where a task ran, in words."""

    __slots__ = ("cores", "nodes", "resources", "text")

    def __init__(self, text: str, nodes: list[str], cores: int, resources: str = "") -> None:
        self.text = text
        self.resources = resources
        """GPUs and named resources."""
        self.nodes = nodes
        self.cores = cores


_NOWHERE = Place("", [], 0)


class TextsOnNode:
    """What the report says of a place on one node, put together from what it says of the node and of the cores.

    On 1,000 nodes of 128 cores there are more places than are remembered, and each task is in another one than those before it.
    """

    def __init__(self, specs: Sequence[NodeSpec]) -> None:
        self._specs = specs
        self._nodes: dict[NodeNo, tuple[tuple[str, ...], PlaceTexts, dict[str, str]]] = {}
        """The core ids that were meant; the texts of the node, the first without its end; of cores by their mask."""
        self._cores: dict[tuple[str, ...], dict[str, str]] = {}
        """The last of these: one for all nodes with the same ids."""

    def of(self, share: PlacedShare) -> PlaceTexts:
        spec = self._specs[share.node]
        known = self._nodes.get(share.node)
        if known is None or known[0] is not spec.core_ids:
            host = host_of(spec.name)
            texts = PlaceTexts(place_texts(f"{host}[", "").allocation[:-1], place_texts("", host).node)
            known = self._nodes[share.node] = spec.core_ids, texts, self._cores.setdefault(spec.core_ids, {})
        core_ids, (begin, node), of_cores = known
        cores = of_cores.get(share.cores)
        if cores is None:
            if len(of_cores) >= _MOST_PLACES:
                of_cores.clear()
            ids = ":".join([core_ids[bit] for bit in bits(int(share.cores, 16))])
            cores = of_cores[share.cores] = place_texts(f"{ids}]", "").allocation[1:]
        return PlaceTexts(begin + cores, node)


def _place(specs: Sequence[NodeSpec], of_pool: Mapping[str, NamedResource], shares: tuple[PlacedShare, ...]) -> Place:
    parts = []
    total = 0
    for share in shares:
        cores = [specs[share.node].core_ids[bit] for bit in bits(int(share.cores, 16))]
        total += len(cores)
        parts.append((host_of(specs[share.node].name), cores))
    resources = [reply_texts.resources(_taken(specs[share.node], share, of_pool)) for share in shares]
    return Place(reply_texts.allocation(parts), [name for name, _ in parts], total, "; ".join(filter(None, resources)))


def _taken(
    spec: NodeSpec, share: PlacedShare, of_pool: Mapping[str, NamedResource]
) -> Iterator[tuple[str, list[str], int, int]]:
    """(name, ids, amount, parts) of what a task had of a node's GPUs and named resources, and of the pool's."""
    there = {**of_pool, **{each.name: each for each in spec.named}, GPU: NamedResource(GPU, spec.gpu_ids)}
    gpus = (PlacedPart(GPU, 0, share.gpus, 0),) if int(share.gpus, 16) else ()
    for name, amount, slots, parts in (*gpus, *share.named):
        ids = there[name].ids if name in there else ()  # an earlier pilot had other resources
        yield name, [ids[bit] if bit < len(ids) else str(bit) for bit in bits(int(slots, 16))], amount, parts


def _iterations(job: Job, running: int) -> replies.Iterations:
    iteration = job.spec.iteration
    assert iteration is not None
    return replies.Iterations(iteration.start, iteration.stop, iteration.count, job.finished, job.failed, running)
