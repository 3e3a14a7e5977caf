"""Every error that Pilotfish raises on purpose, by who must act.

`what` went wrong, `where` (a path into the input, a file, a node) and the `remedy` are kept apart, so the command line,
the wire and a log can each show what they need; `str(error)` joins them into one line.
"""

from __future__ import annotations


class PilotfishError(Exception):
    """Root of all errors raised on purpose.

    Attributes:
        code: a stable word for machines, one per class.
        what: what went wrong, without the place.
        where: the place, e.g. `jobs[3].resources.numCores.max`; empty when there is none.
        remedy: what to do about it; empty when the text already says so.
    """

    code = "error"

    def __init__(self, what: str, *, where: str = "", remedy: str = "") -> None:
        self.what = what
        self.where = where
        self.remedy = remedy
        Exception.__init__(self, what, where, remedy)  # not that of a class of others from which one is derived, too

    @property
    def line(self) -> str:
        """As the command line prints it."""
        return str(self)

    def __str__(self) -> str:
        text = f"{self.where}: {self.what}" if self.where else self.what
        return f"{text}; {self.remedy}" if self.remedy else text


class UsageError(PilotfishError):
    """The caller's input is wrong; sending the same again fails again."""

    code = "usage"


class InvalidJobError(UsageError):
    """A job description breaks a rule; `where` is the path of the member."""

    code = "invalid-job"


class InvalidRequestError(UsageError):
    """A client request is not one this manager knows, or its form is wrong."""

    code = "invalid-request"


class SettingsError(UsageError):
    """An option, environment variable or configuration value cannot be used."""

    code = "settings"


class UnknownJobError(UsageError):
    """A job or iteration name that is not registered."""

    code = "unknown-job"


class NoIterationsError(UnknownJobError, ValueError):
    """An iteration of a job that has none was asked for. Of several names only this one has no answer."""


class RefusedError(PilotfishError):
    """The request is well formed but cannot be met in the present state."""

    code = "refused"


class EndingError(RefusedError):
    """The end of the pilot has been asked for, or has come."""

    code = "ending"


class JobExistsError(RefusedError):
    """The name is taken, by a registered job or by an earlier job of the same request."""

    code = "job-exists"


class NotEnoughResourcesError(RefusedError):
    """No moment can come at which the nodes of this pilot would satisfy the job."""

    code = "not-enough-resources"


class SplitToZeroError(NotEnoughResourcesError):
    """A share of what there is would be nothing; `remedy` has the numbers."""


class TransientError(PilotfishError):
    """Trying again later is sensible (a full disk, a busy peer)."""

    code = "transient"


class LostError(PilotfishError):
    """The peer (manager, agent, pilot) is gone or does not answer."""

    code = "lost"


class JournalError(PilotfishError):
    """The journal cannot be read or written; `where` is the file, with the offset where one is known."""

    code = "journal"


class InternalError(PilotfishError):
    """A bug of ours: please report it with the text."""

    code = "internal"


class IllegalTransitionError(InternalError):
    """A state change the transition table does not allow; raised before anything was changed."""

    code = "illegal-transition"
