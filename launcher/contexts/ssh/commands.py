"""Commands and single files on a machine over SSH, with few round trips: each operation is one command with one stream.

On the machine only a POSIX shell, tar, find and sha256sum are needed; SFTP is not. The user's login shell may be any, and its
start files may print. What was cut off is done again when the connection is back.
"""

from __future__ import annotations

import io
import os
import posixpath
import re
import tarfile
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import IO, Any, TypeVar

from ....pilot.model.errors import TransientError
from ...description.schema import DescriptionError
from .. import archive
from ..archive import Readable
from ..base import NO_FOLDER, CommandFailedError, Context, Done, RemoteFile, StartFilesError, TransferError
from ..paths import below
from ..shell import Answer, Marks, Reader, Text, expanded, joined, place, places, sh
from .choice import Connector
from .forwarding import Forwarding
from .session import BrokenError, Channel, Session
from .streams import Ahead, Fed

_BLOCK = 1 << 18
_AT_ONCE = 200
"""Files of one `write`: their names stand in one command line."""
HOUR_S = 3600.0
_Result = TypeVar("_Result")

_FILES = sh('-type f -printf "%p\\0%s\\0%T@\\0"')
# A folder has a slash behind its name; one that cannot be read a size of -1.
_CLOSED = sh('-type d \\( ! -readable -o ! -executable \\) -printf "%p/\\0-1\\0%T@\\0"')
_EMPTY = sh('-type d -empty -printf "%p/\\0%s\\0%T@\\0"')
_LIST_FILES = sh("{files} 2>/dev/null", files=_FILES)
_LIST_ALL = sh("\\( {files} -o {closed} -o {empty} \\) 2>/dev/null", files=_FILES, closed=_CLOSED, empty=_EMPTY)
# Not of pipes, which would be waited for.
_DIGESTS = sh(
    """\
xargs -0 -r sh -c 'for f do [ ! -f "$f" ] || [ ! -r "$f" ] || printf "%s\\0" "$f"; done' sh |
  xargs -0 -r sha256sum -- 2>/dev/null; true"""
)
_DIGEST = re.compile(r"(\\?)([0-9a-f]{64}) [ *](.+)", re.DOTALL)
_LOOK = sh(
    """\
xargs -0 -r sh -c 'for f do
  if [ ! -e "$f" ]; then w=gone; elif [ ! -f "$f" ]; then w=other; elif [ ! -r "$f" ]; then w=closed; else w=lost; fi
  printf "%s %s\\0" $w "$f"
done' sh"""
)
_MOVE = " && mv -f -- {new} {path}"
REASONS = {
    "gone": "is not there any more",
    "other": "is no plain file there",
    "closed": "cannot be read there: permission denied",
    "lost": "could not be read there",
}


class Commands(Context):
    """All of SSHContext but its transfers of many files."""

    def __init__(self, local_root: Path, remote_root: str | None, profile: Mapping[str, Any]) -> None:
        super().__init__(local_root, remote_root, profile)
        self.session = Session(profile, Connector(profile), lambda text: self.tell(text))
        self._known_folders: dict[str, str] = {}

    def root_for(self, name: str, work_base: str) -> str:
        assert self.remote_root is not None
        return posixpath.join(self.remote_root, name)

    def fill_in(self, folder: str) -> str:
        """As the shell on the machine has it, else a login shell."""
        if folder not in self._known_folders:
            command = sh("printf %s {folder}", folder=expanded(folder))
            done = self.run(command, timeout_s=self._timeout(60.0))
            if done.code:
                done = self.run_in_login_shell(command, timeout_s=self._timeout(60.0))
            if done.code or not done.out.startswith("/"):
                what = f"{folder!r} is no folder there: {done.err.strip()[-200:] or done.out!r}"
                remedy = "write the path from the root folder (/...)"
                raise DescriptionError(what, where="machine.remote_root", remedy=remedy)
            self._known_folders[folder] = posixpath.normpath(done.out)
        return self._known_folders[folder]

    def _timeout(self, seconds: float) -> float:
        return max(seconds, float(self.profile.get("timeout", 10)))

    # --- commands -------------------------------------------------------------------------------------------------------

    def run(
        self, command: Text, *, cwd: str | None = None, stdin: bytes = b"", timeout_s: float = 60.0, once: bool = False
    ) -> Done:
        text = command if cwd is None else self._in(cwd, command)
        code, out, err = self._called(text, timeout_s, io.BytesIO(stdin), once=once)
        return Done(code, out.decode(errors="replace"), err.decode(errors="replace"))

    def _in(self, folder: str, command: Text) -> Text:
        """A command in a folder there; NO_FOLDER when that is missing."""
        return joined([sh("cd {folder} || exit {code}\n", folder=self._place(folder), code=NO_FOLDER), command])

    def _called(
        self, command: Text, timeout_s: float, stdin: IO[bytes] | None = None, *, once: bool = False
    ) -> tuple[int, bytes, bytes]:
        """(exit code, output, error text)."""
        out = io.BytesIO()

        def call() -> tuple[int, bytes, bytes]:
            out.seek(0)
            out.truncate()
            if stdin is not None:
                stdin.seek(0)
            code, err = self._stream(command, timeout_s, stdin, out.write)
            return code, out.getvalue(), err

        return self._again(call, once=once)

    def _names(self, command: Text, root: str, names: Iterable[str]) -> str:
        """What a command prints that is given names of files in `root`, and prints such: their bytes may be no text."""
        return os.fsdecode(self._called(self._in(root, command), HOUR_S, io.BytesIO(zeroed(names)))[1])

    def _again(self, action: Callable[[], _Result], *, once: bool = False) -> _Result:
        """Do it, and once more after each broken connection; the session gives up when the host stays away."""
        while True:
            try:
                return action()
            except BrokenError as error:
                self.session.close()
                if once:
                    raise TransientError(
                        f"the connection broke: {error}", where=str(self.profile["hostname"])
                    ) from error

    def _stream(
        self, command: Text, timeout_s: float, stdin: Readable | None, take: Callable[[bytes], object]
    ) -> tuple[int, bytes]:
        """Run a command, feeding and reading it as it goes: (exit code, error text). Raises BrokenError."""
        marks = Marks()
        answer = Answer(marks, take)
        channel, whole = self._channel(marks.command(command), timeout_s, stdin)
        try:
            fed = Fed(channel, whole, self._alive)
            while block := fed.recv(_BLOCK):
                answer.feed(block)
            answer.finish()
            err = b"".join(iter(lambda: channel.recv_stderr(_BLOCK), b""))
            code = channel.recv_exit_status()
        except TimeoutError:
            raise TransientError(f"not done after {timeout_s:g} s", where=command[:200]) from None
        except OSError as error:
            raise BrokenError(str(error) or type(error).__name__) from error
        finally:
            channel.close()
        if code < 0 and not self._alive():
            raise BrokenError("no exit code came")
        self._look_at_start_files(answer, err)
        return (255 if answer.code is None else answer.code), marks.without_noise(err)

    def _look_at_start_files(self, answer: Answer, err: bytes = b"") -> None:
        """Raises StartFilesError when the command was not run."""
        self.noise = answer.noise.decode(errors="replace").strip()
        if not answer.begun:
            told = (self.noise or err.decode(errors="replace").strip())[-500:]
            raise StartFilesError(
                f"commands are not run by the login shell there; it says {told!r}",
                where=str(self.profile["hostname"]),
                remedy="does a start file (.bashrc, .cshrc ...) exec another shell, or exit? Let it do so only in terminals",
            )

    def _receive(self, command: Text, stdin: bytes, take: Callable[[Readable], None]) -> None:
        """Run a command and give its output to `take` as a stream. Raises BrokenError."""
        marks = Marks()
        channel, whole = self._channel(marks.command(command), HOUR_S, io.BytesIO(stdin))
        try:
            reader = Reader(marks, Fed(channel, whole, self._alive).recv)
            take(reader)
        except TransferError as error:
            if self._alive():
                self._look_at_start_files(reader.answer)
                raise
            raise BrokenError(str(error)) from error
        except (OSError, EOFError) as error:
            raise BrokenError(str(error) or type(error).__name__) from error
        finally:
            channel.close()

    def _channel(
        self, command: tuple[str, bytes], timeout_s: float, stdin: Readable | None = None
    ) -> tuple[Channel, Readable]:
        """The channel of a command of `Marks`, and its whole input."""
        line, head = command
        return self.session.start(line.encode(), timeout_s), Ahead(head, stdin or io.BytesIO())

    def _started(self, command: Text) -> Channel:
        """The channel of a command that runs now; nothing is in it but what the command says. Raises BrokenError."""
        marks = Marks()
        answer = Answer(marks, lambda block: None)
        channel, head = self._channel(marks.command(command, ends=False), HOUR_S)
        try:
            while block := head.read(_BLOCK):
                channel.sendall(block)
            while not answer.begun and (sign := channel.recv(1)):
                answer.feed(sign)
            answer.finish()
        except OSError as error:
            channel.close()
            raise BrokenError(str(error) or type(error).__name__) from error
        if self._alive():
            self._look_at_start_files(answer)
        return channel

    def _alive(self) -> bool:
        return self.session.is_alive()

    def _place(self, path: str) -> Text:
        return place(self.absolute(path))

    # --- files ----------------------------------------------------------------------------------------------------------

    def read(self, paths: Sequence[str]) -> dict[str, bytes]:
        if not paths:
            return {}
        absolute = {f".{self.absolute(path)}": path for path in paths}
        wanted = zeroed(absolute)
        out = io.BytesIO()
        command = sh("cd / && tar --null -T - --ignore-failed-read --hard-dereference -chf - 2>/dev/null; true")
        self._again(lambda: (out.seek(0), out.truncate(), self._stream(command, HOUR_S, io.BytesIO(wanted), out.write)))
        found: dict[str, bytes] = {}
        out.seek(0)
        if out.getbuffer().nbytes:
            with tarfile.open(fileobj=out) as tar:
                for entry in tar:
                    content = tar.extractfile(entry) if entry.isreg() else None
                    if content is not None and entry.name in absolute:
                        found[absolute[entry.name]] = content.read()
        return found

    def write(self, files: Mapping[str, bytes], mode: int = 0o600) -> None:
        names = list(files)
        for start in range(0, len(names), _AT_ONCE):
            self._write({name: files[name] for name in names[start : start + _AT_ONCE]}, mode)

    def _write(self, files: Mapping[str, bytes], mode: int) -> None:
        targets = {self.absolute(path): content for path, content in files.items()}
        temporary = {_temporary(path).lstrip("/"): content for path, content in targets.items()}
        stream = io.BytesIO()
        archive.pack_bytes(temporary, mode, time.time(), stream)
        command = sh(
            "mkdir -p -- {folders} && cd / && tar -xf - && { sync {folders} 2>/dev/null; true; }{moves}",
            folders=places(sorted({posixpath.dirname(path) for path in targets})),
            moves=joined(sh(_MOVE, new=place(_temporary(path)), path=place(path)) for path in targets),
        )
        code, _, err = self._called(command, HOUR_S, stream)
        if code:
            remedy = self._room(posixpath.dirname(next(iter(targets))))
            told = err.decode(errors="replace").strip()[-500:]
            raise TransferError(f"cannot write: {told}", where=next(iter(files)), remedy=remedy)

    def _room(self, folder: str) -> str:
        """What to look at first when something could not be written."""
        found = self.run(sh("df -Pk -- {folder} | tail -n 1", folder=self._place(folder))).out.split()
        return f"{found[3]} KiB are free there" if len(found) > 3 else "is the folder there, and yours?"

    def list_files(self, root: str, folders: Iterable[str], *, with_folders: bool = False) -> list[RemoteFile]:
        asked = {posixpath.normpath(folder) for folder in folders}
        below = sorted("." if each == "**" else f"./{each}" for each in asked if each != ".")
        what = _LIST_ALL if with_folders else _LIST_FILES
        first = sh("find -L . -maxdepth 1 {what}", what=what) if "." in asked else sh("")
        command = sh("""{first}\nxargs -0 -r sh -c 'find -L "$@" {what}' find; true""", first=first, what=what)
        parts = self._names(command, root, below).split("\0")
        found = {}
        for path, size, mtime in zip(parts[0::3], parts[1::3], parts[2::3], strict=False):
            if path not in ("./", "."):  # with nothing in it
                file = _listed(path, size, mtime, self._source("find"))
                found[file.path] = file
        return [found[path] for path in sorted(found)]

    def _digests(self, root: str, paths: Iterable[str]) -> dict[str, str]:
        """sha256 of those files that are there and can be read."""
        asked = set(paths)
        found = {}
        for line in self._names(_DIGESTS, root, (f"./{path}" for path in sorted(asked))).split("\n"):
            match = _DIGEST.fullmatch(line)
            if match is None:
                continue
            name = match[3]
            if match[1]:  # a name with a backslash or a line break in it
                name = re.sub(r"\\(.)", lambda sign: {"n": "\n", "r": "\r"}.get(sign[1], sign[1]), name)
            path = below(name, self._source("sha256sum"))
            if path in asked:
                found[path] = match[2]
        return found

    def _why_lost(self, root: str, paths: Iterable[str]) -> dict[str, str]:
        """Why there are no digests of these files."""
        asked = dict.fromkeys(paths, REASONS["gone"])
        if asked:
            for line in self._names(_LOOK, root, (f"./{path}" for path in asked)).split("\0"):
                reason, _, name = line.partition(" ")
                if name.removeprefix("./") in asked and reason in REASONS:
                    asked[name.removeprefix("./")] = REASONS[reason]
        return asked

    def _source(self, command: str) -> str:
        """Whose answer is meant, for errors."""
        return f"{command} on {self.profile['hostname']}"

    def remove(self, root: str) -> None:
        if self.removes_in_background:
            self.check(sh("nohup rm -rf -- {root} >/dev/null 2>&1 &", root=self._place(root)))
            return
        try:
            self.check(sh("rm -rf -- {root}", root=self._place(root)), timeout_s=HOUR_S)
        except CommandFailedError:
            # Files of a network file system that are still open somewhere come back as .nfs*; a second time they are gone.
            self.check(sh("sleep 2; rm -rf -- {root}", root=self._place(root)), timeout_s=HOUR_S)

    def tunnel(self, host: str, port: int) -> Forwarding:
        """A local port; each connection to it goes on from the machine, over the same SSH connection as everything else."""
        made = Forwarding(lambda: self.session.connect_to(host, port))
        made.start()
        return made

    def close(self) -> None:
        self.session.close()


def _listed(path: str, size: str, mtime: str, source: str) -> RemoteFile:
    """One entry of a listing."""
    plain = below(path, source)
    try:
        return RemoteFile(plain, int(size), float(mtime), path.endswith("/"), int(size) < 0)
    except ValueError:
        raise TransferError(f"its answer cannot be understood: {(path, size, mtime)!a}", where=source) from None


def zeroed(names: Iterable[str]) -> bytes:
    """Names for `xargs -0` and tar: a command line would be too short for thousands of them."""
    return b"".join(os.fsencode(name) + b"\0" for name in names)


def _temporary(path: str) -> str:
    folder, name = posixpath.split(path)
    return f"{folder}/.{name}.{os.getpid()}.new"
