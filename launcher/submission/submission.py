"""`Submission`: tasks on a machine, with the constructor and methods of DPDispatcher's, so that its scripts go on working.

It is a plain object that is built up: tasks are registered, a machine is bound, keys are assigned to. Whatever is done with it
takes what it says at that moment, checked, as a SubmissionDescription, and works on that (placement.py). So everything that
has happened is in the record, not here, and another program, or the command line, can go on.

Different from DPDispatcher, and meant: a failing job never ends the watch over the others; the caller's random generator is not
touched; records hold no secrets. The rest is in docs/old-scripts.md.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager
from functools import partial, partialmethod
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...pilot.model.errors import PilotfishError
from ..description.digests import digest
from ..description.grouping import groups, ungrouped
from ..description.job_state import JobState
from ..description.pilot import Pilot
from ..description.resources import Resources
from ..description.schema import InconsistentError
from ..description.submission import SubmissionDescription, check_names
from ..description.task import Task
from ..description.written import Serialized, listed
from .batch_job import Phase
from .job import Job
from .machine import Machine
from .own_classes import OwnBatchSystem
from .owner import Owner
from .placement import Opened, Placement, raise_missing
from .runner import SubmissionFailedError
from .state import Progress

if TYPE_CHECKING:
    from ...api.manager import Manager

log = logging.getLogger(__name__)


class Submission(Owner, Serialized):
    """Tasks on a machine.

    Args:
        work_base: folder of the tasks, below the machine's `local_root`.
        machine, resources: where, and with what; may be given later.
        forward_common_files: patterns of files below `work_base` that all tasks need.
        backward_common_files: patterns of files below `work_base` that come back.
        task_list: tasks; more may be registered until `generate_jobs`.
        previous_submission_hash: what tasks of this earlier submission have done counts.
        continue_on_failure: taken for DPDispatcher's scripts; all jobs are always watched to their end.
        pilot: run the tasks in a pilot: a Pilot, or a mapping with its keys, which may be empty.
        tell: called with one line of news at a time.

    Raises DescriptionError (a ValueError).
    """

    def __init__(
        self,
        work_base: str | os.PathLike[str],
        machine: Machine | None = None,
        resources: Resources | None = None,
        forward_common_files: Iterable[str] | None = None,
        backward_common_files: Iterable[str] | None = None,
        *,
        task_list: Iterable[Task] | None = None,
        previous_submission_hash: str | None = None,
        continue_on_failure: bool = False,
        pilot: Pilot | Mapping[str, Any] | None = None,
        tell: Callable[[str], None] = log.info,
    ) -> None:
        self.work_base = os.fspath(work_base)
        self.resources = resources
        self.forward_common_files = listed(forward_common_files)
        self.backward_common_files = listed(backward_common_files)
        self.belonging_tasks = list(task_list or ())
        self.belonging_jobs: list[Job] = []
        self.previous_submission_hash = previous_submission_hash
        self.continue_on_failure = continue_on_failure
        self.pilot = pilot if pilot is None or isinstance(pilot, Pilot) else Pilot.load_from_dict(pilot)
        self._tell = tell
        self._all_tasks: list[Task] = []
        """What it was begun with, once tasks have been dropped: they are part of what it is known by."""
        check_names(self.work_base, self.forward_common_files, self.backward_common_files, previous_submission_hash)
        self.bind_machine(machine)

    # --- building -------------------------------------------------------------------------------------------------------

    def register_task(self, task: Task) -> None:
        self.register_task_list([task])

    def register_task_list(self, task_list: Iterable[Task]) -> None:
        """RuntimeError when jobs have been made."""
        if self.belonging_jobs:
            what = "Not allowed to register tasks after generating jobs."
            raise RuntimeError(f"{what} submission hash error {self.submission_hash}")
        self.belonging_tasks.extend(task_list)

    def bind_machine(self, machine: Machine | None, *, bind_context: bool = True) -> Submission:
        self.machine = machine
        for job in self.belonging_jobs:
            job.machine = machine
        if machine is not None and bind_context:
            machine.context.bind_submission(self)
        return self

    def generate_jobs(self) -> None:
        """Group the tasks into jobs, in DPDispatcher's order. RuntimeError when it was done before."""
        if self.belonging_jobs:
            raise RuntimeError("Can not generate jobs when submission.belonging_jobs is not empty.")
        resources, tasks = self._checked_resources(), self._checked_tasks()
        if self.pilot is not None:  # what its jobs are depends on the machine too
            by_hash = {task.task_hash: task for task in tasks}
            jobs = self.placement().jobs()
            members = [[by_hash[name] for name in names] for _, names in jobs]
        else:
            members = [[tasks[position] for position in group] for group in groups(len(tasks), resources.group_size)]
        self.belonging_jobs = [
            Job(tasks, resources=resources, machine=self.machine, submission=self) for tasks in members
        ]

    def has_job(self, job_hash: str) -> bool:
        return any(job.job_hash == job_hash for job in self.belonging_jobs)

    def _checked_resources(self) -> Resources:
        if self.resources is None:
            raise InconsistentError("needs resources", where="Submission", remedy="give resources=Resources(...)")
        self.resources.check()
        return self.resources

    def _checked_tasks(self) -> list[Task]:
        tasks = self._all_tasks or self.belonging_tasks
        for number, task in enumerate(tasks):
            task.check(f"task_list[{number}]")
        return tasks

    def described(self) -> SubmissionDescription:
        """All that it says now, checked. Raises DescriptionError."""
        if self.machine is None:
            raise InconsistentError("needs a machine", where="Submission", remedy="bind one: bind_machine(machine)")
        resources, tasks = self._checked_resources(), self._checked_tasks()
        return SubmissionDescription(
            work_base=self.work_base,
            machine=self.machine.description,
            resources=resources,
            tasks=tuple(tasks),
            forward_common_files=tuple(self.forward_common_files),
            backward_common_files=tuple(self.backward_common_files),
            previous_submission_hash=self.previous_submission_hash,
            continue_on_failure=self.continue_on_failure,
            pilot=self.pilot,
        )

    def placement(self) -> Placement:
        """The submission as it is now, to be run. Raises DescriptionError."""
        described, machine = self.described(), self.machine
        assert machine is not None
        own = machine.batch if isinstance(machine.batch, OwnBatchSystem) else None
        return Placement(described, tell=self._tell, batch=own, way=machine.context.way)

    def opened(self) -> AbstractContextManager[Opened]:
        return self.placement().opened()

    def peek(self) -> Progress:
        return self.placement().peek()

    @property
    def submission_hash(self) -> str:
        """Its id; with a machine another than without."""
        if self.machine is None or self.resources is None:
            return digest(self.serialize(if_static=True))
        return self.placement().hash

    def get_hash(self) -> str:
        return self.submission_hash

    @property
    def local_root(self) -> str:
        """Absolute folder of the tasks here."""
        return str(self.placement().local_work)

    @property
    def remote_root(self) -> str:
        """Its folder on the machine."""
        return self.placement().root

    # --- running --------------------------------------------------------------------------------------------------------

    def run_submission(
        self,
        *,
        dry_run: bool = False,
        exit_on_submit: bool = False,
        clean: bool | str = True,
        check_interval: float = 30,
        continue_on_failure: bool | None = None,
        retry_failed: bool = False,
    ) -> dict[str, Any]:
        """Place the jobs, wait, bring results home; the submission as a mapping.

        With `dry_run` only the scripts are made: they stand under `scripts` in what is returned. Jobs that fail for good raise
        SubmissionFailedError (a RuntimeError) after all others have ended, whatever `continue_on_failure` says.
        """
        if continue_on_failure is not None:
            self.continue_on_failure = continue_on_failure
        placement = self.placement()
        if not self.belonging_jobs:
            self.generate_jobs()
        if dry_run:
            return {**self.serialize(), "scripts": placement.scripts()}
        try:
            placement.run(
                detach=exit_on_submit, clean=clean, check_interval_s=check_interval, retry_failed=retry_failed
            )
        finally:
            self._follow(placement.last or placement.peek())
        return self.serialize()

    async def async_run_submission(self, **options: Any) -> dict[str, Any]:
        """`run_submission` without blocking the event loop; keeps the folder on the machine unless told otherwise."""
        options.setdefault("clean", False)
        return await asyncio.get_running_loop().run_in_executor(None, partial(self.run_submission, **options))

    def _follow(self, progress: Progress) -> None:
        """Let jobs and tasks say where they are."""
        for job in self.belonging_jobs:
            if job.job_hash not in progress.jobs:
                continue
            placed = progress.jobs[job.job_hash]
            job.follow(placed)
            for task in job.job_task_list:
                result = placed.results.get(task.task_hash)
                if result is None:
                    task.task_state = placed.state
                else:
                    task.task_state = JobState.failed if result.exit_code else JobState.finished

    def try_recover_from_json(self) -> None:
        """Take over what the record of an earlier run says of the jobs."""
        self._follow(self.peek())

    def update_submission_state(self) -> None:
        with self.opened() as opened:
            opened.runner.look()
            opened.runner.step_without_submitting()
            self._follow(opened.progress)

    def handle_unexpected_submission_state(self, *, continue_on_failure: bool = False) -> None:
        """Submit the jobs that are to be placed, for the first time or again.

        Raises SubmissionFailedError when one has failed for good, unless `continue_on_failure`.
        """
        with self.opened() as opened:
            opened.runner.step()
            self._follow(opened.progress)
        if not continue_on_failure:
            self.raise_for_failed_jobs()

    # As they were called in 2021.
    get_submission_state = update_submission_state
    submit_submission = partialmethod(handle_unexpected_submission_state, continue_on_failure=True)

    def failed_jobs(self) -> list[Job]:
        return [job for job in self.belonging_jobs if job.job_state is JobState.failed]

    def raise_for_failed_jobs(self, *, continue_on_failure: bool = True) -> None:
        """Raises SubmissionFailedError when jobs have failed for good."""
        failed = self.failed_jobs()
        if failed:
            lines = [f"{len(failed)} job(s) failed after retries were exhausted"]
            lines += [f"job {job.job_hash} {job.job_id}: {job.failure_reason}" for job in failed]
            raise SubmissionFailedError("\n".join(lines), where=self.submission_hash)

    def check_all_finished(self) -> bool:
        return bool(self.belonging_jobs) and all(job.job_state is JobState.finished for job in self.belonging_jobs)

    def check_ratio_unfinished(self, ratio_unfinished: float) -> bool:
        """Whether at least 1 - `ratio_unfinished` of the tasks have succeeded."""
        counts = self.peek().counts()
        return counts["done"] >= (1 - ratio_unfinished) * counts["tasks"]

    def remove_unfinished_tasks(self) -> None:
        """End the jobs that are not over, and keep only the tasks that are."""
        self.cancel()
        self._follow(self.peek())
        self._all_tasks = self._all_tasks or self.belonging_tasks
        over = (JobState.finished, JobState.failed)
        for job in self.belonging_jobs:
            job.job_task_list = [task for task in job.job_task_list if task.task_state in over]
        self.belonging_tasks = [task for job in self.belonging_jobs for task in job.job_task_list]

    def cancel(self) -> int:
        """End all jobs that are not over; how many there were."""
        return self.placement().cancel()

    def manager(self) -> AbstractContextManager[Manager]:
        """The running pilot, wherever it is: `with submission.manager() as pilot`. Errors as remote_manager."""
        from .tunnel import remote_manager

        return remote_manager(self.placement())

    def upload_jobs(self) -> None:
        gathered = self.placement().gather()  # before the machine is asked anything
        with self.opened() as opened:
            opened.upload(gathered)

    def download_jobs(
        self, include_failed: bool = False, mark_failure: bool = False, check_exists: bool = False
    ) -> None:
        """Bring home what there is.

        Args:
            include_failed: of jobs that have failed for good, too: their logs.
            check_exists: results that are missing are no error.
            mark_failure: nor with this, which leaves an empty file for each pattern that finds nothing.

        Raises MissingFileError (a FileNotFoundError) when a task that ended well has not made a result.
        """
        with self.opened() as opened:
            jobs = opened.progress.jobs.values()
            wanted = {job.hash: job.tasks for job in jobs if include_failed or job.phase is not Phase.FAILED}
            _, missing = opened.runner.fetching.now(wanted, marks=mark_failure)
            if not (mark_failure or check_exists):
                raise_missing(opened.record.hash, opened.work, missing)

    def try_download_result(self) -> bool:
        """`download_jobs`; whether everything came."""
        try:
            self.download_jobs()
        except PilotfishError as error:
            self._tell(f"results did not come: {error}")
            return False
        return True

    def try_download_error_info(self) -> None:
        """Bring home the logs of tasks that failed, too."""
        self.download_jobs(include_failed=True)

    def clean_jobs(self) -> None:
        with self.opened() as opened:
            opened.runner.clean()
            opened.forget()

    # --- writing --------------------------------------------------------------------------------------------------------

    def serialize(self, if_static: bool = False) -> dict[str, Any]:
        """As a mapping, without secrets; `if_static`: without how far it has come."""
        written: dict[str, Any] = {
            "work_base": self.work_base,
            "_abs_work_base": str(Path(self.work_base).absolute()),
            "machine": None if self.machine is None else self.machine.serialize(),
            "resources": None if self.resources is None else self.resources.serialize(),
            "forward_common_files": sorted(self.forward_common_files),
            "backward_common_files": sorted(self.backward_common_files),
        }
        if not self.belonging_jobs:
            written["belonging_tasks"] = [task.serialize() for task in self.belonging_tasks]
        else:
            written["belonging_jobs"] = [job.serialize(if_static) for job in self.belonging_jobs]
        if self.pilot is not None:
            written["pilot"] = self.pilot.serialize()
        if not if_static:
            written["continue_on_failure"] = self.continue_on_failure
            written["previous_submission_hash"] = self.previous_submission_hash
        return written

    @classmethod
    def deserialize(
        cls, submission_dict: Mapping[str, Any], machine: Machine | None = None, *, bind_context: bool = True
    ) -> Submission:
        """From `serialize`, or a record of DPDispatcher or ours; what has no machine gets `machine`, or one is bound later."""
        if machine is None and submission_dict.get("machine") is not None:
            machine = Machine.load_from_dict(submission_dict["machine"])
        resources = submission_dict.get("resources")
        submission = cls(
            submission_dict["work_base"],
            None,
            None if resources is None else Resources.load_from_dict(resources),
            submission_dict.get("forward_common_files"),
            submission_dict.get("backward_common_files"),
            task_list=[Task.load_from_dict(task) for task in submission_dict.get("belonging_tasks", ())],
            previous_submission_hash=submission_dict.get("previous_submission_hash"),
            continue_on_failure=submission_dict.get("continue_on_failure", False),
            pilot=submission_dict.get("pilot"),
        )
        jobs = [Job.deserialize(entry) for entry in submission_dict.get("belonging_jobs", ())]
        for job in jobs:
            job.submission = submission
        tasks = [task for job in jobs for task in job.job_task_list]
        if tasks and submission.resources is not None and submission.pilot is None:  # hashes depend on their order
            tasks = ungrouped(tasks, submission.resources.group_size)
        submission.belonging_jobs, submission.belonging_tasks = jobs, submission.belonging_tasks + tasks
        return submission.bind_machine(machine, bind_context=bind_context)

    @classmethod
    def submission_from_json(cls, json_file_name: str | Path = "submission.json") -> Submission:
        return cls.deserialize(json.loads(Path(json_file_name).read_text()))

    def submission_to_json(self) -> None:
        """Write DPDispatcher's record `<hash>.json` into the submission's folder on the machine."""
        self.placement().write_old_record()

    def _compared(self) -> Any:
        return self.serialize(if_static=True)
