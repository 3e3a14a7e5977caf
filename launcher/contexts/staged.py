"""Machines whose jobs run where no command of ours does: in a container of YARN, on a node of a cloud.

A submission has a folder here that stands for the one on the machine: scripts, inputs (as links), records and results lie in it
as they would there, and everything that works on a submission's folder works on this one. Its batch system takes from it what
a job needs, in one archive, and puts what comes back into it when the job has ended.

What was handed over is written down before: the record of an attempt (`SentJob`) lies in that folder, and a list of all of
them in `sent/` beside, so that a later launcher finds by a job's id where its results belong.

Rejected: a context without commands. Half of what is done with a submission would need a second way to be done.
"""

from __future__ import annotations

import json
import os
import posixpath
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from ...pilot.files import write_atomically
from . import globs
from .base import LocalFile, RemoteFile, Transfer, Watch
from .local import LocalContext

_NAME = re.compile(r"[0-9a-f]{40}\.\d+")


def home() -> Path:
    """Folder of all that is staged."""
    return Path(os.environ.get("PILOTFISH_HOME") or Path.home() / ".pilotfish") / "staged"


@dataclass
class SentJob:
    """One attempt of a job on its way to a service and back.

    Attributes:
        job, attempt: which.
        root: the folder here that stands for the job's.
        wanted: patterns below the root of what shall come back.
        tasks: folders of the tasks by their hashes.
        limit_s: the time limit that its command was given.
        key: where its archive lies at the service.
        parts: marks of the parts of it that have arrived, by number; `upload` is what the service calls this transfer.
        uploaded: all of it has.
        asked_s: when the service was asked last to take the job; None: it was not.
        ticket: what else the service has said that is needed to go on.
        id: the job's id there.
        returned: what it has made is here.
    """

    job: str
    attempt: int
    root: str
    wanted: list[str] = field(default_factory=list)
    tasks: dict[str, str] = field(default_factory=dict)
    limit_s: float | None = None
    key: str = ""
    upload: str = ""
    parts: dict[str, str] = field(default_factory=dict)
    uploaded: bool = False
    asked_s: float | None = None
    ticket: dict[str, Any] = field(default_factory=dict)
    id: str = ""
    returned: bool = False

    @property
    def name(self) -> str:
        return f"{self.job}.{self.attempt}"

    def path(self, end: str) -> Path:
        """A file of this attempt in the job's folder."""
        return Path(self.root, f".{self.name}.{end}")

    def save(self) -> None:
        write_atomically(self.path("sent"), json.dumps(asdict(self)).encode(), fsync=True)


def _read(path: Path) -> SentJob | None:
    """None for what is not there, or cannot be read."""
    try:
        found = json.loads(path.read_text())
        return SentJob(**{each.name: found[each.name] for each in fields(SentJob)})
    except (OSError, ValueError, KeyError, TypeError):
        return None


class StagedContext(LocalContext):
    """What all of these have. The places of submissions are below `~/.pilotfish/staged` (or PILOTFISH_HOME)."""

    local = False
    staged = True

    def __init__(self, local_root: Path, remote_root: str | None, profile: Mapping[str, Any]) -> None:
        folder = home() / self.kind.removesuffix("Context").lower()
        super().__init__(local_root, str(folder), {"symlink": True})
        self.profile = profile
        self.service_root = remote_root
        self._list = folder / "sent"
        self._known: dict[str, SentJob] = {}

    def root_for(self, name: str, work_base: str) -> str:
        return posixpath.join(str(self.remote_root), name)

    def _make_home(self) -> None:
        self._list.mkdir(parents=True, exist_ok=True, mode=0o700)

    def write(self, files: Mapping[str, bytes], mode: int = 0o600) -> None:
        """What is there already keeps its time: an archive of the same files is the same, and its transfer can go on."""
        self._make_home()
        there = self.read(list(files))
        super().write({path: content for path, content in files.items() if there.get(path) != content}, mode)

    def put(
        self, root: str, files: Sequence[LocalFile], folders: Iterable[str] = (), watch: Watch | None = None
    ) -> Transfer:
        self.check_profile()
        self._make_home()
        return super().put(root, files, folders, watch)

    def make_folder(self, folder: str) -> str:
        self._make_home()
        return super().make_folder(folder)

    def remove(self, root: str) -> None:
        roots, names = {root}, []
        for sent in self.all_sent():
            if os.path.realpath(sent.root) == os.path.realpath(root):
                roots.add(sent.root)  # it was sent when the folder had another name
                names.append(sent.name)
        for each in sorted(roots):
            self.discard(each)
        for name in names:
            (self._list / name).unlink(missing_ok=True)
        super().remove(root)

    def check_profile(self) -> None:
        """Raises DescriptionError when something is missing that every job needs; called before anything is begun."""

    def discard(self, root: str) -> None:
        """Remove what the service keeps for a submission, where it can be asked to."""

    # --- what was handed over -------------------------------------------------------------------------------------------

    def begin(self, sent: SentJob) -> None:
        """Write down that a job is about to be sent."""
        self._make_home()
        sent.save()
        write_atomically(self._list / sent.name, sent.root.encode())

    def begun(self, root: str, job: str, attempt: int) -> SentJob | None:
        """What is written down of an attempt."""
        return _read(Path(root, f".{job}.{attempt}.sent"))

    def keep_id(self, sent: SentJob, job_id: str) -> None:
        """Write down, where all others look for it, under which id the service has the job."""
        sent.id = job_id
        sent.ticket.pop("token", None)
        sent.save()
        for path in (sent.path("id"), Path(sent.root, f"{sent.job}_job_id")):
            write_atomically(path, job_id.encode())

    def sent(self, job_id: str) -> SentJob | None:
        """The job that has this id; None for one that nobody has handed over from here."""
        if job_id not in self._known:
            self._known = {name: each for each in self.all_sent() if (name := _id_of(each))}
        found = self._known.get(job_id)
        if found is not None and not found.returned:
            found = self._known[job_id] = self.begun(found.root, found.job, found.attempt) or found
        return found

    def beside(self, sent: SentJob) -> Iterator[SentJob]:
        """The other jobs of the same folder."""
        return (each for each in self.all_sent() if each.root == sent.root and each.name != sent.name)

    def all_sent(self) -> Iterator[SentJob]:
        with suppress(FileNotFoundError):
            for name in sorted(os.listdir(self._list)):
                if not _NAME.fullmatch(name):
                    continue
                with suppress(OSError):
                    root = (self._list / name).read_text()
                    job, _, attempt = name.partition(".")
                    found = self.begun(root, job, int(attempt))
                    if found is not None:
                        found.root = root  # it may have been moved
                        yield found

    # --- what a job needs -----------------------------------------------------------------------------------------------

    def needed(
        self, root: str, patterns: Iterable[tuple[Sequence[str], str]], always: Iterable[str]
    ) -> tuple[list[LocalFile], list[str]]:
        """(files, empty folders) there, of these patterns, each list below its own folder, and of the paths `always`."""
        listing = self.list_files(root, {"**"}, with_folders=True)
        known = {file.path: file for file in listing}
        chosen = {path for path in always if path in known}
        for names, folder in patterns:
            chosen.update(globs.backward(names, folder, listing)[0])
        files = [_local_file(root, known[path]) for path in sorted(chosen) if not known[path].folder]
        return files, [path for path in sorted(chosen) if known[path].folder]


def _local_file(root: str, file: RemoteFile) -> LocalFile:
    source = Path(root, file.path)
    return LocalFile(source, file.path, "", file.size, source.stat().st_mode & 0o777)


def _id_of(sent: SentJob) -> str:
    """Also of one whose launcher was killed before it wrote the id down here; the submitting shell has done so."""
    with suppress(OSError):
        return sent.id or sent.path("id").read_text().strip()
    return sent.id
