"""What a batch system can do for the launcher: render a job, take it, tell about many at once, cancel."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar

from ...pilot.model.errors import PilotfishError, RefusedError, TransientError
from ..contexts.base import Context
from ..job.spec import JobToPlace
from ..job.states import SETTLE_S, Listing


class SubmitRefusedError(RefusedError):
    """The batch system does not take the job and will not later either; its words are in `what`."""

    code = "submit-refused"


class QueueFullError(TransientError):
    """A limit of jobs is reached; the job can be submitted when others have ended."""

    code = "queue-full"


class MachineBusyError(TransientError):
    """The batch system does not answer at the moment."""

    code = "machine-busy"


class MaybeTakenError(MachineBusyError):
    """The batch system did not say no, but nothing in what it printed is an id: it may well have the job."""

    code = "maybe-taken"


class Machine(ABC):
    """A batch system. Knows no transport; it hands commands to a context. Holds nothing that changes."""

    kind: ClassVar[str]
    """The class name of DPDispatcher, e.g. `Slurm`."""

    settle_s: ClassVar[float] = SETTLE_S
    """How long after a job's end its files may take to be seen where the launcher looks."""

    @abstractmethod
    def script(self, job: JobToPlace) -> dict[str, str]:
        """The files that make the job, by name below the root: `job.script_name` (submitted) and `job.run_name`."""

    @abstractmethod
    def submit(self, context: Context, job: JobToPlace) -> str:
        """Hand the job's script, which lies in the root already, to the batch system; its id.

        The id is written to `job.id_file` by the same command on the machine, so that it survives a broken connection.
        Raises SubmitRefusedError, QueueFullError or MachineBusyError.
        """

    def submit_some(self, context: Context, jobs: Sequence[JobToPlace]) -> list[str | PilotfishError]:
        """Hand over several jobs of one submission in their order: for each its id, or why it was not taken.

        Where there are fewer answers than jobs the others have not been tried. Raises MachineBusyError when nothing is known.
        """
        answers: list[str | PilotfishError] = []
        for job in jobs:
            try:
                answers.append(self.submit(context, job))
            except (SubmitRefusedError, QueueFullError, MachineBusyError) as error:
                return [*answers, error]
        return answers

    @abstractmethod
    def query(self, context: Context, ids: Sequence[str]) -> Listing:
        """What is known of these jobs, by one command (and a few more for those it does not list).

        A job that is missing in the answer is gone; one of which nothing is known now has the state `unknown`. Raises
        MachineBusyError when nothing is known of any.
        """

    def find(self, context: Context, jobs: Sequence[JobToPlace]) -> dict[str, str]:
        """Ids of living jobs that were made of these jobs' scripts, by the jobs' hashes, as far as the batch system can tell.

        Raises MachineBusyError.
        """
        return {}

    @abstractmethod
    def cancel(self, context: Context, ids: Sequence[str]) -> None:
        """End these jobs with all their processes, by one command; those that are gone already do not matter.

        Raises MachineBusyError when the batch system has not heard of it.
        """
