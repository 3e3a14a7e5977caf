"""Stretches of tasks in frames."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from pilotfish.pilot.model.ids import JobNo, PoolId
from pilotfish.pilot.wire import frames
from pilotfish.pilot.wire.frames import TaskStart

JOB = JobNo(7)


def test_consecutive_positions_are_one_start() -> None:
    attempts = [(5, 1, 1), (6, 1, 1), (7, 1, 1), (9, 1, 1), (10, 2, 1), (11, 2, 1), (12, 2, 2), (3, 1, 1)]
    assert list(frames.stretches(JOB, 100, attempts)) == [
        TaskStart(JOB, 5, 1, 105, "105", 1, 3),
        TaskStart(JOB, 9, 1, 109, "109", 1, 1),
        TaskStart(JOB, 10, 2, 110, "110", 1, 2),
        TaskStart(JOB, 12, 2, 112, "112", 2, 1),
        TaskStart(JOB, 3, 1, 103, "103", 1, 1),
    ]


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(1, 2), st.integers(1, 2)), max_size=30))
def test_an_agent_gets_each_task_once_and_in_order(attempts: list[tuple[int, int, int]]) -> None:
    starts = list(frames.stretches(JOB, 100, attempts))
    (work,) = frames.decode_to_agent(frames.encode([frames.Work([], [], {PoolId(1): starts})]))
    assert isinstance(work, frames.Work)
    expected = [TaskStart(JOB, pos, run, 100 + pos, str(100 + pos), attempt) for pos, run, attempt in attempts]
    assert list(frames.each(work.tasks[PoolId(1)])) == expected


def test_a_task_without_an_index_stays_as_it_is() -> None:
    start = TaskStart(JOB, 0, 3, None, None)
    assert list(frames.each([start])) == [start]
