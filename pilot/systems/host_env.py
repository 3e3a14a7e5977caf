"""The real machine for the batch systems: environment, files, commands."""

from __future__ import annotations

import socket
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import psutil

from .. import cgroups
from ..cpus import usable
from . import gpus
from .base import HostEnvironment
from .commands import NoAnswerError, output_of

_PATIENCE_S = 20.0


def this_host(environ: Mapping[str, str]) -> HostEnvironment:
    own = cgroups.find_own()
    hostname, now_s = socket.gethostname(), time.time()
    return HostEnvironment(
        environ, hostname, usable(), memory(own), now_s, _read, _run, quota(own), gpus.of_this_machine
    )


def _read(path: str) -> str | None:
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None


def _run(command: Sequence[str]) -> str | None:
    """Output of a command that succeeds; a batch system that does not answer must not keep the pilot from starting."""
    try:
        return output_of(command, _PATIENCE_S)
    except NoAnswerError:
        return None


def quota(own: Path | None) -> int | None:
    """Whole cores of the quota of that control group and those above it; None without one."""
    quotas = [words for words in cgroups.lines_above(own, "cpu.max") if words and words[0].isdigit()]
    return min((max(1, int(quota) // int(period)) for quota, period in quotas), default=None)


def memory(own: Path | None) -> int:
    """Memory of this machine, or what that control group and those above it leave of it."""
    limits = [words[0] for words in cgroups.lines_above(own, "memory.max") if words]
    return min([int(psutil.virtual_memory().total), *(int(limit) for limit in limits if limit.isdigit())])
