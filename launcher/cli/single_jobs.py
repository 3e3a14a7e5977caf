"""What commands do with single batch jobs: look, wait, cancel, remove, and what is printed of them."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from ...pilot.console import echo, print_json, show
from ...pilot.exit_codes import ExitCode
from ...pilot.model.errors import PilotfishError, RefusedError
from ..contexts.paths import printable
from ..job import store
from ..job.single import JobRecord, Phase
from ..job.spec import is_id
from ..job.states import JobState, Reason
from ..submission.looking import by_machine, look_at
from ..submission.single import SingleJob

_FIRST_PAUSE_S, _SLOWER = 0.5, 1.5


def look(jobs: Sequence[SingleJob]) -> None:
    """Where they are now. Of those on a machine that cannot be reached what was known before stays, and that is told."""
    for together in by_machine(jobs):
        try:
            look_at(together)
        except PilotfishError as error:
            echo(f"{len(together)} jobs as they were seen last: {error}", err=True)
        for each in together:
            each.close()


def wait(jobs: Sequence[SingleJob], timeout_s: float | None, check_interval_s: float) -> bool:
    """Whether they are over, after so many seconds at most."""
    deadline_s = None if timeout_s is None else time.monotonic() + timeout_s
    pause_s = min(_FIRST_PAUSE_S, check_interval_s)
    try:
        while not all(status.state.ended for status in look_at(jobs)):
            left_s = pause_s if deadline_s is None else min(pause_s, deadline_s - time.monotonic())
            if left_s <= 0:
                return False
            time.sleep(left_s)
            pause_s = min(pause_s * _SLOWER, max(check_interval_s, _FIRST_PAUSE_S))
        return True
    finally:
        for each in jobs:
            each.close()


def cancel(jobs: Sequence[SingleJob]) -> None:
    look_at(jobs)
    for each in jobs:
        each.cancel()
        each.close()


def remove(each: SingleJob, *, force: bool) -> None:
    """Raises RefusedError for a job that is not over, unless `force`."""
    try:
        each.forget(force=force)
    except RefusedError as error:
        raise RefusedError(error.what, where=error.where, remedy=f"{error.remedy}, or give --force") from None
    finally:
        each.close()


def logs(each: SingleJob, lines: int, which: str | None, as_json: bool) -> None:
    record = each.record
    names = {"out": [record.out], "err": [record.err]}.get(which or "", [record.out, record.err])
    with each.context:
        read = {name: each.last_lines(name, lines) for name in names if name}
        read |= {} if any(names) else {"output": each.last_words(lines) or None}
    found = {name: text for name, text in read.items() if text is not None}
    if as_json:
        print_json({"job": record.hash, "logs": found})
        return
    if not found:
        echo(f"no output of it was found in {record.folder}", err=True)
    for name, text in found.items():
        echo(f"==> {name} <==", bold=True, err=True)
        show(text, nl=False)


def row(record: JobRecord) -> dict[str, Any]:
    """What is known of a job, as `--json` prints it."""
    machine, end = record.machine, record.end
    return {
        "job": record.hash,
        "id": record.id,
        "name": record.name,
        "maker": record.maker,
        "machine": f"{machine.batch_type}@{machine.profile.get('hostname', 'here')}",
        "folder": record.folder,
        "state": state(record),
        "reason": reason(record),
        "why": printable(record.status.why),
        "exit_code": None if end is None else end.exit_code,
        "attempt": record.attempt,
        "previous": record.previous,
        "after": " ".join(each.id for each in record.after),
        "out": record.out,
        "err": record.err,
        "epilogue": "" if not record.epilogue else "done" if record.epilogue_ran else "due",
        "fetched": record.fetched,
        "created_s": record.created_s,
        "submitted_s": record.submitted_s,
        "start_s": None if end is None else end.start_s,
        "end_s": None if end is None else end.end_s,
        "nodes": "" if end is None else end.nodes,
    }


def state(record: JobRecord) -> str:
    """In a word: `submitted` until somebody has looked; then as `submissions` says of its jobs."""
    if record.phase is Phase.REFUSED:
        return "refused"
    end = record.end
    if end is not None:
        return "finished" if end.state is JobState.finished else "cancelled" if _is_canceled(record) else "failed"
    return "submitted" if record.state is JobState.unsubmitted else record.state.name


def reason(record: JobRecord) -> str:
    end = record.end
    return "" if end is None else printable(end.native if record.phase is Phase.REFUSED else end.reason)


def _is_canceled(record: JobRecord) -> bool:
    return record.end is not None and record.end.reason == Reason.CANCELED


def exit_code(each: SingleJob) -> ExitCode:
    return ExitCode.DONE if each.status.state is JobState.finished else ExitCode.FAILED


def line(record: JobRecord) -> str:
    told = row(record)
    code = "" if told["exit_code"] is None else f"exit code {told['exit_code']}"
    reason = "" if told["reason"] in ("", Reason.PROGRAM) else told["reason"]
    words = ", ".join(filter(None, [code if told["state"] != "finished" else "", reason, told["why"]]))
    shown = f"{record.hash[:10]}  {told['machine']:<22}  {told['state']:<9}  {record.id or '-':<14} {printable(record.name)}"
    return f"{shown}{'  ' + words if words else ''}  {printable(record.folder)}"


def print_jobs(records: Sequence[JobRecord], as_json: bool) -> None:
    if as_json:
        print_json({"jobs": [row(each) for each in records]})
        return
    for each in records:
        show(line(each))


def found(beginnings: Sequence[str]) -> list[SingleJob]:
    records = {record.hash: record for record in map(store.find, beginnings)}
    return [SingleJob(record) for record in records.values()]


def is_known(name: str) -> bool:
    """Whether one job of ours is meant by it."""
    try:
        store.find(name)
    except store.UnknownBatchJobError:
        return False
    return True


def may_be_id(name: str) -> bool:
    """Whether a batch system may call a job so: not `last`, nor the beginning of a hash."""
    return is_id(name) and name[:1].isdigit()


def time_of(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds))
