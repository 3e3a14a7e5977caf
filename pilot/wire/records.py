"""The journal's records: what must be known to go on after the manager was killed at any moment.

If a record is changed or added, increment VERSION in journal.py and say in read() what old files mean.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import cast

import msgspec

from ..model.ids import JobNo, NodeNo, TaskKey
from ..model.job_spec import JobSpec
from ..model.resources import NodeSpec
from ..model.results import PlacedPart as PlacedPart
from ..model.results import PlacedShare as PlacedShare
from ..model.results import Result as Result
from ..model.results import Successes as Successes
from ..model.steps import SLICE


class Opened(msgspec.Struct, array_like=True, tag=True, frozen=True):
    """A manager began (or went on with) this journal."""

    instance_id: str
    epoch: str
    time_s: float


class Submitted(msgspec.Struct, array_like=True, tag=True, frozen=True):
    """One accepted submit request.

    Its jobs are numbered from `first_job_no` on, unless a compaction has left gaps: then `job_nos` has their numbers.

    A large submit is written over many turns: its first jobs stand before this, in `parts` records SubmittedPart of number
    `parts_no`. None of them is accepted before this record is there.
    """

    first_job_no: JobNo
    time_s: float
    jobs: list[JobSpec]
    job_nos: list[JobNo] | None = None
    parts_no: int = 0
    parts: int = 0

    @property
    def numbers(self) -> Sequence[JobNo]:
        if self.job_nos is not None:
            return self.job_nos
        return cast(Sequence[JobNo], range(self.first_job_no, self.first_job_no + len(self.jobs)))


class SubmittedPart(msgspec.Struct, array_like=True, tag=True, frozen=True):
    """Jobs of a submit that is on its way into the journal: the `place`-th part of number `parts_no`.

    Part 0 begins anew: an earlier life may have been killed over a submit of the same number.
    """

    parts_no: int
    place: int
    jobs: list[JobSpec]


_MOST_OF_PORTION = 2 << 20


def portions(jobs: list[JobSpec]) -> Iterator[list[JobSpec]]:
    """The jobs of a submit as they are recorded, in portions that are written in a moment.

    The last one stands in `Submitted`, each other one in a `SubmittedPart`.
    """
    begin = size = 0
    for place, spec in enumerate(jobs):
        of_this = _size(spec)
        if place > begin and (place - begin == SLICE or size + of_this > _MOST_OF_PORTION):
            yield jobs[begin:place]
            begin, size = place, 0
        size += of_this
    yield jobs[begin:]


def _size(spec: JobSpec) -> int:
    """About how many bytes a description takes that is larger than most."""
    execution, iteration = spec.execution, spec.iteration
    size = len(execution.script or "") + sum(map(len, execution.args)) + sum(map(len, execution.env.values()))
    if iteration is not None and iteration.values is not None:
        size += sum(map(len, iteration.values))
    if execution.calls is not None:
        size += len(execution.calls.data) + len(execution.calls.setup)
    if spec.attributes is not None:
        size += len(msgspec.msgpack.encode(spec.attributes))
    return size


class Sent(msgspec.Struct, array_like=True, tag=True, frozen=True):
    """These attempts go to the agent of this node: written before the frame leaves."""

    node: NodeNo
    time_s: float
    tasks: list[TaskKey]


class Ended(msgspec.Struct, array_like=True, tag=True, frozen=True):
    results: list[Result]


class Succeeded(msgspec.Struct, array_like=True, tag=True, frozen=True):
    """Results that nothing distinguishes, in columns."""

    results: Successes


class Returned(msgspec.Struct, array_like=True, tag=True, frozen=True):
    """What calls of a job have returned or raised, in columns; written before their ends."""

    job_no: JobNo
    run: int
    pos: list[int]
    data: list[bytes]


class Taken(msgspec.Struct, array_like=True, tag=True, frozen=True):
    """These attempts came back without having been started (revoked, or held by a lost agent): the run does not count."""

    tasks: list[TaskKey]


class Canceled(msgspec.Struct, array_like=True, tag=True, frozen=True):
    """An accepted cancel: of the whole job, or of one position."""

    job_no: JobNo
    pos: int | None
    time_s: float


class Removed(msgspec.Struct, array_like=True, tag=True, frozen=True):
    job_nos: list[JobNo]


class NodeJoined(msgspec.Struct, array_like=True, tag=True, frozen=True):
    """A node is part of the pilot from now on; its number is how many joined before it."""

    spec: NodeSpec


UNKNOWN_NODE = NodeJoined(NodeSpec("", ()))
"""What is read in the place of such a record that makes no sense: nodes are numbered in the order in which they joined."""


class NodeLeft(msgspec.Struct, array_like=True, tag=True, frozen=True):
    """The node will not come back: another allocation has other nodes."""

    node: NodeNo
    time_s: float


class AgentExpected(msgspec.Struct, array_like=True, tag=True, frozen=True):
    """An agent is about to be started for this node: whoever reports without having been announced is sent away.

    It may never have been started, or live and not have reported when the manager was killed. It runs nothing before it has.
    """

    node: NodeNo
    agent_id: str


class AgentUp(msgspec.Struct, array_like=True, tag=True, frozen=True):
    """An agent took over a node, alone: others that were expected there are not any more.

    On resume the manager waits for it, and starts a new one only when it is gone.
    """

    node: NodeNo
    node_name: str
    agent_id: str
    host: str
    pid: int
    core_ids: list[str] = []
    """The node's cores as this agent told them; none when they are as the node joined with."""


class AgentDown(msgspec.Struct, array_like=True, tag=True, frozen=True):
    """This agent is known to be gone, whether it had reported or not. (One that is only silent may come back.)"""

    node: NodeNo
    agent_id: str


class Compacted(msgspec.Struct, array_like=True, tag=True, frozen=True):
    """What stands before this is what was left of a longer journal.

    `next_no` is the number of the next job. `report_bytes`: how much of the report the longer journal had led to; only what
    follows here has to be added to that. None: there was no report.
    """

    next_no: JobNo
    report_bytes: int | None


class Closed(msgspec.Struct, array_like=True, tag=True, frozen=True):
    """An orderly end; `work_left` tells whether tasks remain for a resume."""

    time_s: float
    work_left: bool


Record = (
    Opened
    | Submitted
    | SubmittedPart
    | Sent
    | Ended
    | Succeeded
    | Returned
    | Taken
    | Canceled
    | Removed
    | NodeJoined
    | NodeLeft
    | AgentExpected
    | AgentUp
    | AgentDown
    | Compacted
    | Closed
)


def of_results(results: Iterable[Result | Successes]) -> Iterator[Ended | Succeeded]:
    """The records for these, in their order."""
    single: list[Result] = []
    for result in results:
        if isinstance(result, Result):
            single.append(result)
            continue
        if single:
            yield Ended(single)
            single = []
        yield Succeeded(result)
    if single:
        yield Ended(single)
