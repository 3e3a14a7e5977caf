"""Names for the numbers that travel: one type each, so they cannot be mixed up."""

from __future__ import annotations

from typing import NamedTuple, NewType

JobNo = NewType("JobNo", int)
"""Number of a job, counted from 1 over the life of a pilot (its journal); never used again, unlike names."""

NodeNo = NewType("NodeNo", int)
"""Place of a node in the allocation, from 0."""

GrantId = NewType("GrantId", int)
PoolId = NewType("PoolId", int)


class TaskKey(NamedTuple):
    """One attempt at one task.

    `pos` is the position in the job, from 0 (0 for a job without iterations; position 0 of `start: 5` is index 5).
    `run` counts the attempts at this task from 1, so a late result of an earlier attempt is recognised.
    """

    job_no: JobNo
    pos: int
    run: int


def split_name(name: str) -> tuple[str, str | None]:
    """`JOB` or `JOB:ITERATION` -> (job, iteration text or None), split at the first colon."""
    job, colon, iteration = name.partition(":")
    return job, iteration if colon else None
