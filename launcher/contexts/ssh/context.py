"""A machine over SSH: what goes there and comes back, as one stream whatever it is.

Files that have arrived are recognised by their content, also after a cut; large ones go on where they stopped. Much goes by
rsync where both ends have it (and `rsync: false` is not said), else as one archive.
"""

from __future__ import annotations

import hashlib
import os
import posixpath
import re
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from .. import archive
from ..base import NOTHING, LocalFile, Transfer, TransferError, Watch
from ..globs import digest as local_digest
from ..landing import Landing, NotWrittenError, open_folder, write_all, written
from ..paths import below
from ..shell import relative, sh, word
from . import rsync
from .commands import HOUR_S, REASONS, Commands, zeroed
from .session import BrokenError
from .streams import Counted, Counter, Packed

_STAT = re.compile(r"([0-7]{1,4}) (-?\d{1,18})")
_LAST_OF_LARGE = """\
[ "$(sha256sum <{part} | cut -d' ' -f1)" = {digest} ] || { rm -f -- {part}; exit 1; }
touch -d @{seconds} -- {part}
chmod {mode} {part} && mv -f -- {part} {target}"""
_TRIES_OF_CHANGING = 2
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
        made = self.run(sh("xargs -0 mkdir -p --"), stdin=names, timeout_s=HOUR_S)
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
        command = self._in(root, sh("tar -xzf -") if self._compress else sh("tar -xf -"))
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
        folder, mark = posixpath.dirname(file.path), hashlib.sha256(os.fsencode(file.path)).hexdigest()[:16]
        part = relative(
            posixpath.join(folder, f".{mark}.{file.digest[:16]}.part")
        )  # its own name may leave no room for more
        if folder:
            self.check(sh("mkdir -p -- {folder}", folder=relative(folder)), cwd=root)
        begin = sent.done

        def send() -> tuple[int, bytes]:
            there = self.run(sh("wc -c <{part} 2>/dev/null || echo 0", part=part), cwd=root).out.strip()
            size = int(there) if there.isdigit() else 0
            with open(file.source, "rb") as content:
                content.seek(size)
                sent.is_at(begin + size)
                command = self._in(root, sh("cat >>{part}", part=part))
                return self._stream(command, HOUR_S, Counted(content, sent), lambda block: None)

        code, err = self._again(send)
        if code:
            what = f"cannot write: {err.decode(errors='replace').strip()}"
            raise TransferError(what, where=file.path, remedy=self._room(root))
        last = sh(
            _LAST_OF_LARGE,
            part=part,
            digest=word(file.digest),
            mode=word(f"{file.mode:o}"),
            seconds=int(file.source.stat().st_mtime),
            target=relative(file.path),
        )
        done = self.run(last, cwd=root, timeout_s=HOUR_S)
        if done.code:
            raise TransferError("was damaged on the way, or changed meanwhile", where=file.path)

    def get(
        self,
        root: str,
        paths: Sequence[str],
        into: Path,
        watch: Watch | None = None,
        *,
        partly: bool = False,
        untouched: Mapping[str, str] = NOTHING,
    ) -> Transfer:
        wanted = [below(path, "a path to fetch") for path in paths]
        landing = Landing(into, wanted)
        asked = _Asked(self._digests(root, wanted))
        lost = self._why_lost(root, (path for path in wanted if path not in asked.left))
        same = tuple(path for path, digest in asked.left.items() if _is_same(into / path, digest))
        lost |= {path: why for path, why in untouched.items() if path in asked.left and path not in same}
        if lost and not partly:
            path, why = next(iter(lost.items()))
            raise TransferError(why, where=path)
        asked.left = {path: digest for path, digest in asked.left.items() if path not in same and path not in lost}
        moved = tuple(asked.left)
        counter = Counter(watch, 0)
        folders = {posixpath.dirname(path) or "." for path in moved}
        if moved:
            asked.sizes = {file.path: file.size for file in self.list_files(root, folders)}
        counter.whole = sum(asked.sizes.get(path, 0) for path in moved)
        travelled = 0
        with landing:
            if counter.whole >= rsync.FROM_BYTES and self._by_rsync():
                travelled = self._get_by_rsync(root, asked, landing, counter)
            travelled += sum(asked.sizes.get(path, 0) for path in asked.left)
            for path in [path for path in asked.left if asked.sizes.get(path, 0) > self._large]:
                self._get_large(root, path, asked, landing, counter)
            while asked.left:
                self._get_some(root, asked, landing, counter)
            lost |= self._once_more(root, asked, landing, counter)
        for error in [*asked.problems.values(), *(TransferError(why, where=path) for path, why in lost.items())]:
            if isinstance(error, NotWrittenError) or not partly:
                raise error
        return Transfer(tuple(path for path in moved if path not in lost), same, travelled, lost)

    def _once_more(self, root: str, asked: _Asked, landing: Landing, counter: Counter) -> dict[str, str]:
        """Try again what has changed meanwhile, as it is now; what did not come in spite of it, with the reason."""
        for _ in range(_TRIES_OF_CHANGING):
            again = [path for path, error in asked.problems.items() if not isinstance(error, NotWrittenError)]
            asked.left = self._digests(root, again) if again else {}
            asked.sizes = {}
            for path in asked.left:
                del asked.problems[path]
            while asked.left:
                self._get_some(root, asked, landing, counter)
        lost = {path: error.what for path, error in asked.problems.items() if not isinstance(error, NotWrittenError)}
        return lost | {path: why for path, why in self._why_lost(root, lost).items() if why != REASONS["lost"]}

    def _get_some(self, root: str, asked: _Asked, landing: Landing, counter: Counter) -> None:
        """Fetch files as one archive; after a broken connection some are left."""
        names = zeroed(f"./{path}" for path in asked.left)
        options = sh("-chSzf") if self._compress else sh("-chSf")
        command = sh("tar --null -T - --hard-dereference {options} - 2>/dev/null", options=options)
        before = len(asked.left)

        def arrived(path: str, size: int) -> None:
            del asked.left[path]
            counter.add(size)

        try:
            self._receive(
                self._in(root, command),
                names,
                lambda stream: archive.unpack(stream, dict(asked.left), landing, arrived, asked.failed, asked.sizes),
            )
        except BrokenError:
            self.session.close()
            return
        if len(asked.left) == before and not asked.problems:
            raise TransferError("nothing arrived", where=next(iter(asked.left)))
        for path in list(asked.left):
            asked.failed(path, TransferError(REASONS["lost"], where=path))

    def _get_large(self, root: str, path: str, asked: _Asked, landing: Landing, counter: Counter) -> None:
        try:
            self._get_in_one(root, path, asked.left[path], landing, counter)
        except TransferError as error:
            asked.failed(path, error)
        else:
            del asked.left[path]

    def _get_in_one(self, root: str, path: str, digest: str, landing: Landing, counter: Counter) -> None:
        """Fetch one file in a piece; after a cut the rest of it."""
        target = landing.into / path
        with written(target):
            landing.make_folder(path)
        mark = hashlib.sha256(os.fsencode(target.name)).hexdigest()[:16]  # its own name may leave no room for more
        part = target.with_name(f".{mark}.{digest[:16]}.part")
        begin = counter.done

        def fetch() -> tuple[int, bytes]:
            start = part.stat().st_size if part.exists() else 0
            counter.is_at(begin + start)
            with written(target):
                file = open(part, "ab", buffering=0, opener=lambda at, flags: os.open(at, flags | os.O_NOFOLLOW, 0o600))
            with file:

                def keep(block: bytes) -> None:
                    with written(target):
                        write_all(file, block)
                    counter.add(len(block))

                rest = sh("tail -c +{start} -- {file}", start=start + 1, file=relative(path))
                return self._stream(self._in(root, rest), HOUR_S, None, keep)

        self._again(fetch)
        if local_digest(part) != digest:
            part.unlink()
            raise TransferError("changed while it was fetched", where=path)
        told = self.run(sh("stat -Lc '%a %Y' -- {file}", file=relative(path)), cwd=root).out.strip()
        found = _STAT.fullmatch(told)
        landing.move(part, path, int(found[1], 8) if found else 0o644, float(found[2]) if found else None)

    # --- rsync ----------------------------------------------------------------------------------------------------------

    def _by_rsync(self) -> bool:
        if self._has_rsync is None:
            self._has_rsync = rsync.is_here() and rsync.usable(self.run(sh("rsync --version 2>/dev/null; true")).out)
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
            travelled = self._try_rsync(lambda: self._rsync.send(self._place(root), source, paths, sent))
        there = self._digests(root, paths)
        left = [file for file in files if there.get(file.path) != file.digest]
        parts = {posixpath.join(posixpath.dirname(file.path), rsync.PARTIAL) for file in left}
        if parts:
            self.run(
                sh("xargs -0 -r rm -rf --"), cwd=root, stdin=zeroed(f"./{part}" for part in parts), timeout_s=HOUR_S
            )
        return left, travelled

    def _get_by_rsync(self, root: str, asked: _Asked, landing: Landing, counter: Counter) -> int:
        """Fetch what is asked for; the bytes that travelled. What has not arrived is left, or has a problem."""
        paths = list(asked.left)
        into = landing.into
        waiting = into / f".{hashlib.sha256(root.encode()).hexdigest()[:16]}.rsync"
        with written(waiting):
            os.close(open_folder(f"{os.path.realpath(into)}/{waiting.name}"))
        travelled = self._try_rsync(lambda: self._rsync.fetch(self._place(root), paths, waiting, into, counter))
        for path in paths:
            try:
                if rsync.take(waiting, path, landing, asked.left[path]):
                    del asked.left[path]
            except TransferError as error:
                asked.failed(path, error)
        shutil.rmtree(waiting, ignore_errors=True)
        return travelled


class _Asked:
    """Files to be fetched: their digests in `left` until they have come, or have failed with one of the `problems`."""

    def __init__(self, digests: dict[str, str]) -> None:
        self.left = digests
        self.sizes: dict[str, int] = {}
        self.problems: dict[str, TransferError] = {}

    def failed(self, path: str, error: TransferError) -> None:
        self.left.pop(path, None)
        self.problems[path] = error


def _is_same(here: Path, digest: str) -> bool:
    try:
        return here.is_file() and local_digest(here) == digest
    except OSError:  # what cannot be read is replaced
        return False
