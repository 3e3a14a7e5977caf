"""The index of streams: a task's part of the files is found, also after a kill."""

from __future__ import annotations

from pathlib import Path

import pytest

from pilotfish.pilot.wire.streams import FOLDER, HEADER, NOTHING, Entry, Index, Kept, Part


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / FOLDER
    folder.mkdir()
    return folder


def ended(task: str, attempt: int, out: Kept, err: Kept = NOTHING) -> str:
    return Entry(task, attempt, attempt + 3, 0, out, err).line()


def running(task: str, attempt: int, file: str) -> str:
    return Entry(task, attempt, attempt + 3, None, Kept(file, 0, None)).line()


def test_the_parts_of_a_task_are_found_by_its_name(folder: Path) -> None:
    lines = ended("a:1", 1, Kept("out", 0, 4)), ended("a:11", 1, Kept("out", 4, 3), Kept("err", 0, 2))
    (folder / "w0.index").write_text(HEADER + "".join(lines))
    (folder / "w0.out").write_bytes(b"one\ntwo")
    (folder / "w0.err").write_bytes(b"!\n")
    index = Index(folder.parent)
    assert lines[1] == "a:11\t1\t4\t0\tout\t4\t3\terr\t0\t2\n"
    assert index.part("a:1", False) == Part(folder / "w0.out", 0, 4)
    assert [part.read() for part in (index.part("a:11", False), index.part("a:11", True)) if part] == [b"two", b"!\n"]
    assert index.part("a:1", True) is None
    assert index.part("a", False) is None


def test_the_latest_attempt_counts_unless_one_is_named(folder: Path) -> None:
    (folder / "w0.index").write_text(HEADER + ended("a", 1, Kept("out", 0, 4)))
    (folder / "w1.index").write_text(HEADER + running("a", 2, "3.out") + ended("a", 2, Kept("out", 0, 7)))
    assert Index(folder.parent).part("a", False) == Part(folder / "w1.out", 0, 7)
    assert Index(folder.parent).part("a", False, 1) == Part(folder / "w0.out", 0, 4)


def test_a_task_that_was_killed_with_its_worker_has_what_it_had_written(folder: Path) -> None:
    """The line of its beginning is all there is; that of another task is torn."""
    torn = ended("c", 1, Kept("out", 3, 2))[:-3]
    (folder / "w0.index").write_text(HEADER + ended("a", 1, Kept("out", 0, 3)) + running("b", 1, "0.out") + torn)
    (folder / "w0.0.out").write_bytes(b"half a li")
    part = Index(folder.parent).part("b", False)
    assert part is not None
    assert (part.size, part.read()) == (None, b"half a li")
    assert Index(folder.parent).find("c") is None


def test_only_the_end_of_a_part_is_read_if_that_will_do(folder: Path) -> None:
    (folder / "w0.out").write_bytes(b"0123456789")
    assert Part(folder / "w0.out", 2, 5).read(3) == b"456"
    assert Part(folder / "w0.out", 2, 5).read(30) == b"23456"
    assert Part(folder / "w0.out", 2, 5).read(skip=4) == b"6"
