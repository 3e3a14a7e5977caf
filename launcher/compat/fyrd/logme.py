"""fyrd's log lines on the standard library's logging: `20160223 11:46:24.969 | INFO --> text`, in colour on stdout and stderr.

Each message also goes to the logger `fyrd`, so handlers that a program has set up get it as any other.
"""

from __future__ import annotations

import bz2
import gzip
import logging
import os
import sys
from datetime import datetime
from typing import IO, Any

__all__ = ["LOGFILE", "MIN_LEVEL", "LoggingException", "clear", "log"]

WHITE, YELLOW, RED = "\033[97m", "\033[93m", "\033[91m"
BOLD, ENDC = "\033[1m", "\033[0m"

MIN_LEVEL: str | int = "info"
"""What is below is not written: verbose, debug, info, warn, error, critical, or their first letters, or 0 to 5."""
LOGFILE: Any = None
"""Where lines go when `log` is not told: a stream, a path (also .gz, .bz2) or a Logger; None: stderr."""

VERBOSE = 5
_LEVELS = (VERBOSE, logging.DEBUG, logging.INFO, logging.WARNING, logging.ERROR, logging.CRITICAL)
_NAMES = ("VERBOSE", "DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")
_WORDS = ("verbose", "debug", "info", "warn", "error", "critical")
_COLOURS = {"INFO": WHITE, "WARNING": YELLOW, "ERROR": RED, "CRITICAL": RED}
_logger = logging.getLogger("fyrd")
_logger.addHandler(
    logging.NullHandler()
)  # what is logged is written by `log`, unless a program has handlers of its own


class LoggingException(Exception):
    """Is logged as critical when it is made; its text is the first line."""

    def __init__(self, message: str, logfile: Any = None) -> None:
        log(message, "critical", logfile)
        super().__init__(message.partition("\n")[0])


def _number(level: str | int) -> int:
    """Raises ValueError."""
    if isinstance(level, int) and 0 <= level < len(_WORDS):
        return level
    text = str(level).lower()
    for number, word in enumerate(_WORDS):
        if text in (word, word[0], f"{word}ing"):
            return number
    if text == "normal":
        return _WORDS.index("info")
    raise ValueError(f"invalid level {level!r}; use {', '.join(_WORDS)}, or 0 to 5")


def log(
    message: object,
    level: str | int = "info",
    logfile: Any = None,
    also_write: str | int | None = None,
    min_level: str | int | None = None,
    kind: str | int | None = None,
) -> None:
    """Write a line, unless its level is below `min_level` (default: MIN_LEVEL).

    Args:
        logfile: a stream, a path or a Logger; default: LOGFILE. A Logger has its own level.
        also_write: stdout or stderr: there too. Errors are also written to stderr, unless it is -1.
        kind: another name of `level`.

    Raises ValueError for what is no level.
    """
    number = _number(kind if kind is not None else level)
    record = _logger.makeRecord(_logger.name, _LEVELS[number], "", 0, str(message), (), None)
    target = logfile or LOGFILE or sys.stderr
    wanted = number >= _number(MIN_LEVEL if min_level is None else min_level)
    _logger.handle(record)
    if isinstance(target, logging.Logger):
        if target is not _logger and target.isEnabledFor(record.levelno):
            target.handle(record)
    elif wanted:
        _write(record, number, target)
    if also_write is None and number >= _WORDS.index("error"):
        also_write = "stderr"
    also = {"stdout": sys.stdout, "stderr": sys.stderr}.get(str(also_write))
    if also is not None and wanted and also is not _stream(target):
        _write(record, number, also)


def _stream(target: Any) -> Any:
    """The streams of now: a program, or a test, may have put others in their place since this was imported."""
    return {"<stdout>": sys.stdout, "<stderr>": sys.stderr}.get(str(getattr(target, "name", "")), target)


def _write(record: logging.LogRecord, number: int, target: Any) -> None:
    stream = _stream(target)
    if isinstance(target, str | os.PathLike) or getattr(stream, "closed", False):
        with _opened(os.fspath(target if isinstance(target, str | os.PathLike) else stream.name)) as file:
            file.write(_line(record, number, colour=False))
        return
    stream.write(_line(record, number, colour=stream in (sys.stdout, sys.stderr)))
    stream.flush()


def _line(record: logging.LogRecord, number: int, *, colour: bool) -> str:
    at, name = datetime.fromtimestamp(record.created), _NAMES[number]
    stamp = f"{at:%Y%m%d %H:%M:%S}.{at.microsecond // 1000:03d}"
    flag = f"{BOLD}{_COLOURS[name]}{name}{ENDC}" if colour and name in _COLOURS else name
    first, *more = record.getMessage().split("\n")
    dashes = "-" * (len(f"{stamp} | {name} --> ") - 2)
    return "".join([f"{stamp} | {flag} --> {first}\n", *(f"{dashes}> {line}\n" for line in more)])


def _opened(path: str) -> IO[str]:
    if path.endswith(".gz"):
        return gzip.open(path, "at")
    return bz2.open(path, "at") if path.endswith(".bz2") else open(path, "a")


def clear(infile: str | os.PathLike[str]) -> None:
    """Make a file empty."""
    with open(infile, "w"):
        pass
