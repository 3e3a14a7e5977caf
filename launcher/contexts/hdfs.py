"""Hadoop's file system by `hadoop fs`, from this machine: an archive goes in, archives come back.

Whole or not at all is what `-put` and `-copyFromLocal` do by themselves: they write under another name first.
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterator
from pathlib import Path

from ...pilot.model.errors import PilotfishError, TransientError
from ..description.schema import DescriptionError
from .base import CommandFailedError, Done, Finding, TransferError
from .shell import Text, place, sh, word
from .staged import SentJob, StagedContext

_PATIENCE_S = 600.0
_GONE = ("no such file or directory", "filenotfoundexception", "does not exist")
"""What Hadoop says of a path that is not there."""


class HDFSContext(StagedContext):
    """`remote_root` is a folder there: a path, or `hdfs://HOST:PORT/PATH`."""

    kind = "HDFSContext"

    def service_folder(self, root: str) -> str:
        """The folder there of the submission whose folder here this is. Raises DescriptionError."""
        folder = (self.service_root or "").rstrip("/")
        if not folder or folder.startswith("-") or any(sign in folder for sign in "\n*?[]{}"):
            what = f"{self.service_root!r} is no folder of HDFS"
            raise DescriptionError(what, where="machine.remote_root", remedy="write /PATH or hdfs://HOST:PORT/PATH")
        return f"{folder}/{posixpath.basename(root.rstrip('/'))}"

    def check_profile(self) -> None:
        self.service_folder("/submission")

    def hadoop(self, command: Text) -> Done:
        """Run `hadoop fs` with these words. Raises TransientError."""
        return self.run(sh("hadoop fs {command}", command=command), timeout_s=_PATIENCE_S)

    def upload(self, sent: SentJob, archive: Path) -> None:
        """Bring an archive into the submission's folder there. Raises TransferError."""
        folder = posixpath.dirname(sent.key)
        done = self.hadoop(sh("-mkdir -p {folder}", folder=word(folder)))
        if not done.code:
            words = sh("-copyFromLocal -f {file} {to}", file=place(str(archive)), to=word(sent.key))
            done = self.hadoop(words)
        if done.code:
            raise TransferError(f"cannot be brought to HDFS: {_words(done)}", where=sent.key)

    def download(self, path: str, target: Path) -> bool:
        """Bring a file from there; False when there is none. Raises TransferError."""
        target.unlink(missing_ok=True)
        done = self.hadoop(sh("-copyToLocal {path} {to}", path=word(path), to=place(str(target))))
        if done.code and any(words in (done.out + done.err).lower() for words in _GONE):
            return False
        if done.code or not target.is_file():
            raise TransferError(f"cannot be brought from HDFS: {_words(done)}", where=path)
        return True

    def discard(self, root: str) -> None:
        folder = self.service_folder(root)
        done = self.hadoop(sh("-rm -r -f -skipTrash {folder}", folder=word(folder)))
        if done.code and not any(words in (done.out + done.err).lower() for words in _GONE):
            raise CommandFailedError(f"ended with code {done.code}: {_words(done)}", where=f"hadoop fs -rm {folder}")

    def examine(self) -> Iterator[Finding]:
        try:
            folder = posixpath.dirname(self.service_folder("/doctor"))
            done = self.hadoop(sh("-mkdir -p {folder}", folder=word(folder)))
        except (PilotfishError, TransientError) as error:
            yield Finding("connection", False, error.what, error.remedy or "is Hadoop's client set up here?")
            return
        words = _words(done)
        yield Finding("connection", not done.code, f"{folder} is there" if not done.code else words, "see remote_root")


def _words(done: Done) -> str:
    return (done.err.strip() or done.out.strip())[-500:] or f"code {done.code}"
