"""How commands end: the one table. Exit codes tell of the work only, never of whether something could be printed."""

from __future__ import annotations

import signal
from enum import IntEnum


class ExitCode(IntEnum):
    """128 + N is what a shell says of a program that ended by signal N."""

    DONE = 0
    FAILED = 1  # a task, or the command itself
    BAD_INPUT = 2  # as click has it
    UNREACHABLE = 3  # no such pilot or machine, it does not answer, or too few nodes of it do
    WORK_LEFT = 75  # EX_TEMPFAIL of sysexits.h, 'try again later': the time is over
    INTERRUPTED = 128 + signal.SIGINT
    TOLD_TO_STOP = 128 + signal.SIGTERM
