"""What commands print. Printing never decides about the work: exit codes depend on the work alone.

A terminal may be gone, a pipe's reader too, a disk full, a descriptor closed: `echo` then gives up that stream, and the
command goes on. For commands whose only work is to print, `show` makes it an error.
"""

from __future__ import annotations

import errno
import json
import os
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

import click

from .model.errors import PilotfishError

JSON_VERSION = 1


class OutputError(PilotfishError):
    """What was asked for could not be printed."""

    code = "output"


def echo(text: object = "", *, err: bool = False, nl: bool = True, **style: Any) -> None:
    """Print a line that tells about work, in a `click.style` if there is one. Never raises for the state of the stream."""
    failed = _printed(text, err, nl, style)
    if failed is not None and not err and not isinstance(failed, BrokenPipeError):
        _printed(f"stdout: cannot be written: {failed.strerror}", True, True, {})


def show(text: object = "", *, nl: bool = True, **style: Any) -> None:
    """Print on stdout what the command was run for.

    Raises:
        BrokenPipeError: the reader is gone; the command ends quietly.
        OutputError: it cannot be written.
    """
    failed = _printed(text, False, nl, style)
    if isinstance(failed, BrokenPipeError):
        raise failed
    if failed is not None:
        raise OutputError(f"cannot be written: {failed.strerror}", where="stdout")


def print_json(members: Mapping[str, object], write: Callable[[str], None] = show, indent: int | None = 1) -> None:
    """What every `--json` prints: one object, whose `version` changes when a member gets another meaning or goes."""
    write(json.dumps({"version": JSON_VERSION, **members}, indent=indent, default=str))


def _printed(text: object, err: bool, nl: bool, style: dict[str, Any]) -> OSError | None:
    try:
        click.secho(_printable(text, err), err=err, nl=nl, **style)
    except OSError as error:
        give_up(err)
        return error
    except ValueError:  # closed by the program that uses us
        return None
    return None


def _printable(text: object, err: bool) -> object:
    """As this terminal can show it: bytes that are not text, and characters it lacks, become escapes."""
    if isinstance(text, bytes):
        return text
    shown = str(text)
    if shown.isascii():
        return shown
    encoding = getattr(sys.stderr if err else sys.stdout, "encoding", None) or "utf-8"
    with suppress(UnicodeEncodeError):  # half of a surrogate pair, which stands for no byte
        shown = shown.encode(errors="surrogateescape").decode(errors="backslashreplace")
    return shown.encode(encoding, "backslashreplace").decode(encoding)


def give_up(err: bool) -> None:
    """Discard what is still buffered for a stream: Python would try to write it again at exit, and fail because of it."""
    stream = sys.stderr if err else sys.stdout
    try:
        void = os.open(os.devnull, os.O_WRONLY)
        os.dup2(void, stream.fileno())
        os.close(void)
    except (OSError, ValueError, AttributeError):  # no descriptor of its own, as in a notebook
        return


_REMEDIES = {
    errno.EMFILE: "raise the limit of open files (ulimit -n)",
    errno.ENFILE: "this machine has no more open files to give; end some programs",
    errno.EFBIG: "raise the limit of file sizes (ulimit -f)",
    errno.EAGAIN: "raise the limits of processes (ulimit -u) and of memory (ulimit -v)",
    errno.ENOMEM: "raise the limit of memory (ulimit -v), or end some programs",
    errno.ENOSPC: "make room, then start again",
    errno.EDQUOT: "make room, then start again",
    errno.EROFS: "choose a folder that you can write to",
    errno.EACCES: "choose a folder that you can write to",
}


def why_not(error: BaseException) -> str | None:
    """One line on what a machine refuses us (a full disk, a limit, a mode), and what to do; None for any other error."""
    number = getattr(error, "errno", None)  # OSError, and ZeroMQ's own
    where = getattr(error, "filename", None) or ""
    if isinstance(error, MemoryError) or (isinstance(error, ImportError) and os.strerror(errno.ENOMEM) in str(error)):
        number = errno.ENOMEM  # the dynamic linker says it in the text alone
    elif isinstance(error, RuntimeError) and "new thread" in str(error):
        number = errno.EAGAIN
    if not isinstance(number, int):
        return None
    what = os.strerror(number)
    return "; ".join(filter(None, [f"{os.fsdecode(where)}: {what}" if where else what, _REMEDIES.get(number, "")]))


def fill_closed_descriptors() -> None:
    """Open /dev/null in the place of closed standard streams, before a socket or a file gets their number."""
    while True:
        descriptor = os.open(os.devnull, os.O_RDWR)
        if descriptor > 2:
            os.close(descriptor)
            return
