"""A few rounds of the chaos gate (see chaos.py), and that it would notice.

PILOTFISH_TEST_CHAOS=20 does 20 rounds instead of a few; 20:7 those from seed 7 on; 20:7:3000 with 3,000 tasks in each.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import chaos
import pytest
from real_pilot import Execution, Work


def _wanted() -> tuple[Sequence[int], int]:
    """Seeds, and how many tasks a round has."""
    rounds, first, tasks = [*os.environ.get("PILOTFISH_TEST_CHAOS", "2").split(":"), "", ""][:3]
    return range(int(first or 1), int(first or 1) + int(rounds)), int(tasks or chaos.SMALL_ROUND)


SEEDS, TASKS = _wanted()


@pytest.fixture(scope="module")
def total() -> Iterator[chaos.Outcome]:
    """All rounds of this process; what they were is said at the end."""
    outcome = chaos.Outcome("total")
    yield outcome
    chaos.write_down(outcome.line())


@pytest.mark.timeout(chaos.PATIENCE_S + 300)
@pytest.mark.parametrize("seed", SEEDS)
def test_nothing_is_lost_doubled_or_failed(wd: Path, total: chaos.Outcome, seed: int) -> None:
    a_round = chaos.Round(wd, seed, TASKS)
    outcome = a_round.run()
    total.add(outcome)
    chaos.write_down(outcome.line())
    assert outcome.violations == [], a_round.story()


KILLED = 7
LIVE, OTHER = 8, 9
WHOLE, BROKEN = Execution(LIVE, has_ended=True), Execution(LIVE)
LOST = Execution(KILLED)
GIVEN_UP = 6
EXCUSES = chaos.Excuses(killed={KILLED}, given_up={GIVEN_UP}, losses=1)


@pytest.mark.parametrize(
    "runs",
    [
        [WHOLE],
        [LOST, WHOLE],
        [Execution(KILLED, has_ended=True)],
        [LOST, LOST, WHOLE],
        [Execution(GIVEN_UP, has_ended=True, is_overlapped=True), WHOLE],
    ],
)
def test_what_was_run_again_because_its_agent_was_lost_breaks_no_promise(runs: list[Execution]) -> None:
    assert chaos.broken_promises({"j": 1}, {"j:0": runs}, Counter(["j", "j:0"]), EXCUSES) == []


@pytest.mark.parametrize(
    ("runs", "said"),
    [
        ([], "j:0 was run never: not to its end"),
        ([BROKEN], "j:0 was run by 8 not to its end: not to its end"),
        ([LOST], "j:0 was run by 7 not to its end: not to its end"),
        (
            [WHOLE, Execution(OTHER, has_ended=True)],
            "j:0 was run by 8 to its end, by 9 to its end: more than once by agents that live",
        ),
        (
            [Execution(KILLED, has_ended=True, is_overlapped=True), WHOLE],
            "j:0 was run by 7 to its end, beside the next one, by 8 to its end: two at a time",
        ),
    ],
)
def test_executions_that_break_a_promise_are_said(runs: list[Execution], said: str) -> None:
    assert chaos.broken_promises({"j": 1}, {"j:0": runs}, Counter(["j", "j:0"]), EXCUSES) == [said]


def test_a_task_of_several_nodes_is_run_again_as_often_as_one_of_its_agents_was_lost() -> None:
    names = Counter(["spread", "spread:0"])
    once, twice = {"spread:0": [BROKEN, WHOLE]}, {"spread:0": [BROKEN, BROKEN, WHOLE]}
    assert chaos.broken_promises({"spread": 1}, once, names, EXCUSES) == []
    assert len(chaos.broken_promises({"spread": 1}, twice, names, EXCUSES)) == 2


@pytest.mark.parametrize(
    ("endings", "said"),
    [
        (["j"], "j:0 is in the report 0 times instead of 1"),
        (["j", "j", "j:0"], "j is in the report 2 times instead of 1"),
        (["j", "j:0", "j:1"], "j:1 is in the report 1 times instead of 0"),
    ],
)
def test_endings_that_were_lost_or_doubled_are_said(endings: list[str], said: str) -> None:
    assert chaos.broken_promises({"j": 1}, {"j:0": [WHOLE]}, Counter(endings), EXCUSES) == [said]


def test_tasks_write_down_who_ran_them_and_whether_they_overlapped(wd: Path) -> None:
    work = Work(wd)
    (wd / "runs").write_text("S j:0 7 100\nS j:0 8 101\nE j:0 8 101\nE j:0 7 100\nS j:1 8 102\n")
    assert work.executions() == {
        "j:0": [Execution(7, has_ended=True, is_overlapped=True), Execution(8, has_ended=True)],
        "j:1": [Execution(8)],
    }
