"""Continuing a run of DPDispatcher, or of a launcher of ours with a lost record, from its `<hash>.json` on the machine.

Its jobs are known by their hashes, which are the same here. Jobs that live are watched under their ids; tasks that have their
tag are done; failures count. The old launcher must not run any more.
"""

from __future__ import annotations

import json
import os
import posixpath
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...pilot.model.errors import RefusedError
from ..contexts.base import Context
from ..contexts.paths import below
from ..contexts.shell import Text, joined, relative, relatives, sh, word, words
from ..description.schema import DescriptionError
from ..job.states import JobState, Reason
from . import store as record
from .batch_job import BatchJob, Phase
from .events import Ended, Event, Submitted
from .session import Site

_LIVING = frozenset({JobState.waiting, JobState.running, JobState.completing, JobState.unknown})

# One look at each submission's folder: there may be thousands of them.
_BELOW = """\
for d in */; do d=${d%/}; [ -f "./$d/$d.json" ] && grep -qF {jobs} -- "./$d/$d.json" && echo "$d/$d.json"; done; true"""
_HERE = 'for f in *.json; do [ -f "$f" ] && grep -qF {jobs} -- "$f" && echo "$f"; done; true'
_MOST_SOUGHT = 500
"""Jobs that are looked for in the records of others: a command line has its limits."""
_NAME = re.compile(r"(?:.*/)?[0-9a-f]{40}\.json")
_ATTEMPT = re.compile(r"\.([0-9a-f]{40})\.(\d+)(?:\.\d+)?\.(?:id|claim)")

# Ids of the Shell machine there are process ids, which come back after a while: is it still that job?
_PROCESS = """\
if tr '\\0' ' ' </proc/{pid}/cmdline 2>/dev/null | grep -qF {job}; then
  echo {job} {pid}:"$(sed 's/.*) //' /proc/{pid}/stat | cut -d' ' -f20)"
fi
"""

_MOVE = "[ ! -e {new} ] && mv -- {old} {new}"
# A job that runs knows its folder by the old name. We may have died halfway before.
_MOVE_AND_LINK = """\
if [ -e {old} ] && [ ! -L {old} ] && [ {old} != {new} ]; then [ ! -e {new} ] && mv -- {old} {new} || exit; fi
[ -e {old} ] || ln -s -- "$(basename -- {new})" {old}"""
_UNLINK = "find . -maxdepth 1 -type l -lname {name} -exec rm -f -- {} +"


@dataclass(frozen=True)
class OldJob:
    """What a record says of one job; `id` is empty when it was not submitted."""

    state: JobState
    id: str
    failures: int


def parse(text: bytes, local_work: Path) -> dict[str, OldJob]:
    """The jobs of a record by hash; none when it is no record, or one of tasks in another folder than `local_work`."""
    try:
        found = json.loads(text)
        if _local_work(found) != os.path.normpath(local_work):
            return {}
        entries = {name: entry for each in found["belonging_jobs"] for name, entry in each.items()}
        return {name: _job(entry) for name, entry in entries.items()}
    except (ValueError, KeyError, TypeError, AttributeError):
        return {}


def _local_work(found: Mapping[str, Any]) -> str:
    """Where the tasks are here. The record has the folder in which `work_base` was looked up, and a root relative to it."""
    work_base = os.path.normpath(str(found["work_base"]))
    if os.path.isabs(work_base):
        return work_base
    beside = os.path.normpath(str(found["_abs_work_base"]))
    began_in = beside[: -len(work_base)] if beside.endswith(f"/{work_base}") else beside
    root = os.path.expanduser(str(found["machine"]["local_root"]))
    return os.path.normpath(os.path.join(began_in, root, work_base))


def _job(entry: Mapping[str, Any]) -> OldJob:
    state = entry["job_state"]
    known = state in {int(each) for each in JobState}
    return OldJob(JobState(state) if known else JobState.unknown, str(entry["job_id"] or ""), int(entry["fail_count"]))


def to_events(
    old: Mapping[str, OldJob], jobs: Iterable[BatchJob], attempts: Mapping[str, int], retry_count: int
) -> list[Event]:
    """What is to be written down about jobs of which nothing is known here, or only a part: we died while writing.

    `attempts`: the last attempt that left a file on the machine, by job. Tasks that are done their tags tell later.
    """
    found: list[Event] = []
    for job in jobs:
        known = old.get(job.hash)
        if known is None or job.phase is not Phase.NEW or job.results:
            continue
        lives = bool(known.id) and known.state in _LIVING
        last = attempts.get(job.hash, -1)
        next_attempt = max(known.failures, last if lives else last + 1)
        for number in range(job.attempt, next_attempt):
            counts = number < known.failures
            again = not counts or number + 1 <= retry_count or lives
            reason = Reason.PROGRAM if counts else Reason.VANISHED
            found.append(Ended(job.hash, number, reason, "before this launcher", None, counts, again, ()))
            if not again:
                break
        else:
            if lives:
                found.append(Submitted(job.hash, next_attempt, known.id))
    return found


def attempts(names: Iterable[str]) -> dict[str, int]:
    """The last attempt of each job, of the names of files that our own jobs leave."""
    found: dict[str, int] = {}
    for name in names:
        if match := _ATTEMPT.fullmatch(name):
            found[match[1]] = max(found.get(match[1], -1), int(match[2]))
    return found


# --- on the machine -----------------------------------------------------------------------------------------------------------


def take_over(site: Site) -> None:
    """Look for a record of this submission on the machine, and write down what it says. To be called before the first upload.

    Raises RefusedError when its folder cannot become ours.
    """
    jobs = list(site.progress.jobs.values())
    path, old = _search(site, [job.hash for job in jobs])
    if not old:
        return
    folder = posixpath.dirname(path)
    old = _with_ids(site.context, folder, old)
    if site.machine.kind == "Shell":
        old = _with_start_times(site.context, old)
    if not site.context.in_place:
        name = posixpath.basename(path).removesuffix(".json")
        _rename(site.context, _MOVE_AND_LINK, f"{posixpath.dirname(site.work.root)}/{name}", site.work.root)
    there = [file.path for file in site.context.list_files(site.work.root, ["."])]
    happened = to_events(old, jobs, attempts(there), site.record.description.machine.retry_count)
    for event in happened:
        site.note(event)
    living = sum(isinstance(event, Submitted) for event in happened)
    site.tools.tell(f"taken over from {path}: {living} jobs that may still run, {_failures(old)} failures")


def inherit(site: Site, previous: str) -> bool:
    """Make the folder of a submission of DPDispatcher ours, so that its tags count; False when there is none of that hash.

    Raises DescriptionError when it is of other folders or has living jobs, RefusedError when it cannot be renamed.
    """
    lazy = site.context.in_place
    folder = site.work.root if lazy else posixpath.join(posixpath.dirname(site.work.root), previous)
    path = f"{folder}/{previous}.json"
    text = site.context.read([path]).get(path)
    if text is None:
        return False
    old = _with_ids(site.context, folder, parse(text, site.record.local_work))
    where = "previous_submission_hash"
    if not old:
        raise DescriptionError(f"{path} is no record of these folders", where=where)
    if site.machine.kind == "Shell":
        old = _with_start_times(site.context, old)
    ids = [job.id for job in old.values() if job.id and job.state in _LIVING]
    listed = site.machine.query(site.context, ids) if ids else {}
    if any(not status.state.ended for status in listed.values()):
        raise DescriptionError(
            "the previous submission has living jobs", where=where, remedy="end them, or wait for them"
        )
    if folder != site.work.root:
        _rename(site.context, _MOVE, folder, site.work.root)
    site.tools.tell(f"what {path} tells of finished tasks counts")
    return True


def remove_folder(context: Context, root: str) -> None:
    """Remove a submission's folder with all its names: links of older forms of it, and of those that took it over."""
    where = posixpath.dirname(root)
    found = context.run(sh("readlink -f -- {folder}", folder=relative(posixpath.basename(root))), cwd=where)
    last = posixpath.basename(found.out.strip()) if found.code == 0 and found.out.strip() else posixpath.basename(root)
    context.remove(posixpath.join(where, last))
    context.run(sh(_UNLINK, name=word(last)), cwd=where)


def _failures(old: Mapping[str, OldJob]) -> int:
    return sum(job.failures for job in old.values())


def _search(site: Site, names: Sequence[str]) -> tuple[str, dict[str, OldJob]]:
    """The newest record that has one of these jobs: (its path, its jobs)."""
    jobs = words(word for each in names[:_MOST_SOUGHT] for word in ("-e", each))
    found = _search_in(site, site.work.root, sh(_HERE, jobs=jobs))
    if not found[1] and not site.context.in_place:
        found = _search_in(site, posixpath.dirname(site.work.root), sh(_BELOW, jobs=jobs))
    return found


def _search_in(site: Site, folder: str, command: Text) -> tuple[str, dict[str, OldJob]]:
    listed = site.context.run(command, cwd=folder, timeout_s=600).out.splitlines()
    ours = {path.name for path in record.home().iterdir()} - {site.record.hash} if record.home().is_dir() else set()
    others = [each for each in listed if _NAME.fullmatch(each) and posixpath.basename(each)[:40] not in ours]
    if not others:
        return "", {}
    told = site.context.run(sh("ls -td -- {names}", names=relatives(others)), cwd=folder).out.splitlines()
    ordered = [f"{folder}/{below(each, 'ls')}" for each in told]
    texts = site.context.read(ordered)
    for path in ordered:
        if found := parse(texts.get(path, b""), site.record.local_work):
            return path, found
    return "", {}


def _with_ids(context: Context, folder: str, old: Mapping[str, OldJob]) -> dict[str, OldJob]:
    """With the ids that were written after the record: the old launcher died before it could write it again."""
    names = {f"{folder}/{name}_job_id": name for name, job in old.items() if job.state is JobState.unsubmitted}
    read = context.read(list(names)) if names else {}
    ids = {names[path]: text.decode(errors="replace").strip() for path, text in read.items()}
    late = {name: OldJob(JobState.unknown, ids[name], old[name].failures) for name in ids if ids[name]}
    return {**old, **late}


def _with_start_times(context: Context, old: Mapping[str, OldJob]) -> dict[str, OldJob]:
    """Process ids as ours, with the time of the start; jobs whose process is gone are over."""
    plain = {name: job for name, job in old.items() if job.id.isdigit() and job.state in _LIVING}
    if not plain:
        return dict(old)
    command = joined(sh(_PROCESS, pid=int(job.id), job=word(each)) for each, job in plain.items())
    alive = dict(line.split() for line in context.run(command).out.splitlines())
    return {
        name: job
        if name not in plain
        else OldJob(job.state if name in alive else JobState.terminated, alive.get(name, ""), job.failures)
        for name, job in old.items()
    }


def _rename(context: Context, command: str, old: str, new: str) -> None:
    """Both are in the same folder."""
    both = [relative(posixpath.basename(path)) for path in (old, new)]
    if context.run(sh(command, old=both[0], new=both[1]), cwd=posixpath.dirname(new)).code:
        what = f"cannot go on in {old}: it cannot be renamed to {new}"
        raise RefusedError(what, where=old, remedy="remove or rename one of these folders")
