"""A job, or a row of several array elements, with all that can be printed of it; what the columns are taken from."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...machines import slurm_facts
from . import batch_step
from .jobs import Job, Queue, pending_label
from .request import Site


@dataclass(frozen=True)
class Step:
    """The batch script (`batch`) or a step of srun, as sacct lists it."""

    id: str
    name: str
    tasks: int
    cpus: int
    nodes: tuple[str, ...]
    started: float
    ended: float | None
    exit_code: int
    signal: int
    state: str


@dataclass(frozen=True)
class Row:
    """What one line shows. `elements`: of a row that stands for pending elements of an array."""

    job: Job
    queue: Queue
    site: Site
    now: float
    elements: tuple[Job, ...] = ()
    time_format: str = ""
    step: Step | None = None

    @property
    def label(self) -> str:
        return pending_label(self.job.array_id, list(self.elements)) if self.elements else self.job.label

    @property
    def raw_label(self) -> str:
        return str(self.job.id)

    def moment(self, seconds: float | None, absent: str = "N/A") -> str:
        return slurm_facts.moment(seconds, absent, self.time_format)

    @property
    def short_state(self) -> str:
        return slurm_facts.STATES[self.job.state].short

    @property
    def limit(self) -> str:
        minutes = self.job.request.time_limit
        return "UNLIMITED" if minutes is None else slurm_facts.elapsed(60 * minutes)

    @property
    def left(self) -> str:
        minutes = self.job.request.time_limit
        return "UNLIMITED" if minutes is None else slurm_facts.elapsed(60 * minutes - self.job.ran_s(self.now))

    @property
    def nodelist(self) -> str:
        return slurm_facts.hostlist(self.job.nodes)

    @property
    def expected_end(self) -> float | None:
        minutes = self.job.request.time_limit
        if self.job.ended is not None or self.job.started is None or minutes is None:
            return self.job.ended
        return self.job.started + 60 * minutes

    @property
    def node_count(self) -> int:
        return len(self.job.nodes) or self.job.request.shape.nodes

    @property
    def reason(self) -> str:
        return self.job.reason

    @property
    def nodes_or_reason(self) -> str:
        if self.job.state == "RUNNING" or self.job.is_good:
            return self.nodelist
        return self.nodelist if self.job.state == "CANCELLED" else f"({self.reason})"

    @property
    def exit_status(self) -> str:
        return slurm_facts.exit_status(self.job.exit_code, self.job.signal)

    @property
    def memory(self) -> str:
        request = self.job.request
        return slurm_facts.memory(request.mem_per_cpu or request.shape.mem_mib)

    @property
    def requested_memory(self) -> str:
        mib = self.job.request.shape.mem_mib * self.job.request.shape.nodes
        return slurm_facts.memory(mib) if mib else ""

    @property
    def state_words(self) -> str:
        """As sacct prints it: `CANCELLED by 0`."""
        by = self.job.canceled_by
        return (
            f"CANCELLED by {by}" if self.job.state in ("CANCELLED", "COMPLETING") and by is not None else self.job.state
        )

    def tres(self, what: str = "billing=1") -> str:
        shape = self.job.request.shape
        words = [f"billing={shape.cpus}", f"cpu={shape.cpus}"]
        words += [f"gres/gpu={shape.gpus * shape.nodes}"] if shape.gpus else []
        words += [f"mem={self.requested_memory}"] if self.requested_memory else []
        return ",".join([*words, f"node={shape.nodes}"])

    def file(self, kind: str) -> str:
        """Absolute, with the pattern filled in."""
        return os.path.join(self.job.request.work_dir, self._file_name(kind))

    def _file_name(self, kind: str) -> str:
        request = self.job.request
        pattern = request.output if kind == "output" else request.error or request.output
        if kind == "input":
            pattern = request.input or "/dev/null"
        facts = {
            "id": self.job.id,
            "array_id": self.job.array_id or self.job.id,
            "index": 4294967294 if self.job.index is None else self.job.index,
            "name": request.name,
            "user": self.site.user,
        }
        pattern = pattern or default_output(self.job)
        return batch_step.file_name(pattern, facts, self.job.nodes[0] if self.job.nodes else "%N")


def default_output(job: Job) -> str:
    return "slurm-%j.out" if job.index is None else "slurm-%A_%a.out"


def rows(
    jobs: Iterable[Job], queue: Queue, site: Site, now: float, time_format: str = "", fold: bool = True
) -> Iterator[Row]:
    """A row each; elements of an array that wait for the same reason stand in one, unless not to `fold`."""
    together: dict[tuple[int, str], list[Job]] = {}
    for job in jobs:
        if fold and job.index is not None and job.state == "PENDING":
            together.setdefault((job.array_id, job.reason), []).append(job)
        else:
            yield Row(job, queue, site, now, (), time_format)
    for elements in together.values():
        first = elements[-1]
        yield Row(first, queue, site, now, tuple(elements), time_format)


def steps(row: Row, folder: Path) -> list[Step]:
    """The batch script and what srun has started in it; nothing for a job that never ran."""
    job = row.job
    if job.started is None:
        return []
    state = job.state if job.state != "TIMEOUT" else "CANCELLED"
    batch = Step(
        "batch", "batch", 1, job.request.shape.cores, job.nodes[:1], job.started, job.ended, job.exit_code, job.signal,
        "CANCELLED" if job.signal else state,
    )  # fmt: skip
    found: dict[int, Mapping[str, Any]] = {}
    try:
        lines = (folder / "steps" / "log").read_text().splitlines()
    except OSError:
        lines = []
    for line in lines:
        facts = json.loads(line)
        found[facts["id"]] = facts
    return [batch, *(_step(facts, job) for _, facts in sorted(found.items()))]


def _step(facts: Mapping[str, Any], job: Job) -> Step:
    ended = facts.get("end")
    code, signal = facts.get("exit", 0), facts.get("signal", 0)
    if ended is None:
        state = "CANCELLED" if job.is_over else "RUNNING"
        ended = job.ended
    else:
        state = "CANCELLED" if signal else "FAILED" if code else "COMPLETED"
    nodes = tuple(facts["nodes"])
    return Step(
        str(facts["id"]),
        facts["name"],
        facts["tasks"],
        facts["cpus"],
        nodes,
        facts["start"],
        ended,
        code,
        signal,
        state,
    )
