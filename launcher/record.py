"""The submissions of this user: a folder for each below `~/.pilotfish/submissions` (or PILOTFISH_HOME), mode 0700.

`submission.json` has what was submitted, without secrets; `journal` what happened. DPDispatcher's `<hash>.json` on the machine
is written from the same.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..pilot.model.errors import JournalError, UsageError
from .description import (
    SubmissionDescription,
    machine_to_dict,
    parse_submission,
    pilot_to_dict,
    resources_to_dict,
    task_to_dict,
)


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


def to_dict(description: SubmissionDescription) -> dict[str, Any]:
    """The submission as a file of DPDispatcher's form, without secrets."""
    written: dict[str, Any] = {
        "work_base": description.work_base,
        "machine": machine_to_dict(description.machine),
        "resources": resources_to_dict(description.resources),
        "forward_common_files": list(description.forward_common_files),
        "backward_common_files": list(description.backward_common_files),
        "continue_on_failure": description.continue_on_failure,
        "task_list": [task_to_dict(task) for task in description.tasks],
    }
    if description.pilot is not None:
        written["pilot"] = pilot_to_dict(description.pilot)
    return written


def save(record: Record) -> None:
    """Write the record, whole or not at all."""
    record.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    written = {
        "version": 1,
        "hash": record.hash,
        "local_work": str(record.local_work),
        "root": record.root,
        "created_s": record.created_s,
        "submission": to_dict(record.description),
    }
    target = record.folder / "submission.json"
    temporary = record.folder / f".submission.json.{os.getpid()}"
    with open(temporary, "w", opener=lambda path, flags: os.open(path, flags, 0o600)) as file:
        json.dump(written, file, indent=1)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, target)


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


def names() -> list[str]:
    """Ids of all submissions, newest first."""
    folders = [each for each in home().iterdir() if (each / "submission.json").exists()] if home().is_dir() else []
    return [
        each.name for each in sorted(folders, key=lambda each: (each / "submission.json").stat().st_mtime, reverse=True)
    ]


def find(beginning: str) -> Record:
    """The one submission whose id begins so; `last` is the newest. Raises UnknownSubmissionError."""
    known = names()
    found = known[:1] if beginning == "last" else [name for name in known if name.startswith(beginning)]
    if len(found) != 1:
        what = f"{len(found) or 'no'} submissions begin with {beginning!r}"
        raise UnknownSubmissionError(what, remedy="`pilotfish submissions` lists them")
    return load(found[0])


def all_records() -> Iterator[Record]:
    return (load(name) for name in names())


def forget(record: Record) -> None:
    shutil.rmtree(record.folder, ignore_errors=True)
