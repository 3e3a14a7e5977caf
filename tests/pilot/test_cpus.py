"""How the processors of a node are divided into slots."""

from __future__ import annotations

import os
from pathlib import Path

from pilotfish.pilot.cpus import Cpus, memory_domains, usable

TWO_SOCKETS = Cpus((((0, 8), (2, 10)), ((1, 9), (3, 11))))
"""Two sockets of two cores of two threads, numbered in turns as some machines do."""


def test_threads_go_socket_by_socket_and_first_threads_first() -> None:
    assert TWO_SOCKETS.threads == (0, 2, 8, 10, 1, 3, 9, 11)


def test_slots_are_threads_or_cores_by_their_count() -> None:
    assert TWO_SOCKETS.slots(8) == ("0", "2", "8", "10", "1", "3", "9", "11")
    assert TWO_SOCKETS.slots(4) == ("0&8", "2&10", "1&9", "3&11")
    assert TWO_SOCKETS.slots(3) is None


def test_a_core_of_which_one_thread_may_be_used_is_a_core() -> None:
    assert Cpus((((0,), (2, 10)),)).threads == (0, 2, 10)


def test_memory_domains_are_those_of_the_processors_that_may_be_used(tmp_path: Path) -> None:
    """A machine with one has none to choose between."""
    for number, processors in enumerate(("0-3", "4-7", "")):
        (tmp_path / f"node{number}").mkdir()
        (tmp_path / f"node{number}" / "cpulist").write_text(f"{processors}\n")
    assert memory_domains([1, 2, 6, 9], str(tmp_path)) == [[1, 2], [6]]
    assert memory_domains([1, 2], str(tmp_path)) == []
    assert memory_domains([1, 2], str(tmp_path / "nowhere")) == []


def test_this_machine_has_the_processors_of_our_affinity() -> None:
    assert set(usable().threads) == os.sched_getaffinity(0)
