"""The commands of the old systems. The scripts in `old-commands` come here with their name and their words, and `python -m`
with those of the module.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from typing import NoReturn

from ....pilot import own_python
from . import dpdisp, fyrd_console

Translate = Callable[[Sequence[str]], list[list[str]]]
"""From the words of an old command to commands of ours, to be run one after the other."""


def main() -> NoReturn:
    """Become the command that is named in `sys.argv[1]`."""
    del sys.argv[0]
    become(os.path.basename(sys.argv[0]))


def become(name: str) -> NoReturn:
    """Do what the command `name` of an old system does, with the words in `sys.argv`. Never returns."""
    sys.argv[0] = name
    words = sys.argv[1:]
    if name in PROGRAMS:
        module, _, function = PROGRAMS[name].partition(":")
        sys.exit(getattr(import_module(module, __package__), function)())
    if name in _VIEWS:
        from ....api import report_cli

        sys.exit(report_cli.main(name, words))
    *first, last = [own_python.pilotfish(sys.executable, *ours) for ours in TRANSLATED[name](words)]
    for command in first:
        code = subprocess.run(command, check=False).returncode
        if code:
            sys.exit(code)
    os.execv(sys.executable, last)


def _part(name: str) -> Translate:
    """A part of fyrd's command under a name of its own."""
    return lambda words: fyrd_console.translate([name, *words])


TRANSLATED: dict[str, Translate] = {
    "dpdisp": dpdisp.translate,
    "fyrd": fyrd_console.translate,
    "frun": _part("run"),
    "fsub": _part("submit"),
    "my-queue": _part("queue"),
    "myq": _part("queue"),
    "cluster-keywords": _part("keywords"),
    "clean-job-files": _part("clean"),
    "monitor-jobs": fyrd_console.monitor,
}

PROGRAMS = {
    "qcg-pm-service": "..qcg.service:main",
    "qcg-pm": "..qcg.client:main",
    "clusterjob-test-backend": "..clusterjob.cli:test_backend",
}
"""Those that are programs of their own: module and function."""

_VIEWS = ("qcg-pm-report", "qcg-pm-processes")
NAMES = frozenset((*TRANSLATED, *PROGRAMS, *_VIEWS))
