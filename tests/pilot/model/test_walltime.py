"""Wall times and amounts of memory: every usual way of writing them, and an error for what says something else."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilotfish.pilot.model.errors import UsageError
from pilotfish.pilot.model.units import form_bytes, parse_bytes
from pilotfish.pilot.model.walltime import form, parse


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("5s", 5),
        ("1m", 60),
        ("1h30m5s", 5405),
        ("1h5s", 3605),
        ("1d", 86_400),
        ("1d2h", 93_600),
        ("10S", 10),
        ("0.5s", 0.5),
        (" 1h 30m ", 5400),
        ("02:30", 150),
        ("90:00", 5400),
        ("01:00:00", 3600),
        ("100:00:01.5", 360_001.5),
        ("2-12", 216_000),
        ("1-00:00:10", 86_410),
    ],
)
def test_wall_time(text: str, seconds: float) -> None:
    assert parse(text) == seconds


@pytest.mark.parametrize(
    "text",
    ["", " ", "10", "5s1h", "1h30", "1x", "-5s", "1:2:3:4", "1:75", "0s", "00:00", "1.5h", "٣s", "9" * 400 + "d"],
)
def test_what_is_no_wall_time_is_refused(text: str) -> None:
    with pytest.raises(UsageError):
        parse(text)


def test_the_error_shows_the_right_way() -> None:
    with pytest.raises(UsageError) as caught:
        parse("10")
    assert str(caught.value) == '"10" is not a wall time; write 1h30m, 90s or HH:MM:SS'


@pytest.mark.parametrize(
    ("seconds", "text"), [(5405, "1h30m5s"), (3600, "1h"), (0.25, "0.25s"), (90_061.5, "25h1m1.5s")]
)
def test_form(seconds: float, text: str) -> None:
    assert form(seconds) == text


@given(st.integers(min_value=1, max_value=10**13))
def test_a_formed_wall_time_is_parsed_to_itself(micros: int) -> None:
    seconds = micros / 1_000_000
    assert parse(form(seconds)) == seconds


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("4096", 4096),
        ("1000B", 1000),
        ("1k", 1024),
        ("500M", 500 << 20),
        ("2G", 2 << 30),
        ("2GiB", 2 << 30),
        ("2gb", 2 << 30),
        ("1.5 G", 3 << 29),
        ("1T", 1 << 40),
    ],
)
def test_memory(text: str, count: int) -> None:
    assert parse_bytes(text) == count


@pytest.mark.parametrize("text", ["", "G", "2X", "-1G", "1e3", "2GG", "9" * 400, "9" * 400 + "G"])
def test_what_is_no_amount_of_memory_is_refused(text: str) -> None:
    with pytest.raises(UsageError):
        parse_bytes(text)


@given(st.integers(min_value=1, max_value=1 << 50))
def test_a_formed_amount_is_parsed_to_itself(count: int) -> None:
    assert parse_bytes(form_bytes(count)) == count
