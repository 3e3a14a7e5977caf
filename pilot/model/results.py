"""What is kept of an attempt that has ended: the words of the journal, of reports and of what clients ask."""

from __future__ import annotations

from typing import NamedTuple

from .ids import JobNo, NodeNo
from .states import Cause, State


class PlacedShare(NamedTuple):
    """Where a task ran: core and GPU slots of one node as bit masks in hexadecimal (they may be wider than 64 bits)."""

    node: NodeNo
    cores: str
    gpus: str


class Result(NamedTuple):
    """End of one attempt. `state` QUEUED: it is tried again (retry, lost node); else a final state of the task.

    Times are seconds since the epoch; 0.0 where the attempt did not get that far. `exit_code` is -n after signal n, -1
    when the task could not be started.
    """

    job_no: JobNo
    pos: int
    run: int
    state: State
    cause: Cause
    exit_code: int
    pid: int
    scheduled_s: float
    started_s: float
    ended_s: float
    cpu_s: float
    max_rss_kib: int
    message: str
    shares: tuple[PlacedShare, ...]
