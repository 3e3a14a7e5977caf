"""Ends of tasks in reports: columns for what nothing distinguishes."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from pilotfish.pilot.model.ids import GrantId, JobNo
from pilotfish.pilot.model.states import Cause
from pilotfish.pilot.wire import frames
from pilotfish.pilot.wire.ends import ends_of, together


def end(pos: int, job_no: int = 1, grant: int = 5, code: int = 0, returns: bool = False) -> frames.Finished:
    times = 1000.0 + pos, 1001.0 + pos
    message = f"killed by signal {-code}" if code < 0 else ""
    return frames.Finished(
        JobNo(job_no), pos, 1, GrantId(grant), 70 + pos, *times, code, Cause.EXITED, 0.5, 9, message, returns
    )


def report(ends: list[frames.Finished]) -> frames.Report:
    """As it arrives."""
    succeeded, finished = together(ends)
    (found,) = frames.decode_to_manager(frames.encode([frames.Report(1, [], finished, [], [], succeeded)]))
    assert isinstance(found, frames.Report)
    return found


def test_what_is_equal_is_said_once() -> None:
    assert report([end(3), end(4, grant=6), end(9)]) == frames.Report(
        1,
        [],
        [],
        [],
        [],
        [
            frames.Succeeded(
                JobNo(1),
                1,
                False,
                [3, 4, 9],
                [GrantId(5), GrantId(6), GrantId(5)],
                [73, 74, 79],
                [1003.0, 1004.0, 1009.0],
                [1004.0, 1005.0, 1010.0],
                [0.5, 0.5, 0.5],
                [9, 9, 9],
            )
        ],
    )


def test_ends_that_mean_something_and_single_ones_stay_by_themselves() -> None:
    ends = [end(0), end(1, code=3), end(2, code=-9), end(0, job_no=2), end(3), end(4, returns=True)]
    found = report(ends)
    assert found.finished == [ends[1], ends[2], ends[3], ends[5]]
    assert [ends.pos for ends in found.succeeded] == [[0, 3]]
    assert report(ends[:1]).finished == ends[:1]


def test_ends_that_give_their_grants_back_are_taken_in_last() -> None:
    """A grant that is not there any more tells nothing of where a task has run."""
    ends = [end(0, grant=5, code=1), end(1, grant=5, returns=True), end(2, grant=6), end(3, grant=6, returns=True)]
    found = report([*ends, end(4, grant=7)])
    assert [(ends.pos, ends.returns_grants) for ends in found.succeeded] == [([1, 3], True), ([2, 4], False)]
    assert [each.pos for each in ends_of(found)] == [2, 4, 0, 1, 3]


CODES = st.sampled_from([0, 0, 0, 1, -9])


@given(st.lists(st.tuples(st.integers(1, 3), st.integers(1, 2), CODES, st.booleans()), max_size=12))
def test_each_end_arrives_once_as_it_was_and_before_the_one_with_which_its_grant_goes_back(
    drawn: list[tuple[int, int, int, bool]],
) -> None:
    """Ends of one grant follow each other; the last one may give it back, and later ones are of other grants."""
    ends, gone = [], set()
    for pos, (job_no, grant, code, returns) in enumerate(drawn):
        if grant not in gone:
            ends.append(end(pos, job_no, grant, code, returns))
            gone |= {grant} if returns else set()
    arrived = list(ends_of(report(ends)))
    assert sorted(arrived) == sorted(ends)
    for grant in gone:
        assert [each.returns_grant for each in arrived if each.grant_id == grant][-1]
