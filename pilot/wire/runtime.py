"""What jobInfo and the report tell of a task that was placed, all of it as text.

The JSON is put together by hand, because there is one per task: a general encoder takes three times as long.
"""

from __future__ import annotations

from json.encoder import encode_basestring_ascii as _quoted
from typing import NamedTuple

from msgspec import structs

from ..model.tasks import TaskRecord
from .replies import Runtime
from .reply_texts import rtime


class Ran(NamedTuple):
    """`record`, and what the placement and the description mean in words."""

    record: TaskRecord
    allocation: str
    wd: str
    program: str
    node: str
    attempts: int
    resources: str = ""


def runtime(ran: Ran) -> Runtime:
    """The `runtime` of jobInfo. A task that still runs has fewer members."""
    record, allocation, wd, program, node, attempts, resources = ran
    started = Runtime(allocation, wd, pid=str(record.pid), pname=program, node=node, attempts=str(attempts))
    started.resources = resources or None
    if record.state.final:
        started.rtime = rtime(record.ended_s - record.started_s)
        started.exit_code = str(record.exit_code)
        started.signal = str(-record.exit_code) if _was_signalled(record) else None
        started.cpu_s = f"{record.cpu_s:.6f}"
        started.max_rss_kib = str(record.max_rss_kib)
    return started


def texts(ran: Ran) -> dict[str, str]:
    """The same by name."""
    return {name: text for name, text in structs.asdict(runtime(ran)).items() if text is not None}


def encode_ended(ran: Ran) -> str:
    """`texts` of a task that has ended, as JSON with the separators of the report."""
    record, allocation, wd, program, node, attempts, resources = ran
    named = f'"resources": {_quoted(resources)},' if resources else ""
    signal = f'"signal": "{-record.exit_code}",' if _was_signalled(record) else ""
    return (
        f'{{"allocation": {_quoted(allocation)},"wd": {_quoted(wd)},'
        f'"rtime": "{rtime(record.ended_s - record.started_s)}","exit_code": "{record.exit_code}","pid": "{record.pid}",'
        f'"pname": {_quoted(program)},"node": {_quoted(node)},{named}{signal}"cpu_s": "{record.cpu_s:.6f}",'
        f'"max_rss_kib": "{record.max_rss_kib}","attempts": "{attempts}"}}'
    )


def _was_signalled(record: TaskRecord) -> bool:
    """-1 is also the code of a task that could not be started."""
    return record.exit_code < -1 or (record.exit_code == -1 and record.pid > 0)
