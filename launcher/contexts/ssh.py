"""A machine over SSH, with few round trips: each operation is one command with one stream, whatever it is about.

On the machine only a POSIX shell, tar, find, sha256sum and xargs are needed; SFTP is not. What was cut off is done again when
the connection is back: files that have arrived are recognised by their content, large ones go on where they stopped.
"""

from __future__ import annotations

import io
import os
import posixpath
import shlex
import tarfile
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, TypeVar

from ...pilot.model.errors import TransientError
from ..staging import digest as local_digest
from . import archive
from .archive import Readable
from .base import CommandFailedError, Context, Done, LocalFile, RemoteFile, Transfer, TransferError, Watch
from .local import NO_FOLDER
from .ssh_session import BrokenError, Session
from .streams import Counted, Counter, Packed

if TYPE_CHECKING:
    import paramiko

_LARGE = 64 << 20
"""Files above this many bytes travel alone and can be continued."""
_BLOCK = 1 << 18
_AT_ONCE = 200
"""Files of one `write`: their names stand in one command line."""
_HOUR_S = 3600.0
_Result = TypeVar("_Result")


class SSHContext(Context):
    """Below `remote_root` on another host. `~` and relative paths there mean the home folder."""

    kind = "SSHContext"

    def __init__(self, local_root: Path, remote_root: str | None, profile: Mapping[str, Any]) -> None:
        super().__init__(local_root, remote_root, profile)
        self.session = Session(profile)
        self._home = ""
        self._compress = bool(profile.get("tar_compress", True))
        self._large = int(profile.get("archive_chunk_size") or 0) or _LARGE

    def root_for(self, name: str, work_base: str) -> str:
        assert self.remote_root is not None
        return posixpath.join(self.remote_root, name)

    def absolute(self, path: str) -> str:
        """The path on the machine, from its root folder; asks once where the home folder is."""
        if path.startswith("/"):
            return path
        if not self._home:
            self._home = self._call('printf %s "$HOME"', self._timeout(60.0)).out
        plain = path[1:].lstrip("/") if path == "~" or path.startswith("~/") else path
        return posixpath.normpath(posixpath.join(self._home, plain))

    def _timeout(self, seconds: float) -> float:
        return max(seconds, float(self.profile.get("timeout", 10)))

    # --- commands -------------------------------------------------------------------------------------------------------

    def run(
        self, command: str, *, cwd: str | None = None, stdin: bytes = b"", timeout_s: float = 60.0, once: bool = False
    ) -> Done:
        text = command if cwd is None else f"cd {self._quoted(cwd)} || exit {NO_FOLDER}\n{command}"
        return self._call(text, timeout_s, io.BytesIO(stdin), once=once)

    def _call(self, command: str, timeout_s: float, stdin: IO[bytes] | None = None, *, once: bool = False) -> Done:
        out = io.BytesIO()

        def call() -> Done:
            out.seek(0)
            out.truncate()
            if stdin is not None:
                stdin.seek(0)
            code, err = self._stream(command, timeout_s, stdin, out.write)
            return Done(code, out.getvalue().decode(errors="replace"), err.decode(errors="replace"))

        return self._again(call, once=once)

    def _again(self, action: Callable[[], _Result], *, once: bool = False) -> _Result:
        """Do it, and once more after each broken connection; `channel` gives up when the host stays away."""
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
        self, command: str, timeout_s: float, stdin: Readable | None, take: Callable[[bytes], object]
    ) -> tuple[int, bytes]:
        """Run a command, feeding and reading it as it goes: (exit code, error text). Raises BrokenError."""
        import paramiko

        channel = self.session.channel()
        try:
            channel.settimeout(timeout_s)
            channel.exec_command(f"exec sh -c {shlex.quote(command)}")
            if stdin is not None:
                _feed(channel, stdin)
            channel.shutdown_write()
            while block := channel.recv(_BLOCK):
                take(block)
            err = b"".join(iter(lambda: channel.recv_stderr(_BLOCK), b""))
            code = channel.recv_exit_status()
        except TimeoutError:
            raise TransientError(f"not done after {timeout_s:g} s", where=command[:200]) from None
        except (OSError, EOFError, paramiko.SSHException) as error:
            raise BrokenError(str(error) or type(error).__name__) from error
        finally:
            _close(channel)
        if code < 0 and not self._alive():
            raise BrokenError("no exit code came")
        return (code if code >= 0 else 255), err

    def _alive(self) -> bool:
        transport = self.session._transport
        return transport is not None and transport.is_active()

    def _quoted(self, path: str) -> str:
        return shlex.quote(self.absolute(path))

    # --- files ----------------------------------------------------------------------------------------------------------

    def read(self, paths: Sequence[str]) -> dict[str, bytes]:
        if not paths:
            return {}
        absolute = {self.absolute(path).lstrip("/"): path for path in paths}
        names = _zeroed(absolute)
        out = io.BytesIO()
        command = "cd / && tar --null -T - --ignore-failed-read -chf - 2>/dev/null; true"
        self._again(lambda: (out.seek(0), out.truncate(), self._stream(command, _HOUR_S, io.BytesIO(names), out.write)))
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
        folders = " ".join(sorted({shlex.quote(posixpath.dirname(path)) for path in targets}))
        moves = "".join(f" && mv -f {shlex.quote(_temporary(path))} {shlex.quote(path)}" for path in targets)
        command = f"mkdir -p {folders} && cd / && tar -xf - && {{ sync {folders} 2>/dev/null; true; }}{moves}"
        done = self._call(command, _HOUR_S, stream)
        if done.code:
            remedy = self._room(posixpath.dirname(next(iter(targets))))
            raise TransferError(f"cannot write: {done.err.strip()[-500:]}", where=next(iter(files)), remedy=remedy)

    def _room(self, folder: str) -> str:
        """What to look at first when something could not be written."""
        words = self.run(f"df -Pk -- {self._quoted(folder)} | tail -n 1").out.split()
        return f"{words[3]} KiB are free there" if len(words) > 3 else "is the folder there, and yours?"

    def list_files(self, root: str, folders: Iterable[str]) -> list[RemoteFile]:
        names = sorted(set(folders))
        below = ["." if name == "**" else f"./{name}" for name in names if name != "."]
        found_by = "-type f -printf '%p\\0%s\\0%T@\\0' 2>/dev/null"
        command = f"find -L . -maxdepth 1 {found_by}\n" if "." in names else ""
        command += f"""xargs -0 -r sh -c 'find -L "$@" {found_by.replace("'", '"')}' find; true"""
        stdin = _zeroed(below)
        parts = self.run(command, cwd=root, stdin=stdin, timeout_s=_HOUR_S).out.split("\0")
        found = {}
        for path, size, mtime in zip(parts[0::3], parts[1::3], parts[2::3], strict=False):
            plain = posixpath.normpath(path)
            found[plain] = RemoteFile(plain, int(size), float(mtime))
        return [found[path] for path in sorted(found)]

    def _digests(self, root: str, paths: Iterable[str]) -> dict[str, str]:
        """sha256 of those files that are there."""
        names = _zeroed(f"./{path}" for path in paths)
        done = self.run("xargs -0 -r sha256sum -- 2>/dev/null; true", cwd=root, stdin=names, timeout_s=_HOUR_S)
        found = {}
        for line in done.out.splitlines():
            escaped = line.startswith("\\")  # a name with a backslash or a line break in it
            digest, _, name = line.lstrip("\\").partition("  ")
            name = name.replace("\\n", "\n").replace("\\\\", "\\") if escaped else name
            found[posixpath.normpath(name)] = digest
        return found

    def put(
        self, root: str, files: Sequence[LocalFile], folders: Iterable[str] = (), watch: Watch | None = None
    ) -> Transfer:
        names = _zeroed(f"{self.absolute(root)}/{folder}" for folder in ["", *folders])
        made = self.run("xargs -0 mkdir -p --", stdin=names, timeout_s=_HOUR_S)
        if made.code:
            raise TransferError(f"cannot make folders: {made.err.strip()[-500:]}", where=root)
        there = self._digests(root, [file.path for file in files]) if files else {}
        wanted = [file for file in files if there.get(file.path) != file.digest]
        whole = sum(file.size for file in wanted)
        sent = Counter(watch, whole)
        for file in (each for each in wanted if each.size > self._large):
            self._put_large(root, file, sent)
        small = [file for file in wanted if file.size <= self._large]
        while small:
            small = self._put_some(root, small, sent)
        moved = {file.path: None for file in wanted}
        return Transfer(tuple(moved), tuple(file.path for file in files if file.path not in moved), whole)

    def _put_some(self, root: str, files: list[LocalFile], sent: Counter) -> list[LocalFile]:
        """Send small files as one archive; those that are still to be sent after the connection broke."""
        command = f"cd {self._quoted(root)} && tar -x{'z' if self._compress else ''}f -"
        packed = Packed(files, self._compress, sent)
        try:
            code, err = self._stream(command, _HOUR_S, packed, lambda block: None)
        except BrokenError:
            self.session.close()
            code, err = 0, b""
        finally:
            packed.close()
        there = self._digests(root, [file.path for file in files])
        left = [file for file in files if there.get(file.path) != file.digest]
        if code or len(left) == len(files):
            told = err.decode(errors="replace").strip()[-500:] or "nothing arrived"
            what = f"{len(left)} of {len(files)} files did not arrive: {told}"
            raise TransferError(what, where=left[0].path, remedy=self._room(root))
        return left

    def _put_large(self, root: str, file: LocalFile, sent: Counter) -> None:
        """Send one file in a piece; after a cut the rest of it."""
        part = shlex.quote(f"{file.path}.{file.digest[:16]}.part")
        target = shlex.quote(file.path)
        self.check(f"mkdir -p -- {shlex.quote(posixpath.dirname(file.path) or '.')}", cwd=root)

        def send() -> tuple[int, bytes]:
            size = self.run(f"wc -c <{part} 2>/dev/null || echo 0", cwd=root).out.strip()
            with open(file.source, "rb") as content:
                content.seek(int(size or 0))
                command = f"cd {self._quoted(root)} && cat >>{part}"
                return self._stream(command, _HOUR_S, Counted(content, sent), lambda block: None)

        code, err = self._again(send)
        if code:
            what = f"cannot write: {err.decode(errors='replace').strip()}"
            raise TransferError(what, where=file.path, remedy=self._room(root))
        check = f"[ \"$(sha256sum <{part} | cut -d' ' -f1)\" = {file.digest} ] || {{ rm -f {part}; exit 1; }}"
        done = self.run(f"{check}\nchmod {file.mode:o} {part} && mv -f {part} {target}", cwd=root, timeout_s=_HOUR_S)
        if done.code:
            raise TransferError("was damaged on the way, or changed meanwhile", where=file.path)

    def get(self, root: str, paths: Sequence[str], into: Path, watch: Watch | None = None) -> Transfer:
        promised = self._digests(root, paths)
        missing = [path for path in paths if path not in promised]
        if missing:
            raise TransferError("is not there any more", where=missing[0])
        same = [path for path in paths if (into / path).is_file() and local_digest(into / path) == promised[path]]
        left = {path: promised[path] for path in paths}
        for path in same:
            del left[path]
        moved = tuple(left)
        counter = Counter(watch, 0)
        sizes = {
            file.path: file.size for file in self.list_files(root, {posixpath.dirname(path) or "." for path in left})
        }
        counter.whole = sum(sizes.get(path, 0) for path in left)
        for path in [path for path in left if sizes.get(path, 0) > self._large]:
            self._get_large(root, path, left.pop(path), into, counter)
        while left:
            self._get_some(root, left, into, counter)
        return Transfer(moved, tuple(same), counter.done)

    def _get_some(self, root: str, left: dict[str, str], into: Path, counter: Counter) -> None:
        """Fetch files as one archive; what has arrived is taken out of `left`, also when the connection breaks."""
        before = len(left)
        names = _zeroed(f"./{path}" for path in left)
        command = f"cd {self._quoted(root)} && tar --null -T - -ch{'z' if self._compress else ''}f -"

        def arrived(path: str, size: int) -> None:
            left.pop(path, None)
            counter.add(size)

        try:
            self._receive(command, names, lambda stream: archive.unpack(stream, dict(left), into, arrived))
        except BrokenError:
            self.session.close()
            return
        if len(left) == before:
            raise TransferError("nothing arrived", where=next(iter(left)))

    def _receive(self, command: str, stdin: bytes, take: Callable[[Readable], None]) -> None:
        """Run a command and give its output to `take` as a stream. Raises BrokenError."""
        import paramiko

        channel = self.session.channel()
        try:
            channel.settimeout(_HOUR_S)
            channel.exec_command(f"exec sh -c {shlex.quote(command)}")
            _feed(channel, io.BytesIO(stdin))
            channel.shutdown_write()
            take(channel.makefile("rb", _BLOCK))
        except TransferError as error:
            if self._alive():
                raise
            raise BrokenError(str(error)) from error
        except (OSError, EOFError, paramiko.SSHException) as error:
            raise BrokenError(str(error) or type(error).__name__) from error
        finally:
            _close(channel)

    def _get_large(self, root: str, path: str, digest: str, into: Path, counter: Counter) -> None:
        target = into / path
        target.parent.mkdir(parents=True, exist_ok=True)
        part = target.with_name(f".{target.name}.{digest[:16]}.part")

        def fetch() -> tuple[int, bytes]:
            start = part.stat().st_size if part.exists() else 0
            with open(part, "ab") as file:

                def keep(block: bytes) -> None:
                    file.write(block)
                    counter.add(len(block))

                command = f"cd {self._quoted(root)} && tail -c +{start + 1} -- {shlex.quote(path)}"
                return self._stream(command, _HOUR_S, None, keep)

        self._again(fetch)
        if local_digest(part) != digest:
            part.unlink()
            raise TransferError("changed while it was fetched", where=path)
        os.replace(part, target)

    def remove(self, root: str) -> None:
        if self.removes_in_background:
            self.check(f"nohup rm -rf -- {self._quoted(root)} >/dev/null 2>&1 &")
            return
        try:
            self.check(f"rm -rf -- {self._quoted(root)}", timeout_s=_HOUR_S)
        except CommandFailedError:
            # Files of a network file system that are still open somewhere come back as .nfs*; a second time they are gone.
            self.check(f"sleep 2; rm -rf -- {self._quoted(root)}", timeout_s=_HOUR_S)

    def close(self) -> None:
        self.session.close()


def _feed(channel: paramiko.Channel, stdin: Readable) -> None:
    while block := stdin.read(_BLOCK):
        channel.sendall(block)


def _close(channel: paramiko.Channel) -> None:
    """Also over a connection that is gone."""
    with suppress(OSError, EOFError):
        channel.close()


def _zeroed(names: Iterable[str]) -> bytes:
    """Names for `xargs -0` and tar: a command line would be too short for thousands of them."""
    return b"".join(os.fsencode(name) + b"\0" for name in names)


def _temporary(path: str) -> str:
    folder, name = posixpath.split(path)
    return f"{folder}/.{name}.{os.getpid()}.new"
