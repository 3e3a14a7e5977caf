"""`pilotfish job queue`: what is in the queue of a batch system, of whoever it is; and waiting for what is there."""

from __future__ import annotations

import getpass
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict

import click

from ...pilot.console import echo, print_json, show
from ..contexts.base import Context
from ..contexts.registry import build_context
from ..description.machine import MachineDescription
from ..job import store
from ..job.single import JobRecord
from ..machines import registry
from ..machines.dialect import QueueRow, cluster_of, plain
from ..submission.command_jobs import machine_of
from ..submission.queue_view import QueueError, rows
from ..submission.queues import BAD, GOOD
from ..submission.single import SingleJob
from .single_jobs import look, state

_OVER = (*GOOD, *BAD)
_WORDS = {
    "finished": "completed",
    "submitted": "pending",
    "waiting": "pending",
    "refused": "failed",
    "unknown": "running",
}
_LOOKS = 12
"""For how many looks a job may be missing: it is not listed at once, and not for ever."""
_LOOK_EVERY_S = 2.0


@click.command("queue")
@click.option("--machine", "-M", help="Name or file of a machine; default: the batch system here, or this host.")
@click.option("--user", "-u", "users", multiple=True, help="Jobs of this user; may be given again. Default: mine.")
@click.option("--all", "-a", "everybody", is_flag=True, help="Jobs of all users.")
@click.option("--partition", "-p", "partitions", multiple=True, help="Only those in this queue or partition.")
@click.option("--state", "-s", "states", multiple=True, help="Only those in this state, as the list has it.")
@click.option("--running", "-r", is_flag=True, help="Those that run.")
@click.option("--queued", "-q", is_flag=True, help="Those that wait.")
@click.option("--done", "-d", is_flag=True, help="Those that have ended well.")
@click.option("--bad", "-b", is_flag=True, help="Those that have ended badly.")
@click.option("--ids", "-l", "only_ids", is_flag=True, help="Print nothing but ids.")
@click.option("--count", "-c", "counts", is_flag=True, help="Print how many there are, by user, partition and state.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def show_queue(
    machine: str | None,
    users: Sequence[str],
    everybody: bool,
    partitions: Sequence[str],
    states: Sequence[str],
    running: bool,
    queued: bool,
    done: bool,
    bad: bool,
    only_ids: bool,
    counts: bool,
    as_json: bool,
) -> None:
    """List the queue of a batch system: mine, of some users, or all.

    Where there is no batch system, the jobs that have been started from here.

    \b
    pilotfish job queue
    pilotfish job queue -M cluster --all --count
    pilotfish job queue -p long -u bob -l | xargs pilotfish job wait
    """
    described = machine_of(machine)
    wanted = set(users) or ({_me(described)} if not everybody else set())
    chosen = {
        *states,
        *(("running", "completing") if running else ()),
        *(("pending", "held") if queued else ()),
        *(GOOD if done else ()),
        *(BAD if bad else ()),
    }
    found = [
        row
        for row in in_queue(described, everybody=everybody or bool(users))
        if (not wanted or row.owner in wanted)
        and (not partitions or row.queue in partitions)
        and (not chosen or row.state in chosen)
    ]
    if as_json:
        _print_json(described, found)
    elif only_ids:
        for row in found:
            show(row.id)
    elif counts:
        _table(
            ["USER", "PARTITION", "STATE", "JOBS"], [[*key, str(many)] for key, many in sorted(_count(found).items())]
        )
    else:
        _table(["ID", "USER", "PARTITION", "STATE", "CORES", "NAME", "NODES"], [_cells(row) for row in found])
        text = ", ".join(f"{many} {word}" for word, many in Counter(row.state for row in found).items())
        echo(f"{len(found)} jobs{': ' if text else ''}{text}", err=True)


def in_queue(machine: MachineDescription, *, everybody: bool) -> list[QueueRow]:
    """The jobs of a machine's queue; where there is none those that were started from here."""
    if not registry.system(machine.batch_type).views:
        return _started_from_here(machine)
    context = build_context(machine)
    try:
        return rows(context, machine.batch_type, everybody=everybody)
    finally:
        context.close()


def _started_from_here(machine: MachineDescription) -> list[QueueRow]:
    host = machine.profile.get("hostname")
    found = [SingleJob(record) for record in store.all_records() if _is_on(record, machine.batch_type, host)]
    look([job for job in found if not job.record.over])
    return [_row(job.record) for job in found]


def _is_on(record: JobRecord, batch_type: str, host: object) -> bool:
    return record.machine.batch_type == batch_type and record.machine.profile.get("hostname") == host


def _me(machine: MachineDescription) -> str:
    """The name of this user there."""
    return str(machine.profile.get("username") or getpass.getuser())


def _row(record: JobRecord) -> QueueRow:
    word, end = state(record), record.end
    nodes, code = ("", None) if end is None else (end.nodes, end.exit_code)
    return QueueRow(record.id, record.name, _me(record.machine), "", _WORDS.get(word, word), nodes, 0, code)


def _print_json(machine: MachineDescription, found: Sequence[QueueRow]) -> None:
    counts = [
        {"user": user, "partition": partition, "state": word, "jobs": many}
        for (user, partition, word), many in sorted(_count(found).items())
    ]
    name = f"{machine.batch_type}@{machine.profile.get('hostname', 'here')}"
    print_json({"machine": name, "jobs": [asdict(row) for row in found], "counts": counts})


def _count(found: Sequence[QueueRow]) -> Counter[tuple[str, str, str]]:
    return Counter((row.owner, row.queue, row.state) for row in found)


def _cells(row: QueueRow) -> list[str]:
    code = f" ({row.exit_code})" if row.exit_code else ""
    return [row.id, row.owner, row.queue, f"{row.state}{code}", str(row.cores or ""), row.name, row.nodes]


def _table(heads: Sequence[str], lines: Sequence[Sequence[str]]) -> None:
    widths = [max(len(row[column]) for row in [heads, *lines]) for column in range(len(heads))]
    for line in [heads, *lines]:
        show("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())


def wait_in_queue(
    machine: MachineDescription,
    ids: Sequence[str],
    users: Sequence[str],
    timeout_s: float | None,
    sleep: Callable[[float], None] = time.sleep,
) -> tuple[bool, bool]:
    """Wait for jobs that others have submitted: (whether they are over, whether all have ended well as far as is known).

    Raises QueueError for an id that is never listed.
    """
    context = build_context(machine)
    deadline_s = None if timeout_s is None else time.monotonic() + timeout_s
    try:
        return _wait_in_queue(context, machine.batch_type, set(map(_listed, ids)), set(users), deadline_s, sleep)
    finally:
        context.close()


def _listed(job_id: str) -> str:
    """As a listing has it: without the name of a server."""
    return job_id if cluster_of(job_id) else plain(job_id)


def _wait_in_queue(
    context: Context,
    batch_type: str,
    ids: set[str],
    users: set[str],
    deadline_s: float | None,
    sleep: Callable[[float], None],
) -> tuple[bool, bool]:
    seen: dict[str, str] = {}
    missing: Counter[str] = Counter()
    while True:
        listed = {row.id: row for row in rows(context, batch_type)}
        ids |= {name for name, row in listed.items() if row.owner in users and row.state not in _OVER}
        seen |= {name: listed[name].state for name in ids if name in listed}
        missing.update(name for name in ids - listed.keys() if seen.get(name) not in _OVER)
        gone = {name for name in ids if name in seen and missing[name]}  # left the queue between two looks
        unknown = [name for name in ids if name not in seen and missing[name] >= _LOOKS]
        if unknown:
            raise QueueError(f"no job {unknown[0]} in the queue, and no word of its end", where="job wait")
        if all(seen.get(name) in _OVER or name in gone for name in ids):
            return True, not any(seen.get(name) in BAD for name in ids)
        if deadline_s is not None and time.monotonic() >= deadline_s:
            return False, False
        sleep(_LOOK_EVERY_S)
