"""The commands of the old systems, by commands of ours. Scripts in `old-commands` come here with their name and arguments."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from typing import NoReturn

from ....pilot import own_python
from .. import modules

Words = list[str]


def main() -> NoReturn:
    """Become the command of ours that does what the one named in `sys.argv[1]` does."""
    name, *words = sys.argv[1:]
    sys.argv = [name, *words]
    if name in PROGRAMS:
        module, _, function = PROGRAMS[name].partition(":")
        sys.exit(getattr(import_module(module, __package__), function)())
    if name in ("qcg-pm-report", "qcg-pm-processes"):
        from ....api import report_cli

        sys.exit(report_cli.main(name, words))
    ours = COMMANDS[name](words)
    os.execv(sys.executable, own_python.pilotfish(sys.executable, *ours))


def _dpdisp(words: Sequence[str]) -> Words:
    """`run`, `submit` and `submission` with their options; what has no meaning here is refused."""
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
    return ours


def _submission(parser: argparse.ArgumentParser, given: argparse.Namespace) -> Words:
    actions = {
        "download": given.download_terminated_log or given.download_finished_task,
        "clean": given.clean,
        "watch": given.reset_fail_count,
    }
    asked = [action for action, wanted in actions.items() if wanted]
    if len(asked) != 1:
        parser.error("name one of --download-terminated-log, --download-finished-task, --clean, --reset-fail-count")
    words = ["submissions", asked[0], given.SUBMISSION_HASH]
    return [*words, "--retry-failed"] if given.reset_fail_count else words


def _job(*first: str) -> Callable[[Sequence[str]], Words]:
    """fyrd's console is `pilotfish job`, with the same words."""
    return lambda words: ["job", *first, *words]


def _fyrd(words: Sequence[str]) -> Words:
    """Without a command its help."""
    return ["job", *([_FYRD.get(words[0], words[0]), *words[1:]] if words else ["--help"])]


_FYRD = {"prof": "profile", "sub": "submit", "q": "queue", "keys": "keywords", "options": "keywords"}


COMMANDS: dict[str, Callable[[Sequence[str]], Words]] = {
    "dpdisp": _dpdisp,
    "fyrd": _fyrd,
    "frun": _job("run"),
    "fsub": _job("submit"),
    "my-queue": _job("queue"),
    "myq": _job("queue"),
    "monitor-jobs": _job("wait"),
    "cluster-keywords": _job("keywords"),
    "clean-job-files": _job("clean"),
}
"""Those that are commands of ours with other words."""

PROGRAMS = {
    "qcg-pm-service": "..qcg.service:main",
    "qcg-pm": "..qcg.client:main",
    **{name: f".{place}" for name, place in modules.COMMANDS.items()},
}
"""Those that are programs of their own: module and function."""
