"""`pilotfish doctor MACHINE`: does everything work that a submission needs there, and what mends what does not."""

from __future__ import annotations

import json
import posixpath
import re
import secrets
import shlex
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING

import click

from ...pilot.console import echo
from ...pilot.model.errors import PilotfishError
from ..contexts.base import Context, ContextLostError
from ..contexts.registry import build_context
from ..contexts.shell import in_login_shell
from ..description import files as loading
from ..description.machine import MachineDescription, parse_machine
from ..description.schema import DescriptionError
from ..machines.base import MachineBusyError
from ..machines.registry import build_machine
from ..submission import bootstrap

if TYPE_CHECKING:
    from ..contexts.ssh.comparison import Comparison

_TOOLS = ("bash", "tar", "find", "sha256sum", "xargs", "readlink", "sed", "tail")
_MOST_SKEW_S = 5.0
_LEAST_FREE_KIB = 1 << 20


@dataclass(frozen=True)
class Finding:
    """One thing looked at. `remedy` is what to do when it is not well; a finding that does not matter much is a warning."""

    what: str
    ok: bool
    found: str
    remedy: str = ""
    warning: bool = False


def examine(
    machine: MachineDescription, context: Context, queue: str = "", now: Callable[[], float] = time.time
) -> Iterator[Finding]:
    """All findings, as they are made; ends early when the machine cannot be reached. `queue`: that jobs will ask for."""
    begin = now()
    try:
        done = context.run("date +%s.%N; uname -sn; bash -c 'echo $BASH_VERSION'")
    except PilotfishError as error:
        host = machine.profile.get("hostname", "")
        seen = f"see whether `ssh {host}` works from here, with the same name, user, port and key"
        remedy = seen if isinstance(error, ContextLostError) else error.remedy
        other = _other_transport(machine)
        yield Finding("connection", False, error.what, (other and other.remedy) or remedy)
        return
    trip = now() - begin
    clock, system, bash = [*done.out.splitlines(), "", "", ""][:3]
    yield Finding("connection", True, f"{system}, {trip * 1000:.0f} ms for the first command")
    if other := _other_transport(machine):
        yield Finding("transport", True, other.found)
    if context.noise:
        told = f"print {context.noise.splitlines()[0][:80]!r}"
        remedy = "this is left out here; scp and others fail of it: let them print only in terminals"
        yield Finding("start files", False, told, remedy, warning=True)
    skew = (float(clock) if re.fullmatch(r"\d+\.\d+", clock) else begin) - (begin + trip / 2)
    remedy = "set its clock (NTP): times in results would be wrong"
    yield Finding("clock", abs(skew) <= _MOST_SKEW_S + trip, f"{skew:+.1f} s from here", remedy, warning=True)
    new_enough = tuple(int(part) for part in bash.split(".")[:2] if part.isdigit()) >= (4, 2)
    yield Finding("bash", new_enough, bash or "none", "job scripts need bash 4.2 or newer")
    if machine.batch_type != "Shell":
        try:
            bootstrap.check_login_shell(context)
        except PilotfishError as error:
            yield Finding("login profile", False, error.what, error.remedy or "")
    yield from _commands(machine, context)
    yield from _batch_system(machine, context, queue)
    yield from _folder(machine, context)
    yield from _python(context)


def _other_transport(machine: MachineDescription) -> Comparison | None:
    """What the other way to speak SSH would do."""
    if machine.context_type != "SSHContext":
        return None
    from ..contexts.ssh.comparison import compare

    return compare(machine.profile)


def _commands(machine: MachineDescription, context: Context) -> Iterator[Finding]:
    batch = build_machine(machine.batch_type)
    names = (*batch.commands, *batch.helpful_commands, *_TOOLS)
    found = set(
        context.run(f"for name in {' '.join(names)}; do command -v $name >/dev/null && echo $name; done").out.split()
    )
    for name in names:
        if name not in found:
            optional = name in batch.helpful_commands
            remedy = "without it the reasons of failures are not known" if optional else _REMEDY
            yield Finding(
                f"command {name}", False, "not on the PATH of a non-interactive shell", remedy, warning=optional
            )
    yield Finding("commands", set(names) <= found, f"{len(found)} of {len(names)} found", "see above", warning=True)


def _batch_system(machine: MachineDescription, context: Context, queue: str) -> Iterator[Finding]:
    """Does it answer, and has it that queue?"""
    batch = build_machine(machine.batch_type)
    if batch.directives is None:
        return
    try:
        batch.query(context, ["1"])
        yield Finding("batch system", True, f"{machine.batch_type} answers")
    except MachineBusyError as error:
        yield Finding("batch system", False, error.what, "is this a node from which jobs are submitted?")
        return
    if queue and batch.queue_check:
        done = context.run(batch.queue_check.format(queue=shlex.quote(queue)))
        known = done.code == 0 and bool(done.out.strip())
        yield Finding("queue", known, queue if known else f"no queue {queue}", "write another queue_name, or none")


_REMEDY = "add its folder to PATH in ~/.bashrc (above any test for interactive shells), or ask the administrators"


def _folder(machine: MachineDescription, context: Context) -> Iterator[Finding]:
    root = machine.remote_root or machine.local_root
    try:
        folder = context.absolute(context.root_for(f".doctor-{secrets.token_hex(4)}", "."))
        name = posixpath.join(folder, "")
        probe = f"{name}.pilotfish-doctor"
        context.write({probe: b"x"})
        ok = context.read([probe]) == {probe: b"x"}
        quoted = shlex.quote(probe)
        context.run(f"rm -f {quoted}; rmdir {shlex.quote(name)} 2>/dev/null; true")
        yield Finding("write access", ok, root, "choose another remote_root")
        free = context.run(f"df -Pk {shlex.quote(posixpath.dirname(name.rstrip('/')) or '/')} | tail -n 1").out.split()
        if len(free) > 3 and free[3].isdigit():
            enough = int(free[3]) >= _LEAST_FREE_KIB
            yield Finding(
                "disk", enough, f"{int(free[3]) / (1 << 20):.1f} GiB free", "remove old files there", warning=True
            )
    except PilotfishError as error:
        yield Finding("write access", False, error.what, f"is {root} there, and yours?")


def _python(context: Context) -> Iterator[Finding]:
    text = "python3 --version 2>&1; command -v pilotfish >/dev/null && pilotfish --version"
    done = context.run(in_login_shell(text), timeout_s=60)
    lines = [*done.out.splitlines(), "", ""]
    python = lines[0].removeprefix("Python ")
    new_enough = tuple(int(part) for part in python.split(".")[:2] if part.isdigit()) >= (3, 10)
    remedy = "only pilots need it: load a newer one in prepend_script, or give pilot.python"
    yield Finding("Python", new_enough, python or "none", remedy, warning=True)
    yield Finding(
        "pilotfish", bool(lines[1]), lines[1] or "none", "a pilot installs it by itself (bootstrap)", warning=True
    )


def machine_of(name: str) -> tuple[MachineDescription, str]:
    """(a machine by its name, or of a file: a machine file, or a submission with one; the queue that a submission asks for)."""
    given, queue = loading.machine_by_name(name), ""
    if isinstance(given, dict) and "machine" in given:
        resources = given.get("resources")
        queue = str(resources.get("queue_name") or "") if isinstance(resources, dict) else ""
        given = given["machine"]
        if isinstance(given, str):
            given = loading.machine_by_name(given)
    if not isinstance(given, dict):
        raise DescriptionError("has no machine", where=name)
    return parse_machine(given, name), queue


@click.command()
@click.argument("machine")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def doctor(machine: str, as_json: bool) -> None:
    """Look at a machine: is all there that submissions need, and what mends what is not?

    MACHINE is the name of one of your machine files (~/.config/pilotfish/machines), or a file: a machine, or a submission.

    Exit code: 0 all is well (there may be warnings), 1 something must be mended, 3 the machine cannot be reached.
    """
    description, queue = machine_of(machine)
    # What a submission would bear for minutes is to be told at once.
    at_once = {"reconnect_for": 0} if description.context_type == "SSHContext" else {}
    with build_context(replace(description, profile={**description.profile, **at_once})) as context:
        found = []
        for finding in examine(description, context, queue):
            found.append(finding)
            if not as_json:
                _show(finding)
    if as_json:
        echo(json.dumps([asdict(finding) for finding in found], indent=1))
    bad = [finding for finding in found if not finding.ok and not finding.warning]
    if bad:
        sys.exit(3 if bad[0].what == "connection" else 1)


def _show(finding: Finding) -> None:
    mark, colour = ("ok", "green") if finding.ok else ("warn", "yellow") if finding.warning else ("BAD", "red")
    echo(f"{click.style(f'{mark:>4}', fg=colour)}  {finding.what}: {finding.found}")
    if not finding.ok and finding.remedy:
        echo(f"      {finding.remedy}")
