"""jobs.report and final_status.json on disk."""

from __future__ import annotations

import json
import logging
import os
import resource
from pathlib import Path

import msgspec
import pytest

from pilotfish.pilot.manager.reporter import Reporter, write_final_status
from pilotfish.pilot.model.states import State
from pilotfish.pilot.wire.replies import JobCounts, NodeCounts, Status, System, TaskCounts
from pilotfish.pilot.wire.report import ReportEntry, encode_json


def entry(name: str, message: str = "") -> ReportEntry:
    return ReportEntry(name, State.SUCCEED, [(State.QUEUED, 1.0)], None, messages=message)


def begun(path: Path, *entries: ReportEntry) -> Reporter:
    """A report with these entries, as a manager begins with those of its journal."""
    reporter = Reporter(path, "json")
    for each in entries:
        reporter.add(each)
    reporter.write()
    return reporter


def test_entries_come_in_order_and_with_the_turns_write(tmp_path: Path) -> None:
    path = tmp_path / "jobs.report"
    reporter = begun(path)
    assert path.read_bytes() == b""
    reporter.add(entry("a"))
    reporter.add(entry("b"))
    assert path.read_bytes() == b""
    reporter.write()
    assert path.read_bytes() == encode_json(entry("a")) + encode_json(entry("b"))
    reporter.add(entry("c"))
    reporter.close()
    assert [json.loads(line)["name"] for line in path.read_text().splitlines()] == ["a", "b", "c"]
    assert os.listdir(tmp_path) == ["jobs.report"]


def test_after_a_resume_each_ending_is_there_once(tmp_path: Path) -> None:
    path = tmp_path / "jobs.report"
    path.write_bytes(encode_json(entry("a")) + encode_json(entry("b"))[:10])
    reporter = begun(path, entry("a"), entry("b"))
    reporter.add(entry("c"))
    reporter.close()
    assert [json.loads(line)["name"] for line in path.read_text().splitlines()] == ["a", "b", "c"]


def test_a_large_report_is_rebuilt_whole_before_it_replaces_the_old(tmp_path: Path) -> None:
    path = tmp_path / "jobs.report"
    many = [entry(f"j:{number}", "m" * 1000) for number in range(2500)]
    begun(path, *many).close()
    assert path.read_bytes() == b"".join(map(encode_json, many))


def test_a_full_disk_is_logged_once_and_nothing_is_missing_after_it(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "jobs.report"
    reporter = begun(path)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    with caplog.at_level(logging.WARNING):
        resource.setrlimit(resource.RLIMIT_FSIZE, (100, hard))
        try:
            for name in ("a", "b", "c"):
                reporter.add(entry(name, "m" * 200))
                reporter.write()
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        assert path.stat().st_size == 100
        reporter.close()
    assert path.read_bytes() == b"".join(encode_json(entry(name, "m" * 200)) for name in "abc")
    assert [record.message for record in caplog.records] == ["report.failed", "report.recovered"]


def test_a_folder_that_is_gone_does_not_stop_the_service(tmp_path: Path) -> None:
    reporter = Reporter(tmp_path / "gone" / "jobs.report", "text")
    reporter.add(entry("a"))
    for _ in range(2):
        reporter.write()
    (tmp_path / "gone").mkdir()
    reporter.close()
    assert (tmp_path / "gone" / "jobs.report").read_text().startswith("a (SUCCEED) \n\t")


def test_final_status_is_indented_by_two(tmp_path: Path) -> None:
    status = Status(System(), NodeCounts(), JobCounts(0, 0, 0, 0, 0), TaskCounts(0, 0, 0, 0, 0))
    write_final_status(tmp_path / "final_status.json", status)
    text = (tmp_path / "final_status.json").read_text()
    assert text == json.dumps(msgspec.to_builtins(status), indent=2) + "\n"
    assert '\n    "StatusPublisher": null,\n' in text


def test_a_report_whose_beginning_nobody_can_tell_again_begins_with_the_older_one(tmp_path: Path) -> None:
    """As after a compaction of the journal: endings of removed jobs are only in the older report."""
    path = tmp_path / "jobs.report"
    older = encode_json(entry("removed")) + encode_json(entry("kept"))
    path.write_bytes(older + encode_json(entry("later"))[:10])
    reporter = Reporter(path, "json")
    reporter.add(entry("kept", "m" * (2 << 20)))  # too much for memory: it is in the draft already
    reporter.begin_with(len(older))
    reporter.add(entry("later"))
    assert reporter.sync() == path.stat().st_size
    reporter.close()
    assert [json.loads(line)["name"] for line in path.read_text().splitlines()] == ["removed", "kept", "later"]


def test_an_older_report_that_is_gone_is_made_up_for_as_far_as_possible(tmp_path: Path) -> None:
    reporter = Reporter(tmp_path / "jobs.report", "json")
    reporter.add(entry("kept"))
    reporter.begin_with(1000)
    reporter.close()
    assert (tmp_path / "jobs.report").read_bytes() == encode_json(entry("kept"))
