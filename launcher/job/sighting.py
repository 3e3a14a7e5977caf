"""When a job that is listed no more counts as ended, and one that waits as one that never starts: no clock, no files.

The rules are those of jobs of submissions and of single ones.

Listings, accounting and file systems lag behind each other, and what is once written down as the end of a job stays. So a job
that nobody has seen the end of must be missing several times, over a while; longer where the batch system has only left it out
of its answer and not said that it does not know it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from .states import JobState, Reason, Status

GRACE_POLLS = 3
"""How often in a row a job must be missing."""
DOUBTED_POLLS, DOUBTED_S = 10, 300.0
"""The same for a job that an answer leaves out without a word: that may be another trouble."""
HOPELESS_POLLS = 3
"""How often in a row a job must be listed as one that can never start: somebody may be just mending it."""
_KILLED = (Reason.TIME, Reason.MEMORY, Reason.NODE, Reason.CANCELED, Reason.PREEMPTED)
"""Ends that the batch system knows of, and that may keep the job from writing its own record."""


@dataclass
class Sighting:
    """How often in a row, and since when, a job has been missing or ended without a record of its own."""

    missed: int = 0
    since_s: float = 0.0
    hopeless: int = 0

    def is_there(self) -> None:
        self.missed = 0

    def is_missing(self, now_s: float) -> None:
        self.since_s = self.since_s if self.missed else now_s
        self.missed += 1

    def may_still_come(self, now_s: float, settle_s: float, *, doubted: bool = False, explained: bool = False) -> bool:
        """Whether its record, or its row in a listing, may just be late; it is not waited for when the end is `explained`."""
        polls, patience_s = (DOUBTED_POLLS, DOUBTED_S) if doubted else (GRACE_POLLS, settle_s)
        return self.missed < polls or (not explained and now_s - self.since_s < patience_s)

    def is_hopeless(self, listed: Status) -> bool:
        """Whether a job that waits has been listed as one that can never start for long enough."""
        self.hopeless = self.hopeless + 1 if listed.hopeless and listed.state is JobState.waiting else 0
        return self.hopeless >= HOPELESS_POLLS

    def judge(
        self, listed: Status | None, record: Status | None, now_s: float, settle_s: float, *, doubted: bool = False
    ) -> Status:
        """Where it is, from what the batch system tells and what the job itself has written, if there is either."""
        if listed is not None and not listed.state.ended:
            self.is_there()
            return listed
        killed = listed is not None and listed.reason in _KILLED
        if record is not None:
            return replace(record, reason=listed.reason) if listed is not None and killed and record.reason else record
        self.is_missing(now_s)
        late = self.may_still_come(now_s, settle_s, doubted=doubted)
        if listed is not None and not late and listed.state is JobState.finished:
            return listed
        if listed is not None and (killed or not late):
            return replace(listed, state=JobState.terminated, reason=listed.reason or Reason.VANISHED)
        return Status(JobState.completing) if late else Status(JobState.terminated, reason=Reason.VANISHED)
