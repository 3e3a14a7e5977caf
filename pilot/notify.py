"""Running a command of the user's when something has happened: its words, its variables, its limit of time.

What has happened is in variables, and no shell reads the command: a task's name or message can then be nothing but text.
"""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import subprocess
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress

from .model.errors import SettingsError

LIMIT_S = 10.0
_OWN = "PILOTFISH_NOTIFY"
"""By which a command that uses Pilotfish would notify of itself."""


def command_of(text: str, where: str = "--notify") -> list[str]:
    """The words of a command. Raises SettingsError for one that cannot be run."""
    try:
        words = shlex.split(text)
    except ValueError as error:
        raise SettingsError(f"{text!r}: {error}", where=where, remedy="quote as for a shell") from error
    if not words:
        raise SettingsError("there is no command", where=where, remedy="write the program and its arguments")
    if shutil.which(words[0]) is None:
        raise SettingsError(f"there is no program {words[0]!r}", where=where, remedy="write its path")
    return words


def run(words: Sequence[str], variables: Mapping[str, str], say: Callable[[str], None]) -> None:
    """Run a command to its end, or to the limit of time, and `say` what is wrong with it. What it prints goes to stderr.

    `variables`: by what follows PILOTFISH_EVENT in their names.
    """
    signal.pthread_sigmask(signal.SIG_SETMASK, ())  # what is blocked here would be blocked there
    environ = {name: value for name, value in os.environ.items() if name != _OWN}
    environ |= {f"PILOTFISH_EVENT{'_' * bool(name)}{name}": _plain(value) for name, value in variables.items()}
    where = f"--notify {words[0]}"
    try:
        process = subprocess.Popen(
            words, env=environ, stdin=subprocess.DEVNULL, stdout=2, stderr=2, start_new_session=True
        )
    except OSError as error:
        say(f"{where}: cannot be started: {error.strerror}")
        return
    try:
        code = process.wait(LIMIT_S)
    except subprocess.TimeoutExpired:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        say(f"{where}: has not ended in {LIMIT_S:g} s, and was killed")
    else:
        if code:
            say(f"{where}: has ended with {code}")


def _plain(value: str) -> str:
    """As a variable can be: without what would end it."""
    return value.replace("\0", "")
