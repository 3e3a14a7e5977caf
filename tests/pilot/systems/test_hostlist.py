"""Compressed lists as batch systems write them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilotfish.pilot.model.errors import SettingsError
from pilotfish.pilot.systems import hostlist


@pytest.mark.parametrize(
    ("text", "hosts"),
    [
        ("a", ["a"]),
        ("a,b", ["a", "b"]),
        ("n[1-3,7]", ["n1", "n2", "n3", "n7"]),
        ("n[01-03]", ["n01", "n02", "n03"]),
        ("n[9-11]", ["n9", "n10", "n11"]),
        ("r[1-2]n[3-4]", ["r1n3", "r1n4", "r2n3", "r2n4"]),
        ("a,b[2-3]-ib", ["a", "b2-ib", "b3-ib"]),
        ("b2,a1", ["b2", "a1"]),
    ],
)
def test_hosts_come_in_order_with_their_zeros(text: str, hosts: list[str]) -> None:
    assert hostlist.hosts(text, "X") == hosts


@pytest.mark.parametrize("text", ["n[1-", "n[a]", "n[3-1]", "n]", "n[1-[2]]", "n[1-999999999]", "a,,b"])
def test_what_is_no_host_list_is_refused_with_its_place(text: str) -> None:
    with pytest.raises(SettingsError, match=r"^X: "):
        hostlist.hosts(text, "X")


@given(st.lists(st.integers(1, 64), min_size=1, max_size=20))
def test_counts_come_back_from_their_compressed_form(counts: list[int]) -> None:
    parts: list[tuple[int, int]] = []
    for count in counts:
        if parts and parts[-1][0] == count:
            parts[-1] = (count, parts[-1][1] + 1)
        else:
            parts.append((count, 1))
    text = ",".join(f"{count}(x{times})" if times > 1 else str(count) for count, times in parts)
    assert hostlist.counts(text, "X") == counts


@given(st.sets(st.integers(0, 200), min_size=1))
def test_ids_come_back_from_their_ranges(numbers: set[int]) -> None:
    text = ",".join(f"{number}-{number}" if number % 2 else str(number) for number in sorted(numbers))
    assert hostlist.ids(text, "X") == sorted(numbers)
    compressed = hostlist.compressed([str(number) for number in sorted(numbers)])
    assert hostlist.ids(compressed, "X") == sorted(numbers)


def test_ids_that_are_no_numbers_stay_as_they_are() -> None:
    assert hostlist.compressed(["0&4", "1&5", "2", "3", "GPU-1"]) == "0&4,1&5,2-3,GPU-1"


def test_counts_that_make_no_sense_are_refused() -> None:
    with pytest.raises(SettingsError, match=r'X: "4\(y2\)" is not a list of counts; expected is e.g. 4\(x2\),2'):
        hostlist.counts("4(y2)", "X")
