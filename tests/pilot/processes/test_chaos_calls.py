"""A small round of the chaos gate for calls (see chaos_calls.py), and that it would notice."""

from __future__ import annotations

from pathlib import Path

import chaos_calls
import patience
import pytest

CALLS, FAULTS = (3000, 5) if patience.THOROUGH else (1000, 2)
KILLED, LIVE = 6, 7


@pytest.mark.timeout(chaos_calls.PATIENCE_S + 100)
def test_each_call_has_its_result_or_says_why(wd: Path) -> None:
    """Whatever is killed while the calls run."""
    chaos = chaos_calls.Round(wd, 1, CALLS)
    try:
        assert chaos.run(FAULTS) == []
    finally:
        chaos.end()


@pytest.mark.parametrize(
    ("results", "lines", "violations"),
    [
        ([0, 3], ["0 9 7", "1 9 7"], []),
        ([0, "killed"], ["0 9 7"], []),
        ([0], ["0 9 6", "0 9 7"], []),
        ([0, 4], ["0 9 7", "1 9 7"], ["call 1 gave 4"]),
        ([0, 3], ["0 9 7"], ["call 1 was never executed"]),
        ([0], ["0 9 7", "0 9 7"], ["call 0 was executed 2 times"]),
        (["killed", "killed"], [], ["2 calls are lost, 1 function workers were killed"]),
    ],
)
def test_what_is_noticed(results: list[int | str], lines: list[str], violations: list[str]) -> None:
    assert chaos_calls.broken_promises(results, lines, {KILLED}, 1) == violations
