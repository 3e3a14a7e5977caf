"""The errors users catch, under the names the old API has, all below PilotfishError."""

from __future__ import annotations

from ..pilot.model.errors import InternalError as _InternalError
from ..pilot.model.errors import InvalidJobError, LostError, NotEnoughResourcesError, PilotfishError, UsageError

__all__ = [
    "ConnectionError",
    "FileError",
    "InternalError",
    "InvalidJobDescriptionError",
    "JobNotDefinedError",
    "PilotfishError",
    "QCGPJMAError",
    "RequestRefusedError",
    "ServiceError",
    "TimeoutElapsed",
    "WrongArgumentsError",
]


_BEFORE_IT = ("Request failed - ", "Invalid request: ", "Wrong submit request: ")
_REMEDIES = {NotEnoughResourcesError.code: "ask for less, or run it where there is more"}
"""Where the service's own is part of its text."""


class QCGPJMAError(PilotfishError):
    """Anything that goes wrong between a program and a pilot."""


class InternalError(QCGPJMAError, _InternalError):
    """The service answered something that makes no sense."""


class InvalidJobDescriptionError(QCGPJMAError, InvalidJobError):
    """A job description breaks a rule that can be seen before it is sent."""


class JobNotDefinedError(QCGPJMAError, UsageError):
    """The name is not in this list of jobs."""


class ConnectionError(QCGPJMAError, LostError):
    """The service refused a request, or cannot be reached."""


class RequestRefusedError(ConnectionError):
    """The service answered that it does not do what was asked. Its text has the place in it already, and mostly the remedy.

    `code` is the service's word for the kind of error (docs/reference: error codes); the original service has none.
    """

    def __init__(self, message: str, *, code: str = "refused", where: str = "", remedy: str = "") -> None:
        super().__init__(f"Request failed - {message}", where=where, remedy=remedy)
        self.code = code

    @property
    def line(self) -> str:
        """Without the words that programs of the old system know, but with the place, where it is known."""
        what = self.what
        for words in _BEFORE_IT:
            what = what.removeprefix(words)
        if self.where and self.where not in what:
            what = f"{self.where}: {what}"
        remedy = _REMEDIES.get(self.code, self.remedy)
        return f"{what}; {remedy}" if remedy and remedy not in what else what

    def __str__(self) -> str:
        """Some texts of the old system stand alone, without the remedy."""
        return self.what if self.remedy in self.what else f"{self.what}; {self.remedy}"


class WrongArgumentsError(QCGPJMAError, UsageError, ValueError, TypeError):
    """A method was called with arguments that do not go together, or with one that it cannot take.

    Python itself raises a TypeError for some of these and a ValueError for others; who catches either catches this.
    """


class FileError(QCGPJMAError):
    """A file of jobs cannot be read or written."""


class ServiceError(QCGPJMAError):
    """The manager process could not be started, ended unexpectedly, or cannot do what is asked."""


class TimeoutElapsed(PilotfishError, TimeoutError):
    """What was waited for did not happen in the given time. Not below QCGPJMAError, as in the old API: nothing is wrong."""

    code = "timeout"
