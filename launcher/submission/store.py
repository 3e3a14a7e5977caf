"""The submissions of this user: a folder for each below `~/.pilotfish/submissions` (or PILOTFISH_HOME), mode 0700.

`submission.json` has what was submitted, without secrets; `journal` what happened. DPDispatcher's `<hash>.json` on the machine
is written from the same.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from ...pilot.files import write_atomically
from ...pilot.model.errors import JournalError, UsageError
from ..description.submission import SubmissionDescription, parse_submission, submission_to_dict


class UnknownSubmissionError(UsageError):
    """No submission, or more than one, has an id that begins so."""

    code = "unknown-submission"


@dataclass(frozen=True)
class Record:
    """One submission as it was written down.

    Attributes:
        hash: its id.
        folder: where its record and journal are.
        local_work: absolute folder of the tasks here.
        created_s: seconds since the epoch.
    """

    hash: str
    folder: Path
    description: SubmissionDescription
    local_work: Path
    root: str
    created_s: float

    @property
    def journal(self) -> Path:
        return self.folder / "journal"


def home(environ: Mapping[str, str] = os.environ) -> Path:
    return Path(environ.get("PILOTFISH_HOME") or Path.home() / ".pilotfish") / "submissions"


def save(record: Record) -> None:
    """Write the record, whole or not at all."""
    record.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    written = {
        "version": 1,
        "hash": record.hash,
        "local_work": str(record.local_work),
        "root": record.root,
        "created_s": record.created_s,
        "submission": submission_to_dict(record.description),
    }
    target = record.folder / "submission.json"
    write_atomically(target, json.dumps(written, indent=1).encode(), fsync=True)


def load(name: str) -> Record:
    """The record of a submission. Raises JournalError when it cannot be read."""
    folder = home() / name
    path = folder / "submission.json"
    try:
        found = json.loads(path.read_text())
        description = parse_submission(found["submission"])
    except (OSError, ValueError, KeyError) as error:
        raise JournalError(f"cannot be read: {error}", where=str(path)) from error
    return Record(
        found["hash"], folder, description, Path(found["local_work"]), found["root"], float(found["created_s"])
    )


def root_of(name: str) -> str | None:
    """Its folder on the machine; None without a record. Raises JournalError when the record cannot be read."""
    return load(name).root if (home() / name / "submission.json").exists() else None


_SUCCESSOR = "taken_over_by"
NOBODY = "-"
"""Instead of a successor: all has ended as part of one that is over."""


def successor(name: str) -> str | None:
    """The submission of which this one has become a part (takeover.py); None when it is one of its own."""
    try:
        found, _, token = (home() / name / _SUCCESSOR).read_text().partition(" ")
        # Whoever wrote it may have died before it was true.
        return found if token and token.encode() in (home() / found / "journal").read_bytes() else None
    except OSError:
        return None


def set_successor(record: Record, name: str | None, token: str = "") -> None:
    """On disk when this returns. It counts while `token` is in the journal of that submission."""
    path = record.folder / _SUCCESSOR
    if name is None:
        path.unlink(missing_ok=True)
        return
    write_atomically(path, f"{name} {token}".rstrip().encode(), fsync=True)


def taken_over_by(name: str) -> list[str]:
    """Ids of the submissions that have become part of this one."""
    folders = home().iterdir() if home().is_dir() else ()
    return [each.name for each in folders if successor(each.name) == name]


def _is_listed(folder: Path) -> bool:
    if not (folder / "submission.json").exists():
        return False
    try:
        return (folder / _SUCCESSOR).read_text() != NOBODY and successor(folder.name) is None
    except OSError:
        return True


def names() -> list[str]:
    """Ids of all submissions, newest first, without those that have become part of another."""
    folders = [each for each in home().iterdir() if _is_listed(each)] if home().is_dir() else []
    return [
        each.name for each in sorted(folders, key=lambda each: (each / "submission.json").stat().st_mtime, reverse=True)
    ]


def find(beginning: str) -> Record:
    """The one submission whose id begins so; `last` is the newest. Raises UnknownSubmissionError."""
    known = names()
    found = known[:1] if beginning == "last" else [name for name in known if name.startswith(beginning)]
    if not found and (moved := _moved(beginning)):
        what = f"submission {moved[0][:10]} has become part of {moved[1][:10]}"
        raise UnknownSubmissionError(what, remedy=f"name {moved[1][:10]}")
    if beginning == "last" and not found:
        remedy = "the record of one whose results are all here is removed, unless it ran with `--clean never`"
        raise UnknownSubmissionError("no submission is recorded here", remedy=remedy)
    if len(found) != 1:
        what = f"{len(found) or 'no'} submissions begin with {beginning!r}"
        raise UnknownSubmissionError(what, remedy="`pilotfish submissions` lists them")
    return load(found[0])


def _moved(beginning: str) -> tuple[str, str] | None:
    """(id, its successor) of a submission that begins so and has become part of another."""
    folders = home().iterdir() if home().is_dir() else ()
    found = [(each.name, successor(each.name)) for each in folders if each.name.startswith(beginning)]
    return next(((name, after) for name, after in found if after is not None), None)


def all_records() -> Iterator[Record]:
    return (load(name) for name in names())


def remove_unneeded(copies: Iterable[Path]) -> None:
    """Remove those of these files, which we have put beside the tasks, that no recorded submission sends."""
    for copy in copies:
        if not any(_sends(name, copy) for name in names()):
            copy.unlink(missing_ok=True)


def _sends(name: str, file: Path) -> bool:
    try:
        record = load(name)
    except JournalError:
        return True  # who knows
    folders = [os.path.realpath(folder) for folder in (record.local_work, file.parent)]
    return file.name in record.description.forward_common_files and folders[0] == folders[1]


def forget(record: Record) -> None:
    shutil.rmtree(record.folder, ignore_errors=True)
