"""`JobInfo` reads what a jobInfo reply holds, ours and an original service's."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest

from pilotfish.api.jobinfo import JobInfo

OLD = {
    "jobName": "a",
    "status": "SUCCEED",
    "runtime": {"allocation": "n1[0:1],n2[4]", "wd": "/w", "rtime": "0:00:02.500000"},
    "history": "2026-01-02 03:04:05.678900: QUEUED\n2026-01-02 03:04:08.000000: SUCCEED\n",
}


def test_an_original_services_entry() -> None:
    info = JobInfo.from_job(OLD)
    assert (info.name, info.status, info.wdir) == ("a", "SUCCEED", "/w")
    assert (info.nodes, info.total_cores) == ({"n1": ["0", "1"], "n2": ["4"]}, 3)
    assert info.time == timedelta(seconds=2.5)
    assert info.history == [
        (datetime(2026, 1, 2, 3, 4, 5, 678900), "QUEUED"),
        (datetime(2026, 1, 2, 3, 4, 8), "SUCCEED"),
    ]
    assert info.exit_code is None


def test_what_we_add_has_its_type() -> None:
    ours = {"exit_code": "3", "cpu_s": "0.25", "max_rss_kib": "1024", "attempts": "2", "node": "n1"}
    info = JobInfo.from_job({"jobName": "a", "status": "FAILED", "runtime": ours})
    assert (info.exit_code, info.cpu_s, info.max_rss_kib, info.attempts, info.node) == (3, 0.25, 1024, 2, "n1")


def test_iterations_and_their_children() -> None:
    counts = {"start": 2, "stop": 4, "total": 2, "finished": 1, "failed": 1}
    childs = [{"iteration": 2, "state": "SUCCEED"}, {"iteration": 3, "state": "FAILED", "messages": "why"}]
    info = JobInfo.from_job({"jobName": "a", "status": "FAILED", "iterations": counts, "childs": childs})
    assert info.iterations == counts
    assert [(child.name, child.iteration, child.status, child.messages) for child in info.childs] == [
        ("a:2", 2, "SUCCEED", None),
        ("a:3", 3, "FAILED", "why"),
    ]


@pytest.mark.parametrize(
    ("text", "duration"),
    [
        ("0:00:01.500000", timedelta(seconds=1.5)),
        ("0:00:07", timedelta(seconds=7)),
        ("1 day, 2:03:04", timedelta(days=1, hours=2, minutes=3, seconds=4)),
        ("12 days, 0:00:00.25", timedelta(days=12, seconds=0.25)),
        ("0", timedelta()),
        ("soon", None),
    ],
)
def test_every_form_of_a_run_time_is_read(text: str, duration: timedelta | None) -> None:
    assert JobInfo.from_job({"jobName": "a", "status": "SUCCEED", "runtime": {"rtime": text}}).time == duration
