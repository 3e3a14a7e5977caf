"""How many tasks run now: those whose start has been reported, and those that must have started since."""

# An agent reports the start of a task with the end when that follows within 50 ms, so of short tasks nobody ever hears that
# they run. But what an agent holds tells as much: it starts what was sent to it as long as a grant is free. So of all grants,
# those that belong to no task that is known to run belong to one that has been sent (which takes a moment to start).
#
# Rejected: a count of starts for each pool. It would be exact by agent, and each task would pay for it.

from __future__ import annotations

from .jobs import Job
from .scheduler import Scheduler
from .states import State


def unreported(scheduler: Scheduler) -> int:
    """Tasks that count as sent and have cores all the same."""
    tasks_in = scheduler.jobs.tasks_in
    without_report = len(scheduler.dispatch.grants) - tasks_in[State.EXECUTING]
    return max(0, min(without_report, tasks_in[State.SCHEDULED]))


def running(scheduler: Scheduler) -> int:
    """Tasks of all jobs that run now."""
    return scheduler.jobs.tasks_in[State.EXECUTING] + unreported(scheduler)


def running_of(scheduler: Scheduler, job: Job) -> int:
    """Those of one job, at most: which of the unreported ones are of what job is not known."""
    sent = job.tasks.count(State.SCHEDULED)
    return job.tasks.count(State.EXECUTING) + (min(sent, unreported(scheduler)) if sent else 0)
