"""DPDispatcher's Submission on top of ours; see described.py."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ....pilot.model.errors import PilotfishError
from ...description.grouping import groups
from ...description.identity import digest
from ...description.parse import SubmissionDescription
from ...description.schema import DescriptionError
from ...job.states import JobState
from ...submission import dpdispatcher_record as old_record
from ...submission import store as record
from ...submission import submission as inner
from ...submission.runner import SubmissionFailedError
from ...submission.state import Phase, Progress
from .described import Pilot, Resources, Task
from .job import Job
from .machine import Machine

if TYPE_CHECKING:
    from ....api.manager import Manager


_RESOURCES = "give resources=Resources(...)"


class Submission:
    """Tasks on a machine. `pilot` (a Pilot, or a mapping with its keys, which may be empty) runs them in a pilot."""

    def __init__(
        self,
        work_base: str,
        machine: Machine | None = None,
        resources: Resources | None = None,
        forward_common_files: Iterable[str] = (),
        backward_common_files: Iterable[str] = (),
        *,
        task_list: Iterable[Task] = (),
        previous_submission_hash: str | None = None,
        continue_on_failure: bool = False,
        pilot: Pilot | Mapping[str, Any] | None = None,
        tell: Callable[[str], None] = lambda text: None,
    ) -> None:
        self.work_base = work_base
        self.machine = machine
        self.resources = resources
        if machine is not None:
            machine.context.bind_submission(self)
        self.forward_common_files = list(forward_common_files)
        self.backward_common_files = list(backward_common_files)
        self.belonging_tasks = list(task_list)
        self.belonging_jobs: list[Job] = []
        self._begun_with: list[Task] = []
        self.previous_submission_hash = previous_submission_hash
        self.continue_on_failure = continue_on_failure
        self.pilot = pilot if pilot is None or isinstance(pilot, Pilot) else Pilot.load_from_dict(pilot)
        self._tell = tell

    # --- building -------------------------------------------------------------------------------------------------------

    def register_task(self, task: Task) -> None:
        self.register_task_list([task])

    def register_task_list(self, task_list: Iterable[Task]) -> None:
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
        """Group the tasks into jobs, in DPDispatcher's order."""
        if self.belonging_jobs:
            raise RuntimeError("Can not generate jobs when submission.belonging_jobs is not empty.")
        if self.resources is None:
            raise DescriptionError("needs resources", where="Submission", remedy=_RESOURCES)
        if self.pilot is not None:
            self._generate_pilots()
            return
        for group in groups(len(self.belonging_tasks), self.resources.values.group_size):
            self._add_job([self.belonging_tasks[position] for position in group])

    def _generate_pilots(self) -> None:
        """What they are depends on the machine too."""
        made = self._inner()
        by_hash = {task.task_hash: task for task in self.belonging_tasks}
        for _, names in made.work(made.context()).jobs():
            self._add_job([by_hash[name] for name in names])

    def _add_job(self, tasks: list[Task]) -> None:
        assert self.resources is not None
        job = Job(tasks, resources=self.resources, machine=self.machine)
        job.submission = self
        if job.job_hash not in {known.job_hash for known in self.belonging_jobs}:
            self.belonging_jobs.append(job)

    def described(self) -> SubmissionDescription:
        """All of it, checked. Raises DescriptionError."""
        if self.machine is None:
            raise DescriptionError("needs a machine", where="Submission", remedy="bind one: bind_machine(machine)")
        if self.resources is None:
            raise DescriptionError("needs resources", where="Submission", remedy=_RESOURCES)
        return SubmissionDescription(
            work_base=self.work_base,
            machine=self.machine.values,
            resources=self.resources.values,
            tasks=tuple(task.values for task in self._begun_with or self.belonging_tasks),
            forward_common_files=tuple(self.forward_common_files),
            backward_common_files=tuple(self.backward_common_files),
            previous_submission_hash=self.previous_submission_hash,
            continue_on_failure=self.continue_on_failure,
            pilot=None if self.pilot is None else self.pilot.values,
        )

    def _inner(self) -> inner.Submission:
        return inner.Submission(self.described(), tell=self._tell)

    def opened(self) -> AbstractContextManager[inner.Placement]:
        """The submission with its record held, on its machine."""
        return self._inner().opened()

    def peek(self) -> Progress:
        """What is known of its jobs here."""
        return self._inner().peek()

    @property
    def submission_hash(self) -> str:
        """Its id; with a machine another than without."""
        if self.machine is None or self.resources is None:
            return digest(self.serialize(if_static=True))
        return self._inner().hash

    @property
    def local_root(self) -> str:
        """Absolute folder of the tasks here."""
        return str(self._inner().local_work)

    @property
    def remote_root(self) -> str:
        """Its folder on the machine."""
        made = self._inner()
        return made.work(made.context()).root

    def get_hash(self) -> str:
        return self.submission_hash

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
        made = self._inner()
        if not self.belonging_jobs:
            self.generate_jobs()
        if dry_run:
            return {**self.serialize(), "scripts": made.scripts()}
        try:
            made.run(detach=exit_on_submit, clean=clean, check_interval_s=check_interval, retry_failed=retry_failed)
        finally:
            self._follow(made)
        return self.serialize()

    async def async_run_submission(self, **options: Any) -> dict[str, Any]:
        """`run_submission` without blocking the event loop; keeps the folder on the machine unless told otherwise."""
        options.setdefault("clean", False)
        return await asyncio.get_running_loop().run_in_executor(None, partial(self.run_submission, **options))

    def _follow(self, made: inner.Submission) -> None:
        self._take(made.last or made.peek())

    def _take(self, progress: Progress) -> None:
        for job in self.belonging_jobs:
            if job.job_hash in progress.jobs:
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
        self._take(self.peek())

    def update_submission_state(self) -> None:
        """Ask the batch system where the jobs are; nothing is submitted."""
        with self.opened() as opened:
            opened.runner.look()
            opened.runner.step_without_submitting()
            self._take(opened.progress)

    def handle_unexpected_submission_state(self, *, continue_on_failure: bool = False) -> None:
        """Submit the jobs that are to be placed, for the first time or again.

        Raises SubmissionFailedError when one has failed for good, unless `continue_on_failure`.
        """
        with self.opened() as opened:
            opened.runner.step()
            self._take(opened.progress)
        if not continue_on_failure:
            self.raise_for_failed_jobs()

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
        self._take(self.peek())
        self._begun_with = self._begun_with or self.belonging_tasks
        over = (JobState.finished, JobState.failed)
        for job in self.belonging_jobs:
            job.job_task_list = [task for task in job.job_task_list if task.task_state in over]
        self.belonging_tasks = [task for job in self.belonging_jobs for task in job.job_task_list]

    def cancel(self) -> int:
        """End all jobs that are not over; how many there were."""
        return self._inner().cancel()

    def manager(self) -> AbstractContextManager[Manager]:
        """The running pilot as a `Manager`, wherever it is: `with submission.manager() as pilot`. Errors as remote_manager."""
        from ...submission.tunnel import remote_manager

        return remote_manager(self._inner())

    def upload_jobs(self) -> None:
        gathered = self._inner().gather()
        with self.opened() as opened:
            opened.upload(gathered)

    def download_jobs(
        self, include_failed: bool = False, mark_failure: bool = False, check_exists: bool = False
    ) -> None:
        """Bring home what there is.

        Args:
            check_exists: results that are missing are no error.
            mark_failure: nor with this, which leaves an empty file for each pattern that finds nothing.

        Raises MissingFileError (a FileNotFoundError) when a task that ended well has not made a result.
        """
        with self.opened() as opened:
            jobs = opened.progress.jobs.values()
            wanted = {job.hash: job.tasks for job in jobs if include_failed or job.phase is not Phase.FAILED}
            _, missing = opened.runner.fetching.now(wanted, marks=mark_failure)
            if not (mark_failure or check_exists):
                inner.raise_missing(opened.record.hash, opened.work, missing)

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
            self._inner().forget(opened)

    # --- writing --------------------------------------------------------------------------------------------------------

    def serialize(self, if_static: bool = False) -> dict[str, Any]:
        found: dict[str, Any] = {
            "work_base": self.work_base,
            "_abs_work_base": str(Path(self.work_base).absolute()),
            "machine": None if self.machine is None else self.machine.serialize(),
            "resources": None if self.resources is None else self.resources.serialize(),
            "forward_common_files": sorted(self.forward_common_files),
            "backward_common_files": sorted(self.backward_common_files),
        }
        if not self.belonging_jobs:
            found["belonging_tasks"] = [task.serialize() for task in self.belonging_tasks]
        else:
            found["belonging_jobs"] = [job.serialize(if_static) for job in self.belonging_jobs]
        if not if_static:
            found["continue_on_failure"] = self.continue_on_failure
            found["previous_submission_hash"] = self.previous_submission_hash
        return found

    @classmethod
    def deserialize(cls, submission_dict: Mapping[str, Any], machine: Machine | None = None) -> Submission:
        """From `serialize`, or a record of DPDispatcher or ours; what has no machine gets `machine`, or one is bound later."""
        found = submission_dict
        tasks = list(found.get("belonging_tasks", []))
        for entries in found.get("belonging_jobs", []):
            tasks += [task for entry in entries.values() for task in entry["job_task_list"]]
        if machine is None and found.get("machine") is not None:
            machine = Machine.load_from_dict(found["machine"])
        return cls(
            found["work_base"],
            machine,
            None if found.get("resources") is None else Resources.load_from_dict(found["resources"]),
            found.get("forward_common_files", ()),
            found.get("backward_common_files", ()),
            task_list=[Task.load_from_dict(task) for task in tasks],
            previous_submission_hash=found.get("previous_submission_hash"),
            continue_on_failure=found.get("continue_on_failure", False),
        )

    @classmethod
    def submission_from_json(cls, json_file_name: str | Path = "submission.json") -> Submission:
        return cls.deserialize(json.loads(Path(json_file_name).read_text()))

    def submission_to_json(self) -> None:
        """Write DPDispatcher's record `<hash>.json` into the submission's folder on the machine."""
        made = self._inner()
        with made.context() as context:
            work = made.work(context)
            found = record.Record(made.hash, record.home(), self.described(), made.local_work, work.root, 0.0)
            text = json.dumps(old_record.build(found, work, made.peek()), indent=4)
            context.write({f"{work.root}/{made.hash}.json": text.encode()})

    def __getitem__(self, key: str) -> Any:
        return self.serialize()[key]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Submission) and self.serialize(if_static=True) == other.serialize(if_static=True)

    def __hash__(self) -> int:
        return hash(self.submission_hash)
