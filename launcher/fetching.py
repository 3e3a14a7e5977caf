"""Bringing results home: of jobs that have ended, and of tasks whose job goes on."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import PurePosixPath

from ..pilot.model.errors import TransientError
from . import staging
from .contexts.base import RemoteFile, Transfer
from .events import Fetched
from .progress import Job
from .site import Site


class Fetching:
    """The results of one submission.

    Attributes:
        missing: backward patterns of tasks that succeeded which found nothing: (task's folder, pattern).
    """

    def __init__(self, site: Site) -> None:
        self.missing: list[tuple[str, str]] = []
        self._site = site
        self._work = site.work
        self._may_miss = site.context.kind == "LazyLocalContext"

    def ended(self, jobs: Sequence[Job]) -> None:
        """Bring home what the tasks of these jobs have made; of tasks that failed their logs, and what there is.

        One job whose results do not come keeps none of the others' away. Raises the last TransientError.
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

    def _bring_ended(self, jobs: Sequence[Job]) -> None:
        missing = self._bring({job.hash: job.tasks for job in jobs}, last_words=True)[1]
        for job in jobs:
            if not self._may_miss:
                self.missing += [
                    (self._folder(name), pattern) for name, pattern in missing if self._ended_well(job, name)
                ]
            self._site.note(Fetched(job.hash))

    def now(self, wanted: Mapping[str, Collection[str]], *, marks: bool = False) -> Transfer:
        """Bring home what is there of some tasks, by job, ended or not.

        `marks`: leave a file for each pattern that found nothing.
        """
        moved, missing = self._bring(wanted)
        if marks:
            for name, pattern in missing:
                folder = self._site.record.local_work / self._folder(name)
                folder.mkdir(parents=True, exist_ok=True)
                (folder / staging.failure_mark(pattern)).touch()
        return moved

    def common(self) -> None:
        """Bring home the common results."""
        patterns = self._site.record.description.backward_common_files
        if not patterns:
            return
        listing = self._site.context.list_files(self._work.root, ["**"])
        paths, missing = staging.backward(patterns, "", listing)
        self._get(path for path in paths if not path.startswith("."))
        if not self._may_miss:
            self.missing += [(".", pattern) for pattern in missing]

    def _bring(
        self, wanted: Mapping[str, Collection[str]], *, last_words: bool = False
    ) -> tuple[Transfer, list[tuple[str, str]]]:
        """(what came, [(task, pattern that found nothing)]), with one listing for all."""
        folders = {self._folder(name) for tasks in wanted.values() for name in tasks}
        listing = self._site.context.list_files(self._work.root, {".", *folders}) if folders else []
        below = _by_folder(listing, folders)
        paths: set[str] = set()
        missing: list[tuple[str, str]] = []
        for job in (self._site.progress.jobs[name] for name in wanted):
            for name in wanted[job.hash]:
                found, nothing = self._results_of(name, job, below[os.path.normpath(self._folder(name))])
                paths.update(found)
                missing += [(name, pattern) for pattern in nothing]
            if last_words and not job.succeeded:
                paths |= {f"{job.hash}_last_err_file"} & {file.path for file in listing}
        return self._get(paths), missing

    def _results_of(self, name: str, job: Job, listing: list[RemoteFile]) -> tuple[list[str], list[str]]:
        task = self._work.tasks[name]
        paths, missing = staging.backward(task.backward_files, task.task_work_path, listing)
        if not self._ended_well(job, name):
            logs = [log for log in (task.outlog, task.errlog) if log is not None]
            paths += staging.backward(logs, task.task_work_path, listing)[0]
        return paths, missing

    def _get(self, paths: Iterable[str]) -> Transfer:
        wanted, site = sorted(paths), self._site
        if not wanted:
            return Transfer((), (), 0)
        return site.context.get(self._work.root, wanted, site.record.local_work, site.tools.watch("download"))

    def _folder(self, name: str) -> str:
        return self._work.tasks[name].task_work_path

    @staticmethod
    def _ended_well(job: Job, name: str) -> bool:
        return name in job.results and job.results[name].exit_code == 0


def _by_folder(listing: Iterable[RemoteFile], folders: Iterable[str]) -> dict[str, list[RemoteFile]]:
    """The files below each folder, however deep."""
    found: dict[str, list[RemoteFile]] = {os.path.normpath(folder): [] for folder in folders}
    for file in listing:
        for parent in PurePosixPath(file.path).parents:
            if str(parent) in found:
                found[str(parent)].append(file)
    return found
