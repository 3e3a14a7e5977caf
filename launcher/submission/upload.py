"""Bringing inputs over: what is new, what has changed, what is gone; and what was finished before this launcher knew of it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from ..contexts import globs as staging
from ..contexts.base import LocalFile
from ..contexts.shell import place, sh
from ..description.submission import SubmissionDescription
from ..job.record import TaskResult
from ..job.script import TASK_TAG
from .batch_job import BatchJob, Phase
from .events import Inherited, Renewed, Uploaded
from .session import Site

_INHERIT = "if [ -d {old} ] && [ ! -e {new} ]; then mv -- {old} {new}; fi; mkdir -p -- {new}"


@dataclass(frozen=True)
class Gathered:
    """All inputs, as they are here: each file once, the common ones, those of each task (by its hash), folders to be made."""

    files: Sequence[LocalFile]
    common: Sequence[LocalFile]
    own: Mapping[str, Sequence[LocalFile]]
    folders: Sequence[str]

    def by_task(self) -> dict[str, list[LocalFile]]:
        """The inputs of each task, by its hash, common files included."""
        return {name: [*self.common, *files] for name, files in self.own.items()}


def gather(description: SubmissionDescription, work: Path) -> Gathered:
    """Look for all inputs below `work`; asks no machine.

    Raises MissingFileError for what is not there, the folder included, and ConflictError for two files that shall be one.
    """
    check_folder(description, work)
    common = staging.forward(description.forward_common_files, work, "")
    folders = {task.folder for task in description.tasks}
    folders |= set(staging.forward_folders(description.forward_common_files, work, ""))
    own = {}
    for task in description.tasks:
        own[task.task_hash] = staging.forward(task.forward_files, work, task.folder)
        folders.update(staging.forward_folders(task.forward_files, work, task.folder))
    return Gathered(staging.merge([common, *own.values()]), common, own, sorted(folders))


def check_folder(description: SubmissionDescription, work: Path) -> None:
    """Raises MissingFileError, with the remedy, when the tasks' folder here cannot take their results."""
    remedy = f"make it, or mend work_base ({description.work_base!r}) or machine.local_root"
    if not work.exists():
        raise staging.MissingFileError(f"there is no folder {work}", where="work_base", remedy=remedy)
    if not work.is_dir():
        raise staging.MissingFileError(f"{work} is no folder", where="work_base", remedy=remedy)
    if not os.access(work, os.W_OK | os.X_OK, effective_ids=True):
        what = f"{work} cannot be written to, so no results could come home"
        raise staging.MissingFileError(what, where="work_base", remedy=f"chmod it, or {remedy.partition('or ')[2]}")


class Inputs:
    """The inputs of one submission. `cancel` ends jobs and says why."""

    def __init__(self, site: Site, cancel: Callable[[Iterable[BatchJob], str], None]) -> None:
        self._site = site
        self._cancel = cancel
        self._work = site.work

    def upload(self, known: Mapping[str, str] | None, gathered: Gathered, *, noted: bool) -> None:
        """Bring over what is not there yet; `known` are the digests of the last upload, None when none has come to its end.

        `noted`: they are of an upload of ours, and the folder is as it was then; nothing more is written down if it need not.

        Tasks whose inputs have changed since run again, and so do all when a common file has changed; a job that runs with the
        old ones is ended first.
        """
        site = self._site
        common, own = gathered.common, gathered.own
        digests = {file.path: file.digest for file in gathered.files}
        before = digests if known is None else known
        changed = {path for path, digest in digests.items() if before.get(path, digest) != digest}
        gone = before.keys() - digests.keys()
        if changed or gone:
            site.note(Uploaded(None))  # until all have arrived nobody knows what is there
            affected = self._affected(changed, gone, common, own)
            self._renew_affected(affected, f"inputs changed: {', '.join(sorted(changed | gone)[:3])}")
        if gone and not site.context.in_place:
            site.context.delete(self._work.root, sorted(gone))
        if known is None:
            self._take_old_tags(common, own)
        moved = site.context.put(self._work.root, gathered.files, gathered.folders, site.tools.watch("upload"))
        if digests != known or not noted:
            site.note(Uploaded(digests))
        if moved.moved:
            site.tools.tell(f"sent {len(moved.moved)} files, {moved.sent_bytes} bytes; {len(moved.same)} were there")

    def _affected(
        self,
        changed: set[str],
        gone: Iterable[str],
        common: Sequence[LocalFile],
        own: Mapping[str, Sequence[LocalFile]],
    ) -> set[str]:
        """Hashes of the tasks that these paths matter to. Whose a file was that is gone, its folder tells."""
        if any(file.path in changed for file in common):
            return set(own)
        affected = {name for name, files in own.items() if any(file.path in changed for file in files)}
        for path in gone:
            parents = {str(parent) for parent in PurePosixPath(path).parents}
            owners = {name for name, task in self._work.tasks.items() if task.folder in parents}
            affected |= owners or set(own)
        return affected

    def _renew_affected(self, affected: set[str], why: str) -> None:
        for job in self._site.progress.jobs.values():
            tasks = tuple(name for name in job.tasks if name in affected)
            if tasks and job.phase in (Phase.INTENDED, Phase.PLACED):
                self._cancel([job], why)
            elif not job.phase.final:
                tasks = tuple(name for name in tasks if name in job.results)
            if tasks:
                self.renew(job, tasks, why)

    def renew(self, job: BatchJob, tasks: Sequence[str], why: str) -> None:
        """Let these tasks of a job run again."""
        self._work.forget(self._site.context, job, tasks)
        self._site.note(Renewed(job.hash, tuple(tasks), why))
        self._site.tools.tell(f"{len(tasks)} tasks of job {job.hash[:8]} run again: {why}")

    def inherit(self, root: str, done: Mapping[str, TaskResult]) -> None:
        """Take over the folder of an earlier submission and the results of tasks that are ours too."""
        site = self._site
        if root != self._work.root:
            old, new = (place(site.context.absolute(each)) for each in (root, self._work.root))
            site.context.check(sh(_INHERIT, old=old, new=new))
        for job in site.progress.jobs.values():
            mine = tuple(done[name] for name in job.tasks if name in done)
            if mine:
                site.note(Inherited(job.hash, mine))
        site.tools.tell(f"{sum(name in done for name in self._work.tasks)} tasks were done by the previous submission")

    def _take_old_tags(self, common: Sequence[LocalFile], own: Mapping[str, Sequence[LocalFile]]) -> None:
        """Tasks that DPDispatcher, or a launcher whose record is lost, has finished: their tags, if no input is newer."""
        site, taken = self._site, 0
        listing = site.context.list_files(self._work.root, {task.folder for task in self._work.tasks.values()})
        tags = {file.path: file.mtime_s for file in listing if file.path.endswith(TASK_TAG)}
        new = [job for job in site.progress.jobs.values() if job.phase is Phase.NEW] if tags else []
        for job in new:
            names = [name for name in job.tasks if name not in job.results]
            old = {name: tags[path] for name in names if (path := self._tag(name)) in tags}
            stale = [name for name, at_s in old.items() if at_s < _newest_s([*common, *own[name]])]
            done = tuple(TaskResult(name, 0, end_s=at_s) for name, at_s in old.items() if name not in stale)
            if stale:
                self._work.forget(site.context, job, stale)
            if done:
                site.note(Inherited(job.hash, done))
                taken += len(done)
        if taken:
            site.tools.tell(f"{taken} task{'s were' if taken > 1 else ' was'} finished before")

    def _tag(self, name: str) -> str:
        return self._work.tasks[name].path(name + TASK_TAG)


def _newest_s(files: Iterable[LocalFile]) -> float:
    return max((file.source.stat().st_mtime for file in files), default=0.0)
