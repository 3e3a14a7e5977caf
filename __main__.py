"""The `pilotfish` command. Nothing is imported before `main` runs, so that Ctrl-C is answered from the first moment."""

from __future__ import annotations

import os
import signal
import sys
from types import FrameType


def main() -> None:
    """Run the command and exit with its code."""
    answers = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if answers:  # else it is ignored, as in the background of a script
        signal.signal(signal.SIGINT, _leave)
    _forget_own_folder()
    from .pilot import early_warnings

    early_warnings.note()
    _take_names_as_utf8()
    from .commands import run_command

    sys.exit(run_command(_raise_again if answers else _as_it_is))


def _take_names_as_utf8() -> None:
    """In a Latin-1 locale Python would take file names for Latin-1, and could name no other file. Bytes are bytes here: what
    is not UTF-8 passes too, and all processes of a pilot agree on what a name means.
    """
    if sys.getfilesystemencoding() != "utf-8":
        os.execv(sys.executable, [sys.executable, "-X", "utf8", *sys.orig_argv[1:]])


def _forget_own_folder() -> None:
    """`python -m pilotfish` has put the folder it was started in first on the module path; see pilot/own_python.py."""
    try:
        if sys.path and sys.path[0] == os.getcwd():
            del sys.path[0]
    except OSError:  # the folder is gone, and nothing can be in it
        pass


def _leave(number: int, frame: FrameType | None) -> None:
    """Nothing has been begun, and an exception inside an import may come out as any other."""
    os._exit(128 + number)


def _raise_again() -> None:
    """The command begins: from now on Ctrl-C is an exception that it can answer."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


def _as_it_is() -> None:
    pass


if __name__ == "__main__":
    main()
