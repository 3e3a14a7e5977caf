"""Asking a program for facts, within a time limit that holds."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Sequence
from contextlib import suppress

_LAST_WAIT_S = 0.2


class NoAnswerError(Exception):
    """The program did not end in time."""


def output_of(command: Sequence[str], patience_s: float) -> str | None:
    """What a command prints when it succeeds; None when it does not exist or fails. Raises NoAnswerError.

    The limit holds whatever the program is: it is often a site's wrapper whose children hold the pipe, and a tool of a driver
    may be where no signal reaches it. So the whole session is killed, and not waited for.
    """
    try:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, start_new_session=True
        )
    except OSError:
        return None
    try:
        output, _ = process.communicate(timeout=patience_s)
    except subprocess.TimeoutExpired:
        with suppress(OSError):
            os.killpg(process.pid, signal.SIGKILL)
        with suppress(subprocess.TimeoutExpired):
            process.wait(_LAST_WAIT_S)
        assert process.stdout is not None
        process.stdout.close()
        raise NoAnswerError(f"{command[0]} does not answer") from None
    return output.decode(errors="replace") if process.returncode == 0 else None
