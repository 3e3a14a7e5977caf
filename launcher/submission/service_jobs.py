"""A pilot without tasks of its own, as a submission: it serves clients until one of them tells it to finish.

It is a pilot's work with one task, the service itself, which has succeeded when the service has ended in good order. Its folder
there stays from one allocation to the next, so a later one goes on with the journal of the one before (`pilotfish service
--resume`). When that is to be placed is not decided here: whoever needs the pilot renews its job (launcher/executor).
"""

from __future__ import annotations

from collections.abc import Sequence

from ...pilot.wire import journal
from ...pilot.wire.connection import AUX_PREFIX
from ..contexts import shell
from ..contexts.base import Context
from ..contexts.shell import sh, word
from ..description.digests import digest
from ..description.submission import SubmissionDescription
from ..description.task import Task
from ..job.record import TaskResult
from .batch_job import BatchJob
from .pilot_jobs import PilotWork
from .work import Work

_ID = "service"
_FOLDER = AUX_PREFIX + _ID
_SERVICE = """
{found}
export PILOTFISH_NET=true
rm -f -- {ended}
if [ -e {aux}/{journal} ]; then pf_pilot=(--resume {aux}); else pf_pilot=(--wd "$REMOTE_ROOT" --id {id}); fi
"${pilotfish[@]}" service "${pf_pilot[@]}" {options} 2>{words}
pf_code=$?
if [ $pf_code -eq 0 ]; then : >{ended}; else echo 1 >{flag}; fi
"""


class ServiceWork(PilotWork):
    """One job, which is a pilot, and further jobs that bring it nodes."""

    def __init__(self, description: SubmissionDescription, root: str) -> None:
        super().__init__(description, root)
        service = Task("pilotfish service", ".", outlog=None, errlog=None, task_name=_ID)
        self.tasks = {service.task_hash: service}
        self._names = {service.task_hash: _ID}
        self._hash = digest({"service": root})  # what it asks for may be another thing in its next allocation

    def _body(self, job: BatchJob) -> str:
        return sh(
            _SERVICE,
            found=self._found_or_failed(job),
            aux=word(_FOLDER),
            journal=word(journal.FILE_NAME),
            id=word(_ID),
            options=shell.words(self._pilot.options),
            ended=shell.relative(_ended(job)),
            words=shell.relative(f"{job.hash}_last_err_file"),
            flag=shell.relative(f"{job.hash}_flag_if_job_task_fail"),
        )

    def files(self, job: BatchJob) -> dict[str, bytes]:
        return {}

    def states(self, context: Context) -> dict[str, str]:
        return {}

    def running(self, context: Context, jobs: Sequence[BatchJob]) -> int:
        return len(self.tasks) if any(job.tasks for job in jobs) else 0

    def forget(self, context: Context, job: BatchJob, tasks: Sequence[str]) -> None:
        """What the pilot has done stays: its next allocation goes on from there."""
        context.delete(self.root, [_ended(job)])

    def _results(self, context: Context, job: BatchJob) -> dict[str, TaskResult]:
        path = f"{self.root}/{_ended(job)}"
        if not job.tasks or path not in context.read([path]):
            return job.results
        return {name: TaskResult(name, 0, attempt=job.attempt) for name in job.tasks}


def remove_folder(context: Context, work: Work) -> None:
    """All that the pilot has there; for where the submission's folder is the user's own."""
    context.run(sh("rm -rf -- {folder}", folder=shell.relative(_FOLDER)), cwd=work.root)


def _ended(job: BatchJob) -> str:
    return f"{job.hash}_service_ended"
