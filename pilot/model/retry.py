"""What a job says of its failures: which of them are tried again, how often, when, and with how much more."""

# A rule is data. `rule_for` picks one for an end, from nothing but the job, how often the task has failed, and that end; so a
# replay of the journal picks the same, and nothing of it need be recorded.
#
# A task that is to have more memory or time leaves the need it shares with the others of its job: it gets a `Pending` of the
# larger one (`Grown`). One that is to pause is QUEUED and in no `Pending` until its time has come (`Retries.resting`); a
# manager that is started again counts the pause from the end that is in the journal.
#
# Invariant: a position is in `resting` only while it is QUEUED and no Pending can give it.
#
# Rejected: rules that count apart. Which rule has been used how often would be a second history of each task.

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from heapq import heappop, heappush

from .ids import JobNo
from .job_spec import JobSpec, Need, RetryRule
from .jobs import Grown, Job, Pending
from .queue import Queue, pending_of
from .registry import Registry
from .states import State


def rule_for(spec: JobSpec, failures: int, exit_code: int, reason: str) -> RetryRule | None:
    """The rule by which a task is tried again that has failed, for the first time after `failures` others; None: it is not.

    The first rule that is about such an end decides; an end of which no rule says anything counts for `retries`.
    """
    for rule in spec.retry:
        if rule.is_about(exit_code, reason):
            return rule if failures < rule.times else None
    return RetryRule(spec.retries) if failures < spec.retries else None


class Retries:
    """Prepares further attempts. `most_mem`: the most memory that a node has; 0 when one does not tell."""

    def __init__(self, jobs: Registry, queue: Queue, most_mem: Callable[[], int]) -> None:
        self._jobs = jobs
        self._queue = queue
        self._most_mem = most_mem
        self.resting: dict[tuple[JobNo, int], float] = {}
        """Until when tasks pause, in seconds since the epoch."""
        self._times: list[tuple[float, JobNo, int]] = []

    def prepare(self, job: Job, pos: int, rule: RetryRule, now: float) -> None:
        """A task that has just failed is about to go back to the queue, by this rule."""
        if rule.mem != 1.0 or rule.wt != 1.0:
            self._grow(job, pos, rule)
        if rule.pause_s > 0:
            until_s = now + rule.pause_s
            self.resting[job.no, pos] = until_s
            heappush(self._times, (until_s, job.no, pos))

    def wake(self, now: float) -> None:
        """Call now and then: the tasks whose pause is over wait for resources."""
        while self._times and self._times[0][0] <= now:
            until_s, job_no, pos = heappop(self._times)
            if self.resting.get((job_no, pos)) != until_s:
                continue  # cancelled, or found to be running after all
            del self.resting[job_no, pos]
            job = self._jobs.by_no(job_no)
            if job is not None and job.tasks.state(pos) is State.QUEUED:
                pending = pending_of(job, pos)
                pending.put_back(pos)
                pending.shape.add(pending)

    def _grow(self, job: Job, pos: int, rule: RetryRule) -> None:
        grown = job.grown = job.grown or Grown()
        entries = pending_of(job, pos).entries
        need, *others = [self._more(entry.shape.need, rule.mem) for entry in entries]
        wt_s = (grown.wt_s.get(pos) or job.spec.resources.wt_s or 0.0) * rule.wt
        if wt_s:
            grown.wt_s[pos] = wt_s
        shape = self._queue.shape(need, wt_s, job.spec.resources.min_time_s)
        pending = grown.pendings.get(shape.key)
        if pending is None:
            shapes = [self._queue.shape(other, wt_s, job.spec.resources.min_time_s) for other in others]
            pending = grown.pendings[shape.key] = Pending(job, shape, (), shapes)
        grown.of[pos] = pending

    def _more(self, need: Need, factor: float) -> Need:
        """As much as that, but no more than some node has: there it could never start."""
        most = self._most_mem()
        wanted = int(need.mem_bytes * factor)
        return replace(need, mem_bytes=max(need.mem_bytes, min(wanted, most) if most else wanted))
