"""`pilotfish alloc`: allocations that the queue of a running pilot asks for by itself."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from ...api.amounts import counted
from ...pilot.console import echo, print_json, show
from ...pilot.model import walltime
from ...pilot.model.errors import LostError, RefusedError, UsageError
from ...pilot.wire import connection
from ..allocations import process
from ..allocations.batch_jobs import foreseen, target_of
from ..allocations.decide import Decisions, decide
from ..allocations.events import SpecAdded, SpecPaused, SpecRemoved, SpecResumed
from ..allocations.journal import FOLDER, AllocationJournal, Entry
from ..allocations.pilot_link import PilotLink
from ..allocations.reading import specs_in
from ..allocations.spec import AllocationSpec
from ..allocations.state import SpecHistory
from ..allocations.texts import about, text_of, what
from ..description.keys import nearest
from .alloc_options import connect_option, json_option, names_argument, spec_from_options, spec_options
from .alloc_rows import allocation_line, history_of, row_of, spec_line, state_of


@click.group()
def alloc() -> None:
    """Let the queue of a running pilot ask batch systems for nodes by itself, and give them up again.

    A process beside the pilot looks at what waits there, and asks for allocations that this can use: wide enough, for long
    enough, within your bounds. Whatever it does, and why, is written down.

    \b
    pilotfish service --governor --net --wd run1 &
    pilotfish alloc add cluster -c run1 --nodes 1-8 --walltime 4h --max-nodes 32
    pilotfish alloc list -c run1
    pilotfish alloc explain -c run1
    pilotfish alloc remove cluster -c run1

    Exit code: 0 done, 1 refused, 2 bad input, 3 there is no such pilot, or it does not answer.
    """


@alloc.command()
@click.argument("machine", required=False, default="")
@spec_options
@connect_option
@json_option
def add(machine: str, connect: str | None, as_json: bool, **options: Any) -> None:
    """Let the queue ask MACHINE for nodes, within these bounds.

    MACHINE is a machine by its name or file, as for `pilotfish job --machine`, or the file of a submission, whose `resources`
    (queue, account, modules …) count too; without it the batch system of this host.

    \b
    pilotfish alloc add cluster --nodes 1-8 --walltime 4h --max-nodes 32 --budget 500node-hours
    pilotfish alloc add --nodes 1-4 --cores 16 --queue short
    """
    aux = _pilot(connect)
    journal = _journal(aux)
    spec = spec_from_options(machine, options, list(journal.state.specs))
    _check_reachable(aux, spec)
    journal.write(SpecAdded(spec))
    process.start(aux)
    journal.read()
    if as_json:
        print_json({"allocations": [row_of(journal, journal.state.specs[spec.name])]}, echo)
    else:
        echo(f"{spec.name}: added; `pilotfish alloc explain {spec.name}` says what is asked for, and why")


@alloc.command("list")
@connect_option
@json_option
def list_specs(connect: str | None, as_json: bool) -> None:
    """List what the queue may ask for, with what waits and runs.

    \b
    pilotfish alloc list -c run1 --json
    """
    aux = _folder(connect)
    journal = _journal(aux)
    _revive(aux, journal)
    rows = [row_of(journal, each) for each in journal.state.specs.values()]
    if as_json:
        print_json({"allocations": rows})
        return
    for row in rows:
        show(spec_line(row))
    if not rows:
        echo("the queue of this pilot asks nobody for nodes; `pilotfish alloc add` lets it", err=True)


@alloc.command()
@names_argument
@connect_option
@json_option
def info(names: Sequence[str], connect: str | None, as_json: bool) -> None:
    """Show all that is known of some, and of each allocation that they have asked for.

    \b
    pilotfish alloc info cluster
    """
    aux = _folder(connect)
    journal = _journal(aux)
    _revive(aux, journal)
    found = [_found(journal, name) for name in names]
    rows = [row_of(journal, each) | {"history": history_of(journal, each)} for each in found]
    if as_json:
        print_json({"allocations": rows})
        return
    for row in rows:
        show(spec_line(row))
        for key, value in row["spec"].items():
            if value not in (None, [], {}, ()):
                show(f"  {key:<14} {value}")
        for each in row["history"]:
            show(f"  {allocation_line(each)}")
            for text in each["lines"].splitlines():
                show(f"    | {text}")


@alloc.command()
@click.argument("names", metavar="[NAME]...", nargs=-1)
@click.option("--lines", "-n", default=10, show_default=True, help="How many of the last decisions.")
@connect_option
@json_option
def explain(names: Sequence[str], lines: int, connect: str | None, as_json: bool) -> None:
    """Say what was decided last and why, and what would be decided now.

    \b
    pilotfish alloc explain
    pilotfish alloc explain cluster -n 50
    """
    aux = _folder(connect)
    journal = AllocationJournal(aux / FOLDER)
    entries = journal.read()
    _revive(aux, journal)
    wanted = {_found(journal, name).spec.name for name in names} or {*journal.state.specs}
    told = [entry for entry in entries if _is_about(journal, entry, wanted)][-lines:]
    now, trouble = _now(aux, journal)
    reasons = {name: text for name, text in _reasons(now).items() if name in wanted}
    if as_json:
        decisions = [{"time_s": each.time_s, "about": about(each.event), "what": what(each.event)} for each in told]
        print_json({"decisions": decisions, "now": reasons, "trouble": trouble})
        return
    for entry in told:
        show(text_of(entry))
    for name, text in reasons.items():
        show(f"now  {name}: {text}")
    if trouble:
        echo(f"the pilot does not answer, so nothing is asked for: {trouble}", err=True)


@alloc.command()
@names_argument
@connect_option
@json_option
def pause(names: Sequence[str], connect: str | None, as_json: bool) -> None:
    """Ask for nothing more until `resume`. What waits and runs goes on.

    \b
    pilotfish alloc pause cluster
    """
    _change(names, connect, as_json, "paused", lambda name: SpecPaused(name, by_user=True))


@alloc.command()
@names_argument
@connect_option
@json_option
def resume(names: Sequence[str], connect: str | None, as_json: bool) -> None:
    """Ask again, also after allocations have failed three times in a row.

    \b
    pilotfish alloc resume cluster
    """
    _change(names, connect, as_json, "resumed", SpecResumed)


@alloc.command()
@names_argument
@click.option("--kill", is_flag=True, help="Cancel also what runs, with the tasks there; they run again elsewhere.")
@connect_option
@json_option
def remove(names: Sequence[str], kill: bool, connect: str | None, as_json: bool) -> None:
    """Ask for nothing any more, cancel what waits, and let what runs come to the end of its tasks.

    \b
    pilotfish alloc remove cluster
    pilotfish alloc remove cluster --kill
    """
    _change(names, connect, as_json, "removed", lambda name: SpecRemoved(name, kill))


@alloc.command("dry-run")
@click.argument("machine", required=False, default="")
@spec_options
@connect_option
@json_option
def dry_run(machine: str, connect: str | None, as_json: bool, **options: Any) -> None:
    """Say what would be asked for now if this were added, with the script; nothing is submitted.

    \b
    pilotfish alloc dry-run cluster --nodes 1-8 --walltime 4h
    """
    aux = _pilot(connect)
    journal = _journal(aux)
    spec = spec_from_options(machine, options, list(journal.state.specs))
    _check_reachable(aux, spec)
    now, trouble = _now(aux, journal, spec)
    if now is None:
        raise LostError(f"the pilot does not answer: {trouble}", where=str(aux))
    asked = [each for each in now.submit if each.spec == spec.name]
    least = asked[0].nodes if asked else spec.nodes[0]
    script = foreseen(aux, spec, least, asked[0].walltime_s if asked else spec.walltime_s)
    reasons = [each.reason for each in now.quiet if each.spec == spec.name]
    if as_json:
        print_json({"asks": [asdict(each) for each in asked], "quiet": reasons, "script": script})
        return
    for each in asked:
        show(f"asks for {counted(each.nodes, 'node')} for {walltime.form(each.walltime_s)}: {each.reason}")
    for reason in reasons:
        show(f"asks for nothing: {reason}")
    show(script, nl=False)


@alloc.command(hidden=True)
@click.argument("file", required=False)
@click.option("--connect", help="The auxiliary folder of a pilot; without it the file is only checked.")
def begin(file: str | None, connect: str | None) -> None:
    """Let a pilot that begins, or goes on, ask for what a file says: what `pilotfish service --allocations` calls.

    \b
    pilotfish alloc begin allocations.yaml
    """
    journal = None if connect is None else _journal(Path(connect))
    specs = [] if file is None else specs_in(file)
    if journal is None or connect is None:
        return
    journal.write(*(SpecAdded(spec) for spec in specs if spec.name not in journal.state.specs))
    process.start(Path(connect))


@alloc.command(hidden=True)
@click.option("--connect", required=True, help="The auxiliary folder of the pilot.")
@click.option("--lock-fd", type=int, help="The open file whose lock is handed over.")
def serve(connect: str, lock_fd: int | None) -> None:
    """Be the allocator of a pilot: `pilotfish alloc add` starts this.

    \b
    pilotfish alloc serve --connect run1
    """
    try:
        process.serve(Path(connect), decide, lock_fd)
    except process.HeldError as error:
        echo(error.line, err=True)


# --- what they share ------------------------------------------------------------------------------------------------------


def _pilot(connect: str | None) -> Path:
    """The auxiliary folder of a pilot that runs. Raises LostError, UsageError."""
    info = connection.discover(connect, os.environ, Path.cwd())
    if isinstance(info, str):
        raise UsageError("is an address, and no folder of a pilot", where=info, remedy="name its connection file")
    aux = Path(info.aux_dir)
    if not (aux / connection.FILE_NAME).exists():
        what_ = f"the folder of the pilot, {aux} on {info.host}, cannot be seen from here"
        raise UsageError(what_, where=connect or "", remedy="use `pilotfish alloc` on a host that has this folder")
    return aux


def _folder(connect: str | None) -> Path:
    """The same, also of a pilot that has ended."""
    try:
        return _pilot(connect)
    except connection.EndedError as error:
        return error.folder


def names_at(connect: str | None) -> list[str]:
    """What may be named of the pilot there, for a shell that completes a line."""
    return list(_journal(_folder(connect)).state.specs)


def _journal(aux: Path) -> AllocationJournal:
    journal = AllocationJournal(aux / FOLDER)
    journal.read()
    return journal


def _revive(aux: Path, journal: AllocationJournal) -> None:
    """An allocator that was killed is missed by whoever looks."""
    if journal.state.living or (journal.state.asking and not _has_ended(aux)):
        process.start(aux)


def _has_ended(aux: Path) -> bool:
    try:
        info = connection.read(aux / connection.FILE_NAME)
    except LostError:
        return True
    return info.ended or not connection.is_alive(info)


def _check_reachable(aux: Path, spec: AllocationSpec) -> None:
    """Nodes of another host need an endpoint of the pilot's network. Raises RefusedError."""
    info = connection.read(aux / connection.FILE_NAME)
    machine = target_of(spec).machine
    here = machine.batch_type == "Shell" and machine.context_type in ("LocalContext", "LazyLocalContext")
    if not here and not info.agent_endpoints and not spec.agents_connect:
        remedy = "start it with --net (on one host: `pilotfish service --net`); its work goes on with --resume"
        raise RefusedError("other hosts cannot reach this pilot", where=str(aux), remedy=remedy)


def _found(journal: AllocationJournal, name: str) -> SpecHistory:
    known = journal.state.specs
    if name not in known:
        remedy = nearest(name, known) or (
            f"there are {', '.join(known)}" if known else "`pilotfish alloc add` adds some"
        )
        raise UsageError(f"there are no allocations called {name!r}", remedy=remedy)
    return known[name]


def _change(names: Sequence[str], connect: str | None, as_json: bool, word: str, event: Callable[[str], Any]) -> None:
    aux = _folder(connect)
    journal = _journal(aux)
    found = [_found(journal, name).spec.name for name in names]
    journal.write(*(event(name) for name in dict.fromkeys(found)))
    journal.read()
    _revive(aux, journal)
    if as_json:
        rows = [row_of(journal, journal.state.specs[name]) for name in found if name in journal.state.specs]
        print_json({"allocations": rows, "gone": [name for name in found if name not in journal.state.specs]}, echo)
        return
    for name in found:
        echo(f"{name}: {word}")


def _now(aux: Path, journal: AllocationJournal, more: AllocationSpec | None = None) -> tuple[Decisions | None, str]:
    """What would be decided now, and why that cannot be said."""
    pilot = PilotLink(aux, asks=bool(journal.state.asking))
    try:
        demand = pilot.demand()
    finally:
        pilot.close()
    if demand is None:
        return None, "it has ended" if pilot.ended else pilot.trouble
    specs = [each.spec for each in journal.state.asking] + ([] if more is None else [more])
    state = journal.state
    known = [
        each.known(state_of(each), state.specs[each.spec].since_s)
        for each in state.allocations.values()
        if each.spec in state.specs and each.asked_s >= state.specs[each.spec].added_s
    ]
    return decide(specs, demand, known, time.time()), ""


def _reasons(now: Decisions | None) -> dict[str, str]:
    if now is None:
        return {}
    found = {each.spec: each.reason for each in now.quiet} | {each.spec: each.reason for each in now.pause}
    for each in now.submit:
        found[each.spec] = f"asks for {counted(each.nodes, 'node')}: {each.reason}"
    return found


def _is_about(journal: AllocationJournal, entry: Entry, wanted: set[str]) -> bool:
    name = getattr(entry.event, "id", "")
    spec = getattr(entry.event, "spec", "")
    if name:
        known = journal.state.allocations.get(name)
        return known is not None and known.spec in wanted
    return (spec.name if isinstance(spec, AllocationSpec) else spec) in wanted
