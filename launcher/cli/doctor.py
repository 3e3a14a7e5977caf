"""`pilotfish doctor MACHINE`: does everything work that a submission needs there, and what mends what does not."""

from __future__ import annotations

import posixpath
import re
import secrets
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from typing import TYPE_CHECKING

import click

from ...pilot.console import echo, print_json
from ...pilot.model.errors import PilotfishError
from ..contexts.base import Context, ContextLostError, Finding, StartFilesError
from ..contexts.registry import build_context
from ..contexts.shell import place, sh, word, words
from ..contexts.ssh import rsync
from ..description.machine import MachineDescription
from ..description.machine_file import machine_file
from ..description.resources import Resources
from ..machines.base import MachineBusyError
from ..machines.registry import build_machine
from .trial_job import run_trial_job

if TYPE_CHECKING:
    from ..contexts.ssh.comparison import Comparison

_TOOLS = ("bash", "tar", "find", "sha256sum", "xargs", "readlink", "sed", "tail")
_MOST_SKEW_S = 5.0
_LEAST_FREE_KIB = 1 << 20
_LEAST_INODES = 1000
_PROBE_BYTES = 1 << 20
_PROFILE_S = 120.0


def examine(
    machine: MachineDescription,
    context: Context,
    queue: str = "",
    now: Callable[[], float] = time.time,
    *,
    resources: Resources | None = None,
    wait_s: float = 0.0,
) -> Iterator[Finding]:
    """All findings, as they are made; ends early when the machine cannot be reached, or runs no command.

    `queue`: that jobs will ask for. With `wait_s` a job of one second may take that long, where `resources` let it run.
    """
    if context.staged:
        yield from _staged(machine, context, resources or Resources(queue_name=queue), wait_s)
        return
    begin = now()
    try:
        done = context.run(sh("date +%s.%N; uname -sn; bash -c 'echo $BASH_VERSION'; echo \"$SHELL\""))
    except StartFilesError as error:
        yield Finding("start files", False, error.what, error.remedy or "")
        return
    except PilotfishError as error:
        host = machine.profile.get("hostname", "")
        seen = f"see whether `ssh {host}` works from here, with the same name, user, port and key"
        remedy = seen if isinstance(error, ContextLostError) else error.remedy
        other = _other_transport(machine)
        yield Finding("connection", False, error.what, (other and other.remedy) or remedy)
        return
    trip = now() - begin
    clock, system, bash, shell = [*done.out.splitlines(), "", "", "", ""][:4]
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
    yield Finding("login shell", True, shell or "not known")
    new_enough = tuple(int(part) for part in bash.split(".")[:2] if part.isdigit()) >= (4, 2)
    yield Finding("bash", new_enough, bash or "none", "job scripts need bash 4.2 or newer")
    yield from _profile(machine, context)
    yield from _commands(machine, context)
    answers = True
    for finding in _batch_system(machine, context, queue):
        answers = answers and finding.ok
        yield finding
    yield from _folder(machine, context, resources or Resources(queue_name=queue), wait_s if answers else 0.0)
    yield from _python(context)


def _staged(machine: MachineDescription, context: Context, resources: Resources, wait_s: float) -> Iterator[Finding]:
    """Where jobs run no command can be run: the way there, what is used of this machine, and a job."""
    well = True
    for finding in context.examine():
        well = well and (finding.ok or finding.warning)
        yield finding
    if well:
        yield from _commands(machine, context)
        yield from _folder(machine, context, resources, wait_s)


def _other_transport(machine: MachineDescription) -> Comparison | None:
    """What the other way to speak SSH would do."""
    if machine.context_type != "SSHContext":
        return None
    from ..contexts.ssh.comparison import compare

    return compare(machine.profile)


def _profile(machine: MachineDescription, context: Context) -> Iterator[Finding]:
    """Jobs of a batch system run in a login shell."""
    try:
        context.run_in_login_shell(sh("true"), timeout_s=_PROFILE_S)
    except PilotfishError as error:
        remedy = error.remedy or "make its start files faster"
        yield Finding(
            "login profile", False, error.what, remedy, warning=not build_machine(machine.batch_type).login_shell
        )


def _commands(machine: MachineDescription, context: Context) -> Iterator[Finding]:
    batch = build_machine(machine.batch_type)
    names = (*batch.commands, *batch.helpful_commands, *_TOOLS)
    found = set(
        context.run(
            sh("for name in {names}; do command -v $name >/dev/null && echo $name; done", names=words(names))
        ).out.split()
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
        done = context.run(sh(batch.queue_check, queue=word(queue)))
        known = done.code == 0 and bool(done.out.strip())
        yield Finding("queue", known, queue if known else f"no queue {queue}", "write another queue_name, or none")


_REMEDY = "add its folder to PATH in ~/.bashrc (above any test for interactive shells), or ask the administrators"


def _folder(machine: MachineDescription, context: Context, resources: Resources, wait_s: float) -> Iterator[Finding]:
    """Where submissions will lie: is there room, can it be written, does a job run there?"""
    root = machine.remote_root or machine.local_root
    try:
        base = context.absolute(context.root_for("", "."))
        folder = context.make_folder(posixpath.join(base, f".doctor-{secrets.token_hex(4)}"))
    except PilotfishError as error:
        yield Finding("write access", False, error.what, error.remedy or f"is {root} there, and yours?")
        return
    try:
        yield from _written(context, root, folder)
        yield from _room(context, folder)
        if context.kind == "SSHContext":
            yield from _rsync(machine, context)
        if wait_s:
            batch = build_machine(machine.batch_type)
            found = run_trial_job(batch, context, resources, folder, wait_s)
            yield Finding("job of one second", found.ok, found.found, found.remedy, warning=found.waits)
    finally:
        context.run(sh("rm -rf -- {folder}", folder=place(folder)))  # in a project's own folder `remove` does nothing


def _written(context: Context, root: str, folder: str) -> Iterator[Finding]:
    """A small file may still fit where a quota is used up, so it is one of some size."""
    probe, content = posixpath.join(folder, "probe"), secrets.token_bytes(_PROBE_BYTES)
    try:
        context.write({probe: content})
        ok = context.read([probe]) == {probe: content}
        where = folder.rpartition("/")[0]
        said = where if where == root else f"{root}, which is {where}"
        yield Finding("write access", ok, said, "what was written could not be read again")
    except PilotfishError as error:
        yield Finding("write access", False, error.what, f"a full disk or a quota? {error.remedy or ''}".strip())
        return
    times = context.run(sh("touch -- {probe}; date +%s; stat -c %Y -- {probe}", probe=place(probe))).out.split()
    if len(times) == 2 and abs(int(times[0]) - int(times[1])) > _MOST_SKEW_S:
        what = f"new files there are {int(times[1]) - int(times[0]):+d} s from its own clock"
        remedy = "the clocks of the file server and of this node differ: what is newer than what cannot be told"
        yield Finding("clock of files", False, what, remedy, warning=True)


def _room(context: Context, folder: str) -> Iterator[Finding]:
    done = context.run(sh("df -Pk -- {folder} | tail -n 1; df -Pi -- {folder} | tail -n 1", folder=place(folder)))
    space, inodes = ([*line.split(), "", "", "", ""][3] for line in [*done.out.splitlines(), "", ""][:2])
    if space.isdigit():
        enough = int(space) >= _LEAST_FREE_KIB
        yield Finding("disk", enough, f"{int(space) / (1 << 20):.1f} GiB free", "remove old files there", warning=True)
    if inodes.isdigit() and 0 < int(inodes) < _LEAST_INODES:  # some file systems have no number of them
        yield Finding("files", False, f"room for {inodes} more files", "remove old files there", warning=True)


def _rsync(machine: MachineDescription, context: Context) -> Iterator[Finding]:
    if not machine.profile.get("rsync", True):
        return
    there = rsync.usable(context.run(sh("rsync --version 2>/dev/null; true")).out)
    if there and rsync.is_here():
        yield Finding("rsync", True, "on both sides")
    else:
        where = "here" if there else "there"
        remedy = "files go as archives: a large file of which a little has changed travels whole"
        yield Finding("rsync", False, f"none {where}, or one older than 3.1", remedy, warning=True)


def _python(context: Context) -> Iterator[Finding]:
    text = sh("python3 --version 2>&1; command -v pilotfish >/dev/null && pilotfish --version; true")
    try:
        done = context.run_in_login_shell(text, timeout_s=_PROFILE_S)
    except PilotfishError:  # told by now
        return
    lines = [*done.out.splitlines(), "", ""]
    python = lines[0].removeprefix("Python ")
    new_enough = tuple(int(part) for part in python.split(".")[:2] if part.isdigit()) >= (3, 10)
    remedy = "only pilots need it: load a newer one in prepend_script, or give pilot.python"
    yield Finding("Python", new_enough, python or "none", remedy, warning=True)
    if lines[1] or not context.local:
        remedy = (
            "a pilot installs it by itself (bootstrap); to use one that is there: prepend_script: [export PATH=...]"
        )
        yield Finding("pilotfish", bool(lines[1]), lines[1] or "none", remedy, warning=True)
    else:
        yield Finding("pilotfish", True, f"that of {sys.executable}")


@click.command()
@click.argument("machine")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option(
    "--job/--no-job", default=True, show_default=True, help="Run a job of one second through the batch system."
)
@click.option(
    "--wait", "wait_s", type=click.FloatRange(1), default=60.0, show_default=True, help="Seconds that job may take."
)
def doctor(machine: str, as_json: bool, job: bool, wait_s: float) -> None:
    """Look at a machine: is all there that submissions need, and what mends what is not?

    A small job goes through its batch system as those of submissions do, with the queue, account and modules of the file.

    MACHINE is the name of one of your machine files (~/.config/pilotfish/machines), or a file: a machine, or a submission.

    Exit code: 0 all is well (there may be warnings), 1 something must be mended, 3 the machine cannot be reached.

    \b
    pilotfish doctor cluster
    pilotfish doctor run.json --no-job
    """
    description, asked, _ = machine_file(machine)
    resources = Resources.deserialize(asked) if asked else Resources()
    # What a submission would bear for minutes is to be told at once.
    at_once = {"reconnect_for": 0} if description.context_type == "SSHContext" else {}
    with build_context(replace(description, profile={**description.profile, **at_once})) as context:
        found = []
        for finding in examine(
            description, context, resources.queue_name, resources=resources, wait_s=wait_s if job else 0.0
        ):
            found.append(finding)
            if not as_json:
                _show(finding)
    if as_json:
        print_json({"findings": [asdict(finding) for finding in found]}, echo)
    bad = [finding for finding in found if not finding.ok and not finding.warning]
    if bad:
        sys.exit(3 if bad[0].what == "connection" else 1)


def _show(finding: Finding) -> None:
    mark, colour = ("ok", "green") if finding.ok else ("warn", "yellow") if finding.warning else ("BAD", "red")
    echo(f"{click.style(f'{mark:>4}', fg=colour)}  {finding.what}: {finding.found}")
    if not finding.ok and finding.remedy:
        echo(f"      {finding.remedy}")
