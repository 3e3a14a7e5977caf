"""Bringing results home: of jobs that have ended, and of tasks whose job goes on."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath

from ...pilot.model.errors import TransientError
from ..contexts import globs as staging
from ..contexts import paths
from ..contexts.base import RemoteFile, Transfer
from ..contexts.landing import open_folder
from ..description.task import Task
from .batch_job import BatchJob
from .events import CommonFetched, Fetched, Missing
from .session import Site

_TOLD = 5
"""So many results that do not come are told one by one."""


@dataclass
class _Wanted:
    """Results to be brought home. `files` and `folders` are paths below the root, with the tasks that want them."""

    files: dict[str, list[str]] = field(default_factory=dict)
    folders: dict[str, list[str]] = field(default_factory=dict)
    missing: list[Missing] = field(default_factory=list)
    lost: dict[str, str] = field(default_factory=dict)
    """Paths that cannot be had, with the reason."""
    untouched: dict[str, str] = field(default_factory=dict)
    """Paths that must not be written here, with the reason."""


class Fetching:
    """The results of one submission."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self._work = site.work
        self._home = site.record.local_work
        self._may_miss = site.context.in_place

    def ended(self, jobs: Sequence[BatchJob]) -> None:
        """Bring home what the tasks of these jobs have made; of tasks that failed their logs, and what there is.

        What tasks that succeeded have not made, or what does not come, is written down. One job whose results do not come keeps
        none of the others' away. Raises the last TransientError.
        """
        try:
            self._bring_ended(jobs)
        except TransientError as error:
            last: TransientError | None = error
            if len(jobs) > 1:
                last = None
                for job in jobs:
                    try:
                        self._bring_ended([job])
                    except TransientError as again:
                        last = again
            if last is not None:
                raise last from None

    def _bring_ended(self, jobs: Sequence[BatchJob]) -> None:
        if not jobs:
            return
        wanted = {job.hash: job.tasks for job in jobs}
        missing = [] if self._may_miss else self._bring(wanted, last_words=True)[1]
        for job in jobs:
            found = tuple(each for each in missing if self._ended_well(job, each.task))
            self._site.note(Fetched(job.hash, found))

    def now(self, wanted: Mapping[str, Collection[str]], *, marks: bool = False) -> tuple[Transfer, list[Missing]]:
        """Bring home what is there of some tasks, by job, ended or not: (what came, what tasks that ended well miss).

        `marks`: leave a file for each pattern that found nothing.
        """
        if self._may_miss and not marks:  # all is where it shall be
            return Transfer((), (), 0), []
        moved, missing = self._bring(wanted, quiet=True)
        for each in missing if marks else ():
            folder = self._home / self._work.tasks[each.task].folder
            folder.mkdir(parents=True, exist_ok=True)
            (folder / staging.failure_mark(each.pattern)).touch()
        well = {name for job in wanted for name in wanted[job] if self._ended_well(self._site.progress.jobs[job], name)}
        return moved, [] if self._may_miss else [each for each in missing if each.task in well]

    def common(self) -> None:
        """Bring home the common results, unless they are home."""
        patterns = self._site.record.description.backward_common_files
        if not patterns or self._may_miss or self._site.progress.common_home:
            return
        listing = self._listing({"**"})
        wanted = _Wanted()
        found, missing = staging.backward(patterns, "", listing)
        visible = (path for path in found if not path.startswith("."))
        self._add(wanted, visible, "", patterns, ".", _folders_of(listing))
        moved = self._get(wanted)
        gone = [Missing("", pattern) for pattern in missing]
        gone += [Missing("", path, why) for path, why in {**wanted.lost, **moved.lost}.items()]
        self._tell_lost(gone)
        self._site.note(CommonFetched(tuple(gone)))

    def _bring(
        self, wanted: Mapping[str, Collection[str]], *, last_words: bool = False, quiet: bool = False
    ) -> tuple[Transfer, list[Missing]]:
        """(what came, results that did not), with one listing for all."""
        tasks = self._work.tasks
        folders = {tasks[name].folder for names in wanted.values() for name in names}
        asked = {"**"} if "." in folders else {".", *folders}
        listing = self._listing(asked) if folders else []
        below, others = _by_folder(listing, folders), _folders_of(listing)
        found = _Wanted()
        for job in (self._site.progress.jobs[name] for name in wanted):
            for name in wanted[job.hash]:
                well = self._ended_well(job, name)
                self._add_task(found, tasks[name], name, well, below[tasks[name].folder], others)
            if last_words and not job.succeeded:
                words = f"{job.hash}_last_err_file"
                found.files |= {file.path: [] for file in listing if file.path == words}
        moved = self._get(found)
        lost = {**found.lost, **moved.lost}
        missing = found.missing
        for path, names in found.files.items():
            if path in lost:
                missing += [Missing(name, _within(path, tasks[name].folder), lost[path]) for name in names]
        if not quiet:
            self._tell_lost(missing)
        return moved, missing

    def _listing(self, folders: Collection[str]) -> list[RemoteFile]:
        """What is below these folders, without what the launcher keeps beside the tasks: a file for each task, and more."""
        listing = self._site.context.list_files(self._work.root, folders, with_folders=True)
        jobs = self._site.progress.jobs
        return [file for file in listing if not (file.path.startswith(".") and file.path[1:41] in jobs)]

    def _add_task(
        self,
        wanted: _Wanted,
        task: Task,
        name: str,
        well: bool,
        listing: Sequence[RemoteFile],
        others: Mapping[str, RemoteFile],
    ) -> None:
        """What a task makes, and the logs of one that failed."""
        found, missing = staging.backward(task.backward_files, task.folder, listing)
        if not well:
            logs = {task.path(log) for log in (task.outlog, task.errlog) if log is not None}
            found += [file.path for file in listing if file.path in logs]
        self._add(wanted, found, name, task.backward_files, task.folder, others)
        wanted.missing += [Missing(name, pattern) for pattern in missing]

    def _add(
        self,
        wanted: _Wanted,
        found: Iterable[str],
        task: str,
        patterns: Sequence[str],
        folder: str,
        others: Mapping[str, RemoteFile],
    ) -> None:
        """Sort out what the patterns of one task have found; `others` are folders."""
        allowed = paths.literal_folders(patterns, folder)
        for path in found:
            link = paths.leads_away(self._home, path, folder, allowed)
            if path in others and not others[path].closed:
                if not link:
                    wanted.folders.setdefault(path, []).append(task)
                continue
            wanted.files.setdefault(path, []).append(task)
            if path in others:
                wanted.lost[path] = "is a folder that cannot be read there: permission denied"
            elif link:
                what = f"is not written: {link} here is a link to another folder"
                wanted.untouched[path] = f"{what}; name that in the pattern, or remove it"

    def _get(self, wanted: _Wanted) -> Transfer:
        site = self._site
        for path in sorted(wanted.folders):
            try:
                os.close(open_folder(os.path.realpath(paths.inside(self._home, path, "a listing"))))
            except OSError as error:
                wanted.files[path] = wanted.folders[path]
                wanted.lost[path] = f"cannot be made here: {error.strerror}"
        files = sorted(wanted.files.keys() - wanted.lost.keys())
        if not files:
            return Transfer((), (), 0)
        watch, untouched = site.tools.watch("download"), wanted.untouched
        return site.context.get(self._work.root, files, self._home, watch, partly=True, untouched=untouched)

    def _tell_lost(self, missing: Sequence[Missing]) -> None:
        lost = [each for each in missing if each.why]
        for each in lost[:_TOLD]:
            self._site.tools.tell(f"not fetched: {self._work.explained(each)}")
        if lost[_TOLD:]:
            self._site.tools.tell(f"not fetched: {len(lost) - _TOLD} more")

    @staticmethod
    def _ended_well(job: BatchJob, name: str) -> bool:
        return name in job.results and job.results[name].exit_code == 0


def _within(path: str, folder: str) -> str:
    return path if folder == "." else path.removeprefix(f"{folder}/")


def _folders_of(listing: Iterable[RemoteFile]) -> dict[str, RemoteFile]:
    return {file.path: file for file in listing if file.folder}


def _by_folder(listing: Iterable[RemoteFile], folders: Iterable[str]) -> dict[str, list[RemoteFile]]:
    """The files below each folder, however deep."""
    found: dict[str, list[RemoteFile]] = {folder: [] for folder in folders}
    for file in listing:
        for parent in PurePosixPath(file.path).parents:
            if str(parent) in found:
                found[str(parent)].append(file)
    return found
