"""A run that QCG-PilotJob has begun goes on here: what had ended is taken as ended, the rest runs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pilotfish import LocalManager
from pilotfish.pilot.manager.original_run import REQUESTS, STATES, is_original, take_over
from pilotfish.pilot.model.errors import JournalError

ONE_CORE = {"resources": {"numCores": {"exact": 1}}}


def _job(name: str, script: str, **more: Any) -> dict[str, Any]:
    """As the original writes it down, with what it leaves empty."""
    execution: dict[str, Any] = {"exec": None, "args": [], "env": {}, "script": script, "model_opts": {}}
    return {"name": name, "execution": execution, **ONE_CORE, **more}


def _write(path: Path, values: list[Any]) -> None:
    path.write_text("".join(f"{json.dumps(value)}\n" for value in values))


def _ended(task: str, state: str, iteration: int | None = None) -> dict[str, Any]:
    return {"task": task, "iteration": iteration, "state": state}


@pytest.fixture
def folder(wd: Path) -> Path:
    aux = wd / ".qcgpjm-service-old"
    aux.mkdir(mode=0o700)
    return aux


def test_a_run_of_the_original_is_continued(folder: Path, wd: Path) -> None:
    """`many` had ended at two of its iterations, out of order; all others but `last` had ended."""
    iteration = {"start": 5, "stop": 9, "values": None}
    _write(
        folder / REQUESTS,
        [
            _job("many", "echo $QCG_PM_JOB_ID ${it} >> out", iteration=iteration),
            _job("good", "echo again >> out"),
            _job("bad", "echo again >> out"),
            _job("dropped", "echo again >> out"),
            _job("lost", "echo again >> out", dependencies={"after": ["bad"]}),
            _job("last", "echo last >> out", dependencies={"after": ["many", "good"]}),
        ],
    )
    states = [_ended("many:7", "SUCCEED", 7), _ended("good", "SUCCEED"), _ended("bad", "FAILED")]
    _write(
        folder / STATES,
        [*states, _ended("dropped", "CANCELED"), _ended("many:5", "FAILED", 5), _ended("lost", "OMITTED")],
    )
    history = [
        {"state": "QUEUED", "date": "2026-01-02T03:04:04"},
        {"state": "EXECUTING", "date": "2026-01-02T03:04:05.500000"},
        {"state": "SUCCEED", "date": "2026-01-02T03:04:07.250000"},
    ]
    entry = {"name": "good", "state": "SUCCEED", "history": history, "runtime": {"pid": "77", "exit_code": "0"}}
    _write(folder / "jobs.report", [entry])
    with LocalManager(["--resume", wd, "--nodes", "1"]) as pilot:
        pilot.wait4all()
        found = pilot.info_parsed(["many", "good", "bad", "dropped", "lost", "last"], withChilds=True)
    assert {name: info.status for name, info in found.items()} == {
        "many": "FAILED",  # at one of its iterations
        "good": "SUCCEED",
        "bad": "FAILED",
        "dropped": "CANCELED",
        "lost": "OMITTED",
        "last": "OMITTED",
    }
    assert [(child.name, child.status) for child in found["many"].childs] == [
        ("many:5", "FAILED"),
        ("many:6", "SUCCEED"),
        ("many:7", "SUCCEED"),
        ("many:8", "SUCCEED"),
    ]
    assert (wd / "out").read_text().split() == ["6", "8"]
    times = [str(time) for time, state in found["good"].history if state != "QUEUED"]
    assert times == ["2026-01-02 03:04:05.500000"] * 2 + ["2026-01-02 03:04:07.250000"]
    assert found["bad"].messages == "failed under QCG-PilotJob"
    assert json.loads((folder / "jobs.report.original").read_text()) == entry
    assert not is_original(folder)


def test_a_torn_last_line_does_not_count(folder: Path) -> None:
    """The original was killed while it wrote it."""
    _write(folder / REQUESTS, [_job("a", "true")])
    (folder / STATES).write_text('{"task": "a", "iter')
    take_over(folder)
    assert not is_original(folder)


@pytest.mark.parametrize(
    ("requests", "states", "text"),
    [
        (["a"], [], f"{REQUESTS}: line 1: jobs[0]: Wrong submit request - wrong job data"),
        (
            [_job("a", "true", resources={"numCores": {"exact": 0}})],
            [],
            "line 1: jobs[0].resources.numCores: 0 is too few",
        ),
        ([_job("a", "true"), _job("a", "true")], [], f"{REQUESTS}: line 2: is job a a second time"),
        ([_job("a", "true")], [_ended("b", "SUCCEED")], f"{STATES}: line 1: is no task of track.reqs that has ended"),
        ([_job("a", "true")], [_ended("a:0", "SUCCEED", 0)], f"{STATES}: line 1: is no task of track.reqs"),
        ([_job("a", "true")], [{"task": "a"}], f"{STATES}: line 1: is no task of track.reqs"),
    ],
)
def test_a_line_that_makes_no_sense_is_named_and_nothing_is_written(
    requests: list[Any], states: list[Any], text: str, folder: Path
) -> None:
    _write(folder / REQUESTS, requests)
    _write(folder / STATES, states)
    with pytest.raises(JournalError) as error:
        take_over(folder)
    assert text in str(error.value)
    assert is_original(folder)


def test_a_line_that_is_no_json_is_named(folder: Path) -> None:
    (folder / REQUESTS).write_text("{\n")
    with pytest.raises(JournalError, match=r"track\.reqs: line 1: is no JSON; correct the line"):
        take_over(folder)
