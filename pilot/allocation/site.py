"""The real machine for the backends: environment, files, commands."""

from __future__ import annotations

import socket
import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import psutil

from ..cpus import usable
from .base import Site

_PATIENCE_S = 20.0
_CGROUP = Path("/sys/fs/cgroup")


def this_site(environ: Mapping[str, str]) -> Site:
    return Site(environ, socket.gethostname(), usable(), _memory(), time.time(), _read, _run, _quota())


def _read(path: str) -> str | None:
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None


def _run(command: Sequence[str]) -> str | None:
    """Output of a command that succeeds; a batch system that does not answer must not keep the pilot from starting."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_PATIENCE_S, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout if done.returncode == 0 else None


def cgroup_file(name: str) -> str | None:
    """A file of this process's own cgroup (version 2)."""
    with suppress(OSError, IndexError):
        group = Path("/proc/self/cgroup").read_text().splitlines()[-1].split(":", 2)[2].lstrip("/")
        return (_CGROUP / group / name).read_text()
    return None


def _quota() -> int | None:
    """Whole cores of the cgroup's quota; None without one."""
    words = (cgroup_file("cpu.max") or "").split()
    return max(1, int(words[0]) // int(words[1])) if len(words) == 2 and words[0].isdigit() else None


def _memory() -> int:
    """Memory of this machine, or what its cgroup leaves of it."""
    total = int(psutil.virtual_memory().total)
    text = (cgroup_file("memory.max") or "").strip()
    return min(total, int(text)) if text.isdigit() else total
