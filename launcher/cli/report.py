"""`pilotfish submissions report`: what the pilot of a submission was like, whichever machine it was on."""

from __future__ import annotations

import tempfile
from pathlib import Path

import click

from ...api import report_cli
from ...pilot.model.errors import LostError, UsageError
from ...pilot.wire.connection import AUX_PREFIX
from ..contexts.shell import sh
from ..submission import store as record
from ..submission.pilot_jobs import IS_OURS
from ..submission.placement import Placement

_LIST = """\
{is_ours}
for folder in .qcgpjm-service-* .before-*; do
  if is_ours "$folder" d; then
    for file in journal.pilotfish jobs.report final_status.json run-tasks.json; do
      if is_ours "$folder/$file" f; then printf '%s\\n' "$folder/$file"; fi
    done
  fi
done"""
"""What a report is made from; the keys of a pilot stay where they are. A pilot that went before was put aside."""


@click.command(context_settings={"ignore_unknown_options": True}, add_help_option=False)
@click.argument("beginning", metavar="ID")
@click.argument("words", metavar="[--html FILE | VIEW [ARGS]...]", nargs=-1, type=click.UNPROCESSED)
@click.pass_context
def report(ctx: click.Context, beginning: str, words: tuple[str, ...]) -> None:
    """What the pilot of a submission was like: `pilotfish report` of its folder on the machine.

    What follows ID is that of `pilotfish report`. A submission that had several pilots, one after the other, is one report.

    \b
    pilotfish submissions report last --html pilots.html
    pilotfish submissions report 3f2a jobs --state failed
    """
    if beginning in ("-h", "--help"):
        click.echo(ctx.get_help())
        return
    submission = Placement.of(record.find(beginning))
    if submission.description.pilot is None:
        remedy = f"pilotfish submissions status {beginning} has what is known of its jobs"
        raise UsageError("it has no pilot, of which there could be a report", where=beginning, remedy=remedy)
    with tempfile.TemporaryDirectory() as folder:
        runs = _fetch(submission, Path(folder))
        if not runs:
            remedy = "a submission that ended well is removed there, unless it was run with --clean never"
            raise LostError("there is nothing of its pilot on the machine", where=beginning, remedy=remedy)
        report_cli.report.main([*map(str, runs), *words], prog_name="pilotfish report", standalone_mode=False)


def _fetch(submission: Placement, into: Path) -> list[Path]:
    """The folders of its pilots, those that were put aside first, as far as reports need them."""
    with submission.context() as context:
        root = submission.work(context).root
        listed = context.check(sh(_LIST, is_ours=IS_OURS), cwd=root)
        paths = [path for path in listed.splitlines() if path]
        if paths:
            context.get(root, paths, into, partly=True)
    return [_named(path) for path in sorted(into.iterdir(), key=lambda path: path.name)]


def _named(folder: Path) -> Path:
    """One that was put aside is called again as readers expect it."""
    aside, _, name = folder.name.partition(AUX_PREFIX)
    named = folder.with_name(f"{AUX_PREFIX}{name}{aside}")
    folder.rename(named)
    named.chmod(0o700)
    return named
