"""clusterjob's small tools. Our own code uses none of them: files and commands go through a context."""

from __future__ import annotations

import logging
import os
import stat
import subprocess
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import TypeVar

from ...contexts.shell import expanded, sh, users, word, words
from .headers import time_to_seconds as time_to_seconds

_Seq = TypeVar("_Seq", bound=Sequence[object])
log = logging.getLogger("clusterjob.utils")
CMD_RESPONSE_ENCODING = "utf-8"


def set_executable(filename: str | os.PathLike[str]) -> None:
    """Let its owner run this file."""
    path = Path(filename)
    path.chmod(path.stat().st_mode | stat.S_IEXEC)


def write_file(filename: str | os.PathLike[str], data: str) -> None:
    Path(filename).write_text(data)


def read_file(filename: str | os.PathLike[str]) -> str:
    return Path(filename).read_text()


def mkdir(name: str | os.PathLike[str], mode: int = 0o750) -> None:
    """Make a folder, with those above it. Nothing happens when it is there; FileExistsError when a file is."""
    Path(name).mkdir(mode, parents=True, exist_ok=True)


def split_seq(seq: _Seq, n_chunks: int) -> list[_Seq]:
    """Cut a sequence into `n_chunks` pieces of nearly the same length, in order; some are empty when there are more."""
    size = len(seq) / n_chunks
    ends = [round(number * size) for number in range(n_chunks + 1)]
    return [seq[start:end] for start, end in pairwise(ends)]  # type: ignore[misc]


def upload_file(localfile: str, remote: str, remotefile: str, scp: str = "scp") -> None:
    """`scp localfile remote:remotefile`. Raises CalledProcessError."""
    _checked([scp, localfile, f"{remote}:{remotefile}"])


def run_cmd(
    cmd: str | Sequence[str],
    remote: str | None,
    rootdir: str = "",
    workdir: str = "",
    ignore_exit_code: bool = False,
    ssh: str = "ssh",
) -> str:
    """Run a command in `rootdir/workdir`, here or on a host; what it prints on both streams.

    A list is run as it is, also on a host; a text is for a shell. Raises CalledProcessError unless `ignore_exit_code`.
    """
    folder = os.path.join(rootdir, workdir) if workdir else rootdir
    line = users(cmd) if isinstance(cmd, str) else words(cmd)
    log.debug("COMMAND: %s", line if remote is None else f"{ssh} {remote} {line}")
    try:
        if remote is not None:
            there = expanded(folder) if folder.startswith("~") else word(folder)
            given = sh("cd {folder} && {line}", folder=there, line=line) if folder else line
            response = _checked([ssh, remote, given])
        else:
            shell = isinstance(cmd, str)
            response = _checked(cmd, shell=shell, cwd=os.path.expanduser(folder) or None)
    except subprocess.CalledProcessError as error:
        if not ignore_exit_code:
            raise
        response = error.output
    log.debug("RESPONSE: %s", response)
    return response


def _checked(command: str | Sequence[str], *, shell: bool = False, cwd: str | None = None) -> str:
    return subprocess.run(
        command,
        shell=shell,
        cwd=cwd,
        check=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding=CMD_RESPONSE_ENCODING,
        errors="replace",
    ).stdout
