"""What `pilotfish alloc` shows of specs and their allocations: the rows of `--json`, and the lines for people."""

from __future__ import annotations

import time
from dataclasses import asdict
from typing import Any

from ...api.amounts import counted, duration
from ..allocations.decide import AllocationState
from ..allocations.journal import AllocationJournal
from ..allocations.state import Allocation, SpecHistory


def state_of(known: Allocation) -> AllocationState:
    if known.over:
        return AllocationState.ENDED
    return AllocationState.WAITING if known.started_s is None else AllocationState.RUNNING


def row_of(journal: AllocationJournal, history: SpecHistory) -> dict[str, Any]:
    """What is known of one, as `--json` prints it."""
    name = history.spec.name
    living = journal.state.living_of(name)
    running = [each for each in living if each.started_s is not None]
    state = "removed" if history.removed else "paused" if history.spec.paused else "active"
    over = [each for each in journal.state.allocations.values() if each.spec == name and each.over]
    return {
        "name": name,
        "machine": history.spec.machine,
        "state": state,
        "reason": history.why_paused if history.spec.paused else history.quiet,
        "waiting": len(living) - len(running),
        "waiting_nodes": sum(each.nodes for each in living if each.started_s is None),
        "running": len(running),
        "running_nodes": sum(each.nodes for each in running),
        "ended": len(over),
        "failed": sum(each.failed for each in over),
        "node_hours": round(sum(map(_node_s, [*over, *running])) / 3600, 3),
        "spec": asdict(history.spec),
    }


def _node_s(known: Allocation) -> float:
    if known.started_s is None:
        return 0.0
    return known.nodes * ((known.ended_s or time.time()) - known.started_s)


def spec_line(row: dict[str, Any]) -> str:
    counts = f"{row['waiting']} waiting, {row['running']} running ({counted(row['running_nodes'], 'node')})"
    over = f"{row['ended']} over" + (f", {row['failed']} of no use" if row["failed"] else "")
    reason = f"  {row['reason']}" if row["reason"] and not row["waiting"] else ""
    return f"{row['name']:<14}  {row['state']:<7}  {counts}, {over}, {row['node_hours']:g} node-hours{reason}"


def history_of(journal: AllocationJournal, history: SpecHistory) -> list[dict[str, Any]]:
    names = ("id", "job_id", "nodes", "walltime_s", "reason", "asked_s", "started_s", "joined_s", "ended_s")
    found = []
    for each in journal.state.allocations.values():
        if each.spec == history.spec.name and each.asked_s >= history.added_s:
            row = {name: getattr(each, name) for name in names}
            more = {"state": state_of(each).value, "end": each.end, "failed": each.failed, "lines": each.lines}
            found.append(row | more)
    return found


def allocation_line(row: dict[str, Any]) -> str:
    ended_s, started_s = row["ended_s"], row["started_s"]
    ran = "" if started_s is None else f" ran {duration((ended_s or time.time()) - started_s)}"
    end = f": {row['end']}" if row["end"] else ""
    job = row["job_id"] or "-"
    return f"{row['id'][:10]}  {job:<12} {counted(row['nodes'], 'node')} {row['state']}{ran}{end}  ({row['reason']})"
