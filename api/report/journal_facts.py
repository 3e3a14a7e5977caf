"""What the journal of a run says beside the ends of its tasks: nodes, submits, faults, attempts that came to nothing."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from ...pilot.model.job_spec import JobSpec
from ...pilot.model.resources import NodeSpec, host_of
from ...pilot.model.results import PlacedShare
from ...pilot.model.states import State
from ...pilot.wire import journal, records
from .record import Fault, Submit


class Node:
    def __init__(self, spec: NodeSpec, from_s: float) -> None:
        self.spec = spec
        self.from_s = from_s
        self.to_s = 0.0


class Lost(NamedTuple):
    job_no: int
    pos: int
    shares: tuple[PlacedShare, ...]
    started_s: float
    ended_s: float
    reason: str


_WORK = (records.Sent, records.Ended, records.Succeeded, records.AgentExpected, records.AgentUp)


class Journal:
    """What the journal of one run says. `jobs`: those that are part of it now, by name."""

    def __init__(self, folder: Path) -> None:
        self.jobs: dict[str, JobSpec] = {}
        self.queued_s: dict[str, float] = {}
        self.nodes: list[Node] = []
        self.submits: list[Submit] = []
        self.lost: list[Lost] = []
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
            self.lost.append(Lost(result.job_no, result.pos, result.shares, *times, reason))

    def _take_node(self, record: records.Record) -> None:
        if isinstance(record, records.NodeJoined):
            self.nodes.append(Node(record.spec, self.latest_s))
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
