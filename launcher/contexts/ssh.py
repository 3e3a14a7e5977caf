"""A machine over SSH: what goes there and comes back, as one stream whatever it is.

Files that have arrived are recognised by their content, also after a cut; large ones go on where they stopped. Much goes by
rsync where both ends have it (and `rsync: false` is not said), else as one archive.
"""

from __future__ import annotations

import hashlib
import os
import posixpath
import shlex
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..staging import digest as local_digest
from . import archive, rsync
from .base import LocalFile, Transfer, TransferError, Watch
from .ssh_commands import HOUR_S, Commands, zeroed
from .ssh_session import BrokenError
from .streams import Counted, Counter, Packed

_LARGE = 64 << 20
"""Files above this many bytes travel alone and can be continued."""


class SSHContext(Commands):
    """Below `remote_root` on another host. `~` and relative paths there mean the home folder."""

    kind = "SSHContext"

    def __init__(self, local_root: Path, remote_root: str | None, profile: Mapping[str, Any]) -> None:
        super().__init__(local_root, remote_root, profile)
        self._compress = bool(profile.get("tar_compress", True))
        self._large = int(profile.get("archive_chunk_size") or 0) or _LARGE
        self._has_rsync: bool | None = None if profile.get("rsync", True) else False
        self._rsync = rsync.Rsync(self._started, self._alive, self._compress)

    def put(
        self, root: str, files: Sequence[LocalFile], folders: Iterable[str] = (), watch: Watch | None = None
    ) -> Transfer:
        names = zeroed(f"{self.absolute(root)}/{folder}" for folder in ["", *folders])
        made = self.run("xargs -0 mkdir -p --", stdin=names, timeout_s=HOUR_S)
        if made.code:
            raise TransferError(f"cannot make folders: {made.err.strip()[-500:]}", where=root)
        there = self._digests(root, [file.path for file in files]) if files else {}
        wanted = [file for file in files if there.get(file.path) != file.digest]
        whole = sum(file.size for file in wanted)
        sent = Counter(watch, whole)
        left, travelled = wanted, 0
        if whole >= rsync.FROM_BYTES and self._by_rsync():
            left, travelled = self._put_by_rsync(root, wanted, sent)
        travelled += sum(file.size for file in left)
        for file in (each for each in left if each.size > self._large):
            self._put_large(root, file, sent)
        small = [file for file in left if file.size <= self._large]
        while small:
            small = self._put_some(root, small, sent)
        moved = {file.path: None for file in wanted}
        return Transfer(tuple(moved), tuple(file.path for file in files if file.path not in moved), travelled)

    def _put_some(self, root: str, files: list[LocalFile], sent: Counter) -> list[LocalFile]:
        """Send small files as one archive; those that are still to be sent after the connection broke."""
        command = f"cd {self._quoted(root)} && tar -x{'z' if self._compress else ''}f -"
        packed = Packed(files, self._compress, sent)
        try:
            code, err = self._stream(command, HOUR_S, packed, lambda block: None)
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
                return self._stream(command, HOUR_S, Counted(content, sent), lambda block: None)

        code, err = self._again(send)
        if code:
            what = f"cannot write: {err.decode(errors='replace').strip()}"
            raise TransferError(what, where=file.path, remedy=self._room(root))
        check = f"[ \"$(sha256sum <{part} | cut -d' ' -f1)\" = {file.digest} ] || {{ rm -f {part}; exit 1; }}"
        done = self.run(f"{check}\nchmod {file.mode:o} {part} && mv -f {part} {target}", cwd=root, timeout_s=HOUR_S)
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
        travelled = 0
        if counter.whole >= rsync.FROM_BYTES and self._by_rsync():
            travelled = self._get_by_rsync(root, left, into, counter)
        travelled += sum(sizes.get(path, 0) for path in left)
        for path in [path for path in left if sizes.get(path, 0) > self._large]:
            self._get_large(root, path, left.pop(path), into, counter)
        while left:
            self._get_some(root, left, into, counter)
        return Transfer(moved, tuple(same), travelled)

    def _get_some(self, root: str, left: dict[str, str], into: Path, counter: Counter) -> None:
        """Fetch files as one archive; what has arrived is taken out of `left`, also when the connection breaks."""
        before = len(left)
        names = zeroed(f"./{path}" for path in left)
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

    def _get_large(self, root: str, path: str, digest: str, into: Path, counter: Counter) -> None:
        target = into / path
        with archive.written(target):
            target.parent.mkdir(parents=True, exist_ok=True)
        part = target.with_name(f".{target.name}.{digest[:16]}.part")

        def fetch() -> tuple[int, bytes]:
            start = part.stat().st_size if part.exists() else 0
            with archive.written(target):
                file = open(part, "ab", buffering=0)
            with file:

                def keep(block: bytes) -> None:
                    with archive.written(target):
                        archive.write_all(file, block)
                    counter.add(len(block))

                command = f"cd {self._quoted(root)} && tail -c +{start + 1} -- {shlex.quote(path)}"
                return self._stream(command, HOUR_S, None, keep)

        self._again(fetch)
        if local_digest(part) != digest:
            part.unlink()
            raise TransferError("changed while it was fetched", where=path)
        os.replace(part, target)

    # --- rsync ----------------------------------------------------------------------------------------------------------

    def _by_rsync(self) -> bool:
        if self._has_rsync is None:
            self._has_rsync = rsync.is_here() and rsync.usable(self.run("rsync --version 2>/dev/null; true").out)
        return self._has_rsync

    def _try_rsync(self, action: Callable[[], None]) -> int:
        """Do it until it is done; the bytes that travelled. Where rsync does not work that is told, and it is left off."""
        before = self._rsync.travelled_bytes
        try:
            self._again(action)
        except rsync.FailedError as error:
            self._has_rsync = False
            self.tell(f"{error.what}; files go as an archive instead")
        return self._rsync.travelled_bytes - before

    def _put_by_rsync(self, root: str, files: list[LocalFile], sent: Counter) -> tuple[list[LocalFile], int]:
        """(what has not arrived, bytes that travelled)."""
        paths = [file.path for file in files]
        with rsync.laid_out(files) as source:
            travelled = self._try_rsync(lambda: self._rsync.send(self._quoted(root), source, paths, sent))
        there = self._digests(root, paths)
        left = [file for file in files if there.get(file.path) != file.digest]
        parts = {posixpath.join(posixpath.dirname(file.path), rsync.PARTIAL) for file in left}
        if parts:
            self.run("xargs -0 -r rm -rf --", cwd=root, stdin=zeroed(f"./{part}" for part in parts), timeout_s=HOUR_S)
        return left, travelled

    def _get_by_rsync(self, root: str, left: dict[str, str], into: Path, counter: Counter) -> int:
        """Fetch what is in `left`, and take out of it what has arrived; the bytes that travelled."""
        paths = list(left)
        waiting = into / f".{hashlib.sha256(root.encode()).hexdigest()[:16]}.rsync"
        travelled = self._try_rsync(lambda: self._rsync.fetch(self._quoted(root), paths, waiting, into, counter))
        for path in paths:
            if rsync.take(waiting / path, into / path, left[path]):
                del left[path]
        shutil.rmtree(waiting, ignore_errors=True)
        return travelled
