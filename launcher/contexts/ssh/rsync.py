"""Files by rsync, where both ends have it: of a changed file only what has changed travels, and after a cut it goes on.

rsync is not given an ssh of its own: its two halves talk over a channel of the connection that we have. So it works with every
way to log in (a password or a one-time password too), through jump hosts, with the same check of the host's key; there is no
second login, and nothing secret comes near a command line.
"""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from ....pilot.model.errors import TransientError
from ..base import LocalFile
from ..globs import digest as local_digest
from ..landing import Landing
from ..paths import inside, is_plain
from ..shell import Text, sh, users
from .session import BrokenError, Channel
from .streams import Counter, Pumps, shut

FROM_BYTES = 1 << 20
"""Below this an archive is there before the two halves of rsync have greeted each other."""
PARTIAL = ".pilotfish-part"
"""Folder beside a file that was cut off, on the receiving side; it goes when the file is there."""
_OLDEST = (3, 1)
_BLOCK = 1 << 17
_OPTIONS = (
    "--copy-links",
    "--perms",
    "--times",
    "--sparse",
    "--ignore-times",  # what shall travel was chosen by content
    "--protect-args",  # no name comes near a shell
    "--from0",
    "--files-from=-",
    "--no-implied-dirs",  # folders keep their modes
    f"--partial-dir={PARTIAL}",
    "--no-human-readable",
    "--info=progress2",
    "--timeout=600",  # a half that was left alone by a silent link ends
)
_PROGRESS = re.compile(rb"\s*(\d+)\s+\d+%")


class FailedError(TransientError):
    """rsync could not do it, for another reason than a broken connection."""


def usable(version: str) -> bool:
    """Whether the output of `rsync --version` is of one that knows all options used here."""
    found = re.match(r"rsync\s+version\s+v?(\d+)\.(\d+)", version)
    return found is not None and (int(found[1]), int(found[2])) >= _OLDEST


def is_here() -> bool:
    if shutil.which("rsync") is None:
        return False
    with suppress(OSError, subprocess.TimeoutExpired):
        done = subprocess.run(["rsync", "--version"], capture_output=True, text=True, timeout=10, check=False)
        return usable(done.stdout)
    return False


@contextmanager
def laid_out(files: Sequence[LocalFile]) -> Iterator[Path]:
    """A temporary folder with links to the files, each at the place where it shall be on the machine."""
    with tempfile.TemporaryDirectory(prefix="pilotfish-") as name:
        for folder in {Path(name, file.path).parent for file in files}:
            folder.mkdir(parents=True, exist_ok=True)
        for file in files:
            Path(name, file.path).symlink_to(file.source.absolute())
        yield Path(name)


def take(waiting: Path, path: str, landing: Landing, digest: str) -> bool:
    """Move a file from where all arrive to its place when it is the one that was promised. Raises NotWrittenError."""
    arrived = inside(waiting, path, "rsync")
    try:
        if not is_plain(waiting, path) or local_digest(arrived) != digest:
            return False
        stat = arrived.stat()
    except OSError:
        return False
    landing.move(arrived, path, stat.st_mode, stat.st_mtime)
    return True


class Rsync:
    """Transfers over one connection. Methods raise FailedError, and BrokenError when the connection is gone.

    Args:
        start: runs a command on the machine and gives its channel.
        alive: whether the connection still is.
        compress: what travels.
    """

    def __init__(self, start: Callable[[Text], Channel], alive: Callable[[], bool], compress: bool) -> None:
        self._start = start
        self._alive = alive
        self._compress = compress
        self.travelled_bytes = 0
        """Over the connection, to and fro, of all that was tried."""

    def send(self, root: Text, source: Path, paths: Sequence[str], counter: Counter) -> None:
        """Bring the files `paths` below `source` to below `root` (a shell word) on the machine."""
        self._run(root, paths, ["./", "machine:./"], source, counter)

    def fetch(self, root: Text, paths: Sequence[str], into: Path, base: Path, counter: Counter) -> None:
        """Bring files from below `root` into the folder `into`, which exists; of files in `base` the difference travels."""
        self._run(root, paths, [f"--copy-dest={base.absolute()}", "machine:./", "./"], into, counter)

    def _run(self, root: Text, paths: Sequence[str], words: Sequence[str], cwd: Path, counter: Counter) -> None:
        options = [*_OPTIONS, *(["--compress"] if self._compress else []), *words]
        with tempfile.TemporaryFile() as errors:
            with _started(options, paths, cwd, errors) as (process, ours):
                command = _command(ours)
                pumps = (
                    self._joined(ours, sh("cd {root} && exec {command}", root=root, command=command))
                    if command
                    else None
                )
                _follow(process, counter)
                code = process.wait()
                if pumps is not None:
                    pumps.close()
                    self.travelled_bytes += pumps.up_bytes + pumps.down_bytes
            if code and not self._alive():
                raise BrokenError(f"rsync ended with code {code}")
            errors.seek(0)
            told = errors.read() + (pumps.errors if pumps else b"")
        if code:
            what = told.decode(errors="replace").strip()[-500:] or "it said nothing"
            raise FailedError(f"rsync ended with code {code}: {what}")

    def _joined(self, ours: socket.socket, command: Text) -> Pumps:
        pumps = Pumps(ours, self._start(command))
        pumps.start()
        return pumps


@contextmanager
def _started(
    options: Sequence[str], paths: Sequence[str], cwd: Path, errors: IO[bytes]
) -> Iterator[tuple[subprocess.Popen[bytes], socket.socket]]:
    """A running rsync, and the socket at which its `ssh` is; at the end it is gone."""
    ours, theirs = socket.socketpair()
    environ = {name: os.environ[name] for name in ("PATH", "HOME", "TMPDIR") if name in os.environ}
    with ours, tempfile.TemporaryFile() as names:
        names.write(b"".join(os.fsencode(path) + b"\0" for path in paths))
        names.seek(0)
        with theirs:
            process = subprocess.Popen(
                ["rsync", f"--rsh={_shell(theirs.fileno())}", *options],
                cwd=cwd,
                env={**environ, "LC_ALL": "C"},
                stdin=names,
                stdout=subprocess.PIPE,
                stderr=errors,
                pass_fds=[theirs.fileno()],
                start_new_session=True,  # Ctrl-C is for us
            )
        with process:
            try:
                yield process, ours
            except BaseException:
                process.kill()
                raise
            finally:
                shut(ours)


def _shell(descriptor: int) -> str:
    """The command line of rsync_shell.py, in the quotes of rsync: a doubled one stands for itself."""
    words = [sys.executable, "-IS", str(Path(__file__).with_name("rsync_shell.py")), str(descriptor)]
    return " ".join("'" + word.replace("'", "''") + "'" for word in words)


def _command(ours: socket.socket) -> Text:
    """What rsync would have given to ssh; empty when it has ended instead. ssh joins the words as they are, too."""
    read = b""
    while not read.endswith(b"\0\0"):
        sign = ours.recv(1)
        if not sign:
            return users("")
        read += sign
    return users(" ".join(os.fsdecode(word) for word in read[:-2].split(b"\0")))


def _follow(process: subprocess.Popen[bytes], counter: Counter) -> None:
    """Read what rsync says of its progress, to its end."""
    assert process.stdout is not None
    start, rest = counter.done, b""
    while block := os.read(process.stdout.fileno(), _BLOCK):
        *lines, rest = re.split(rb"[\r\n]", rest + block)
        for line in lines:
            found = _PROGRESS.match(line)
            if found:
                counter.add(start + int(found[1]) - counter.done)
