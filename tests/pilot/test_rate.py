"""How fast work gets done."""

from __future__ import annotations

from pilotfish.pilot.rate import Rate


def test_the_rate_is_that_of_the_last_minute() -> None:
    rate = Rate()
    for second in range(200):
        rate.note(float(second), second * 2 if second < 100 else 200 + (second - 100) * 10)
    assert rate.per_s == 10.0
    assert rate.left_s(50) == 5.0


def test_when_nothing_has_ended_in_it_the_rate_is_that_of_all_the_time() -> None:
    rate = Rate()
    for second in range(0, 1001, 10):
        rate.note(float(second), int(second >= 500))
    assert rate.per_s == 0.001
    assert rate.left_s(2) == 2000.0


def test_nothing_is_said_before_something_has_ended() -> None:
    rate = Rate()
    assert rate.per_s is None
    rate.note(0.0, 7)
    rate.note(5.0, 7)
    assert rate.per_s is None
    assert rate.left_s(1) is None


def test_looks_in_quick_succession_are_kept_as_one() -> None:
    rate = Rate()
    for look in range(1000):
        rate.note(look / 100, look)
    assert rate.per_s == 100.0
    assert len(rate._looks) < 15


def test_a_count_that_falls_begins_anew() -> None:
    rate = Rate()
    rate.note(0.0, 10)
    rate.note(5.0, 20)
    rate.note(6.0, 3)
    assert rate.per_s is None
    rate.note(8.0, 7)
    assert rate.per_s == 2.0
