"""States of a job on a batch system, with the numbers that DPDispatcher writes into its records."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from ..description.job_state import JobState as JobState

SETTLE_S = 60.0
"""So long files of another host may take to be seen here (NFS: `acdirmax`)."""


class Reason:
    """Why a job ended badly, in words that do not depend on the batch system."""

    PROGRAM = "program"
    MEMORY = "out of memory"
    TIME = "time limit"
    NODE = "node failure"
    PREEMPTED = "preempted"
    CANCELED = "cancelled"
    LAUNCH = "not started"
    VANISHED = "vanished"
    DEPENDENCY = "dependency failed"
    NEVER = "can never start"


@dataclass(frozen=True)
class Status:
    """What a batch system tells about one job.

    Attributes:
        state: our word; `finished` only says that the job's script ended with 0; of its tasks the result record tells.
        native: the batch system's own word, for people.
        reason: one of `Reason`; empty while the job lives or when it ended well.
        exit_code: of the job's script; None when not known. A signal counts as 128 + its number.
        start_s, end_s: seconds since the epoch; None when not known.
        nodes: the host list as the batch system writes it.
        why: of a job that waits: what it waits for, in the batch system's words.
        hopeless: by these words it can never start.
    """

    state: JobState
    native: str = ""
    reason: str = ""
    exit_code: int | None = None
    start_s: float | None = None
    end_s: float | None = None
    nodes: str = ""
    why: str = ""
    hopeless: bool = False


class Listing(dict[str, Status]):
    """What a batch system tells of jobs, by id, and how sure that is.

    A job that is missing is gone: the answer was understood in full and has no such job.

    Attributes:
        unread: lines of the answer that were not understood; any of them may be about any job.
        unclear: jobs (they are in the mapping, as `unknown`) of which nothing is known now: ask again.
        doubted: jobs that were only left out of the answer; the batch system did not say that it does not know them.
    """

    def __init__(
        self, jobs: Mapping[str, Status] | Iterable[tuple[str, Status]] = (), unread: Iterable[str] = ()
    ) -> None:
        super().__init__(jobs)
        self.unread = list(unread)
        self.unclear: set[str] = set()
        self.doubted: set[str] = set()

    def add(self, name: str, status: Status) -> None:
        """Take in one row. Rows with the same name are parts of one job: it is where the part is that is least at its end."""
        if name not in self or _ORDER.index(status.state) < _ORDER.index(self[name].state):
            self[name] = status

    def take(self, other: Listing) -> None:
        """Take in the answer about other jobs."""
        self.update(other)
        self.unread += other.unread
        self.unclear |= other.unclear
        self.doubted |= other.doubted

    def joined(self, parts: Mapping[str, Sequence[str]]) -> Listing:
        """What this tells of jobs of which each is several of the batch system: it lives as long as one of these.

        As long as nothing is known of one part the whole has not ended.
        """
        found = Listing(unread=self.unread)
        for name, each in parts.items():
            known = Listing(unread=())
            for part in each:
                if part in self:
                    known.add(name, self[part])
            alive = name in known and not known[name].state.ended
            if not alive and self.doubted.intersection(each):
                found.doubted.add(name)
            elif name in known:
                found[name] = known[name]
                if known[name].state is JobState.unknown and self.unclear.intersection(each):
                    found.unclear.add(name)
        return found


_ORDER = (
    JobState.running,
    JobState.waiting,
    JobState.completing,
    JobState.unknown,
    JobState.terminated,
    JobState.failed,
    JobState.finished,
    JobState.unsubmitted,
)
"""Of the parts of one job; one that ended badly counts more than those that ended well."""
