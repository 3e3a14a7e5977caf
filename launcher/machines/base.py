"""What a batch system can do for the launcher: render a job, take it, tell about many at once, cancel."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar

from ...pilot.model.errors import PilotfishError, RefusedError, TransientError
from ..contexts.base import Context
from ..description.schema import KeysOfSystem
from ..job.spec import JobToPlace, JobVariables
from ..job.states import SETTLE_S, Listing, Status
from .dialect import View
from .directives import Directives


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


class BatchSystem(ABC):
    """A batch system. Knows no transport; it hands commands to a context. Holds nothing that changes.

    Attributes:
        kind: the class's name, which is that of DPDispatcher where it has one.
        aliases: other names, in small letters; the old interfaces call it by the first.
        keys: what it takes in `resources.kwargs`.
        variables: in which its jobs are told about themselves.
        commands: programs that it is used by; `helpful_commands`: without these only less is known of how jobs have ended.
        answers: a command, and what (a regular expression) it prints where this batch system is and not another one with
            commands of the same names; empty when only this one has them.
        queue_check: a command that prints something when there is a queue of the name `{queue}`.
        views: commands that show the whole queue; of a job that several show the first counts.
        script_suffix: how the names of scripts for it end, for people.
    """

    kind: ClassVar[str]
    aliases: ClassVar[tuple[str, ...]] = ()
    keys: ClassVar[KeysOfSystem] = KeysOfSystem()
    variables: ClassVar[JobVariables] = JobVariables()
    commands: ClassVar[tuple[str, ...]] = ()
    helpful_commands: ClassVar[tuple[str, ...]] = ()
    answers: ClassVar[tuple[tuple[str, ...], str]] = ((), "")
    queue_check: ClassVar[str] = ""
    views: ClassVar[tuple[View, ...]] = ()
    script_suffix: ClassVar[str] = ".sh"

    login_shell: ClassVar[bool] = True
    """Whether its jobs begin as a login shell of the machine that the context reaches."""
    settle_s: ClassVar[float] = SETTLE_S
    """How long after a job's end its files may take to be seen where the launcher looks."""

    @property
    def directives(self) -> Directives | None:
        """How it is asked for nodes, time and the like; None where jobs just start."""
        return None

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

    def reasons(self, context: Context, ids: Sequence[str]) -> dict[str, Status]:
        """What these jobs, which wait, wait for, where that takes a command of its own: their status with `why`.

        Raises MachineBusyError.
        """
        return {}

    def outputs(self, job_id: str, job_hash: str) -> tuple[str, ...]:
        """Where the words of the script of this job are: patterns of files in the submission's folder."""
        return ()

    @abstractmethod
    def cancel(self, context: Context, ids: Sequence[str]) -> None:
        """End these jobs with all their processes, by one command; those that are gone already do not matter.

        Raises MachineBusyError when the batch system has not heard of it.
        """
