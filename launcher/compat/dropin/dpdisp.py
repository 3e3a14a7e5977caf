"""DPDispatcher's command `dpdisp`, by commands of ours."""

from __future__ import annotations

import argparse
from collections.abc import Sequence


def translate(words: Sequence[str]) -> list[list[str]]:
    """The commands of ours, one after the other. Ends the program (exit code 2) for what cannot be done here."""
    parser = argparse.ArgumentParser("dpdisp", description="DPDispatcher's command, by Pilotfish.")
    commands = parser.add_subparsers(dest="command", required=True)
    run = commands.add_parser("run", help="pilotfish script")
    submit = commands.add_parser("submit", help="pilotfish submit")
    for command in (run, submit):
        command.add_argument("filename")
        command.add_argument("--allow-ref", action="store_true")
    submit.add_argument("--dry-run", action="store_true", help="show the scripts; nothing is uploaded")
    submit.add_argument("--exit-on-submit", action="store_true")
    submit.add_argument("--continue-on-failure", action="store_true", help="as Pilotfish always does")
    submit.add_argument("--no-clean", action="store_true")
    submission = commands.add_parser("submission", help="pilotfish submissions")
    submission.add_argument("SUBMISSION_HASH")
    for action in ("download-terminated-log", "download-finished-task", "clean", "reset-fail-count"):
        submission.add_argument(f"--{action}", action="store_true")
    commands.add_parser("gui", help="not here: it is DP-GUI, a package of its own", add_help=False)
    given, more = parser.parse_known_args(words)
    if given.command == "gui":
        parser.error("gui is DP-GUI, a package of its own: install dpgui and call it by itself")
    if more:
        parser.error(f"unrecognized arguments: {' '.join(more)}")
    if given.command == "submission":
        return _submission(parser, given)
    ours = ["script" if given.command == "run" else "submit", given.filename]
    ours += ["--allow-ref"] if given.allow_ref else []
    if given.command == "submit":
        ours += ["--dry-run"] if given.dry_run else []
        ours += ["--detach"] if given.exit_on_submit else []
        ours += ["--clean", "never"] if given.no_clean else []
    return [ours]


def _submission(parser: argparse.ArgumentParser, given: argparse.Namespace) -> list[list[str]]:
    """In the order in which the original does what is asked for; what was failed counts again with the next run of it."""
    commands = []
    if given.download_terminated_log or given.download_finished_task:
        commands.append(["submissions", "download", given.SUBMISSION_HASH])
    if given.reset_fail_count:
        commands.append(["submissions", "watch", given.SUBMISSION_HASH, "--retry-failed"])
    if given.clean:
        commands.append(["submissions", "clean", given.SUBMISSION_HASH])
    if not commands:
        parser.error("name some of --download-terminated-log, --download-finished-task, --reset-fail-count, --clean")
    return commands
