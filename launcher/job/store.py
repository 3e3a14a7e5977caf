"""The batch jobs of this user: one file for each below `~/.pilotfish/batch-jobs` (or PILOTFISH_HOME), mode 0600.

What a record is, and who may change it: `single.py`.
"""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from pathlib import Path

from ...pilot.files import open_private
from ...pilot.locks import held
from ...pilot.model.errors import JournalError, UsageError
from ..description.schema import DescriptionError
from .single import JobRecord, from_dict, to_dict

VERSION = 1
Step = Callable[[JobRecord], JobRecord]
"""From what is on disk to what shall be there."""


class UnknownBatchJobError(UsageError):
    """No batch job, or more than one, has an id or a hash that begins so."""

    code = "unknown-batch-job"


def home(environ: Mapping[str, str] = os.environ) -> Path:
    return Path(environ.get("PILOTFISH_HOME") or Path.home() / ".pilotfish") / "batch-jobs"


def create(record: JobRecord, step: Step = lambda record: record) -> JobRecord:
    """Take a step with a record that may be new, and write it; where it is on disk already, from what is there."""
    with _locked():
        changed = step(_stored(record) or record)
        _write([changed])
        return changed


def change(record: JobRecord, step: Step) -> JobRecord:
    """Take a step from what is on disk; gives what is there now. A record that was removed is not written again."""
    return change_all([(record, step)])[0]


def change_all(steps: Sequence[tuple[JobRecord, Step]]) -> list[JobRecord]:
    """As `change`, for many."""
    if not steps:
        return []
    with _locked():
        stored = [_stored(record) for record, _ in steps]
        done = [step(known or record) for known, (record, step) in zip(stored, steps, strict=True)]
        _write([now for known, now in zip(stored, done, strict=True) if known is not None and now != known])
    return done


def current(record: JobRecord) -> JobRecord:
    """What is on disk of a job that somebody has a copy of; the copy when its record was removed."""
    return _stored(record) or record


def load(name: str) -> JobRecord:
    """Raises JournalError when it cannot be read."""
    path = home() / f"{name}.json"
    try:
        found = json.loads(path.read_text())
        if found["version"] != VERSION:
            raise ValueError(f"version {found['version']}")
        return from_dict(found["job"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError, DescriptionError) as error:
        remedy = "move the file away; how the job ended is also kept on its machine"
        raise JournalError(f"cannot be read: {error}", where=str(path), remedy=remedy) from error


def all_records() -> Iterator[JobRecord]:
    """Newest first; those that cannot be read are left out."""
    found = []
    for path in home().glob("*.json"):
        with suppress(JournalError):  # also one that was removed meanwhile
            found.append(load(path.stem))
    yield from sorted(found, key=lambda record: record.created_s, reverse=True)


def find(beginning: str) -> JobRecord:
    """The one job whose hash begins so, or whose id this is; `last` is the newest. Raises UnknownBatchJobError."""
    known = list(all_records())
    if beginning == "last":
        found = known[:1]
    else:
        found = [each for each in known if each.id == beginning] if beginning else []
        found = found or [each for each in known if beginning and each.hash.startswith(beginning)]
    if len(found) != 1:
        what = f"{len(found) or 'no'} batch jobs have an id or a hash like {beginning!r}"
        raise UnknownBatchJobError(what, remedy="`pilotfish job list` lists them")
    return found[0]


def forget(record: JobRecord) -> None:
    """Remove the record: nobody is shown the job any more."""
    with _locked():
        _path(record).unlink(missing_ok=True)


@contextmanager
def _locked() -> Iterator[None]:
    folder = home()
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        remedy = "set PILOTFISH_HOME to a folder that can be written"
        raise JournalError(f"cannot be made: {error.strerror}", where=str(folder), remedy=remedy) from error
    with held(folder / ".lock"):
        yield


def _stored(record: JobRecord) -> JobRecord | None:
    """With the secrets of the copy: the file has none. None for a file that cannot be read: there is the copy."""
    if not _path(record).exists():
        return None
    try:
        return replace(load(record.hash), machine=record.machine)
    except JournalError:
        return None


def _path(record: JobRecord) -> Path:
    return home() / f"{record.hash}.json"


def _write(records: Sequence[JobRecord]) -> None:
    """Each whole or not at all. All are written before the first is synced: together that takes hardly longer than for one."""
    with ExitStack() as stack:
        try:
            files = []
            for record in records:
                draft = _path(record).with_suffix(".new")
                files.append(stack.enter_context(open(draft, "w", opener=open_private)))
                json.dump({"version": VERSION, "job": to_dict(record)}, files[-1], indent=1)
                files[-1].flush()
            for file in files:
                os.fsync(file.fileno())
            for file, record in zip(files, records, strict=True):
                os.replace(file.name, _path(record))
        except OSError as error:
            remedy = "make room there, or set PILOTFISH_HOME to a folder that can be written"
            raise JournalError(f"cannot be written: {error.strerror}", where=str(home()), remedy=remedy) from error


def write_copy(path: Path, text: str) -> None:
    """Write a file of the user's that has a copy of a record in it, whole or not at all; several programs may do so at once."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(6)}")
    try:
        with open(temporary, "w", opener=open_private) as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
