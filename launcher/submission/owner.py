"""What machine, context and jobs of a submission need of it.

In DPDispatcher's interface each of the four knows the others. Here a submission knows its machine and jobs, a job its machine,
a machine its context, and what they need the other way round is this.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from contextlib import AbstractContextManager

from ..description.task import Task
from .placement import Opened
from .state import Progress


class Owner(ABC):
    """A submission, as its parts see it."""

    work_base: str
    belonging_tasks: list[Task]

    @property
    @abstractmethod
    def submission_hash(self) -> str:
        """Its id. Raises DescriptionError for what cannot be hashed."""

    @abstractmethod
    def has_job(self, job_hash: str) -> bool:
        """Whether a job with this hash is one of its jobs."""

    @abstractmethod
    def opened(self) -> AbstractContextManager[Opened]:
        """The submission with its record held, on its machine. Raises InUseError."""

    @abstractmethod
    def peek(self) -> Progress:
        """What is known of its jobs here."""

    @abstractmethod
    def update_submission_state(self) -> None:
        """Ask the batch system where the jobs are; nothing is submitted."""

    @abstractmethod
    def upload_jobs(self) -> None:
        """Bring the inputs over. Raises MissingFileError."""

    @abstractmethod
    def download_jobs(
        self, include_failed: bool = False, mark_failure: bool = False, check_exists: bool = False
    ) -> None:
        """Bring home what there is. Raises MissingFileError."""

    @abstractmethod
    def clean_jobs(self) -> None:
        """Remove its folder on the machine."""
