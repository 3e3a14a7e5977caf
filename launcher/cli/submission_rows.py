"""What is printed of submissions: a line or an object for each, for its jobs and for its tasks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from ...pilot.console import show
from ..contexts.paths import printable
from ..job.single import JobRecord
from ..submission.batch_job import BatchJob, Phase
from ..submission.placement import Placement
from ..submission.state import Progress
from ..submission.store import Record
from . import single_jobs as single


def summary_of(found: Record) -> dict[str, Any]:
    progress = Placement.of(found).peek()
    machine = found.description.machine
    host = machine.profile.get("hostname", "here")
    return {
        "id": found.hash,
        "machine": f"{machine.batch_type}@{host}",
        "state": _state(progress),
        "tasks": progress.counts(),
        "created_s": found.created_s,
        "folder": str(found.local_work),
        "root": found.root,
    }


def job_summary(found: JobRecord) -> dict[str, Any]:
    """A single batch job in the same form: it is a task of its own."""
    row = single.row(found)
    counts = {"tasks": 1, "done": int(row["state"] == "finished"), "failed": int(row["state"] in ("failed", "refused"))}
    kept = {name: row[name] for name in ("machine", "state", "created_s", "folder", "name")}
    return {"id": found.hash, **kept, "tasks": counts, "root": found.folder, "job_id": found.id}


def _state(progress: Progress) -> str:
    phases = {job.phase for job in progress.jobs.values()}
    if Phase.FAILED in phases:
        return "failed"
    if progress.missing():
        return "missing"
    if phases == {Phase.DONE}:
        return "finished"
    if Phase.CANCELED in phases:
        return "cancelled"
    return "placed" if Phase.PLACED in phases else "new"


def show_status(progress: Progress, rows: Sequence[Mapping[str, Any]]) -> None:
    for job in progress.jobs.values():
        word = job.status.native if job.status is not None and job.phase is Phase.PLACED else ""
        told = job.reason or (job.why if job.phase is Phase.PLACED else "")
        reason = f"  {printable(told)}" if told else ""
        show(f"job {job.hash[:8]}  {job.id or '-':<14} {job.phase.value:<9} {word}{reason}".rstrip())
    for row in rows:
        code = "" if row["exit_code"] is None else f"exit code {row['exit_code']}"
        missing = f"  {row['reason']}" if row["reason"].startswith("missing: ") else ""
        show(f"  {row['name'] or row['folder']:<30} {row['state']:<12} {code}{missing}".rstrip())


def job_row(job: BatchJob) -> dict[str, Any]:
    """What is known of a job; times and nodes are the batch system's."""
    ended = None if job.ended is None else asdict(job.ended)
    known = {key: None if ended is None else ended[key] for key in ("exit_code", "start_s", "end_s", "nodes")}
    return {
        "job": job.hash,
        "id": job.id,
        "phase": job.phase.value,
        "state": job.state.name,
        "attempts": job.attempt + (job.phase is not Phase.NEW),
        "reason": job.reason,
        "waits_for": job.why,
        "detail": job.detail,
        **known,
    }
