"""Runs of QCG-PilotJob itself, and its commands: `qcg-pm-report` and `qcg-pm-processes` as `pilotfish with qcg` serves them."""

from __future__ import annotations

import json
import shutil
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from click.testing import CliRunner
from past_run import PastRun

from pilotfish.api import report_cli

RUN = Path(__file__).parent / "original_run"


def ask(*words: str) -> str:
    """What `pilotfish report` prints."""
    done = CliRunner().invoke(report_cli.report, list(words), catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.stdout


@pytest.fixture
def original(wd: Path) -> Path:
    """The working folder of a run of QCG-PilotJob 0.14.2, as it wrote it."""
    folder = wd / ".qcgpjm-service-vm.7685"
    folder.mkdir(mode=0o700)
    for name in ("jobs.report", "final_status.json"):
        shutil.copyfile(RUN / name, folder / name)
    return wd


def old(*words: str) -> str:
    """What qcg-pm-report prints."""
    done = CliRunner().invoke(report_cli.qcg_report, list(words), catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.stdout


def test_the_folder_of_an_original_gives_the_numbers_that_its_own_report_gives(original: Path) -> None:
    """The lines are those of its qcg-pm-report for this folder."""
    lines = old("stats", "--details", str(original)).splitlines()
    assert lines[:12] == [
        "\t          total jobs: 8",
        "\t         failed jobs: 1",
        "\t         total cores: 4",
        "\t         total nodes: 1",
        "\t     service started: 2026-11-28 09:44:39.767877",
        "\t    service finished: 2026-11-28 09:44:40.681247",
        "\t     service runtime: 0.91 secs",
        "\t       init overhead: 0.01 secs",
        "\t     finish overhead: 0.07 secs",
        "\t      total overhead: 0.07 secs",
        "\t      overhead ratio: 7.7 %",
        "\t overhead core-hours: 0.00",
    ]
    assert "\t                           max: 0.501654" in lines
    assert "\t                          mean: 0.30506875" in lines


@pytest.fixture
def measured(original: Path) -> Path:
    """With the times of its processes: each began 3 ms after its start was seen and ended 2 ms before, for `f` 0.5 ms."""
    times: dict[str, dict[str, str]] = {}
    for line in (original / ".qcgpjm-service-vm.7685/jobs.report").read_text().splitlines():
        entry = json.loads(line)
        at = {moment["state"]: datetime.fromisoformat(moment["date"]) for moment in entry["history"]}
        if "EXECUTING" in at:
            late, early = (0.5, 0.5) if entry["name"] == "f" else (3, 2)
            began, ended = (
                at["EXECUTING"] + timedelta(milliseconds=late),
                at[entry["state"]] - timedelta(milliseconds=early),
            )
            times[entry["name"]] = {"s": str(began), "f": str(ended)}
    (original / "rtimes_n0_2026-11-28_1.log").write_text(json.dumps({"node": "n0", "rt": times}))
    return original


RECORDED = {
    "rusage": ["--details"],
    "efficiency": ["--details"],
    "launch-stats": [],
    "jobs": [],
    "job": ["b"],
    "allocation": ["n0", "2"],
}
"""Of these there is in original_run/ what qcg-pm-report 0.14.2 printed of the folder with these words."""


@pytest.mark.parametrize("view", RECORDED)
def test_the_text_is_what_the_originals_own_report_printed(measured: Path, view: str) -> None:
    assert old(view, str(measured), *RECORDED[view]) == (RUN / f"{view}.txt").read_text()


def test_options_stand_anywhere_in_the_originals_commands(original: Path) -> None:
    lines = old("jobs", str(original), "--core", "2", "--state", "failed", "--details").splitlines()
    assert lines == [
        "\tf:",
        "\t        run-time (s): 0:00:00.001634",
        "\t        in queue (s): 2026-11-28 09:44:39.771922",
        "\t     in schedule (s): 2026-11-28 09:44:40.111711",
        "\t      start (by qcg): 2026-11-28 09:44:40.112170",
        "\t     finish (by qcg): 2026-11-28 09:44:40.113889",
        "\t        start (real): 0",
        "\t       finish (real): 0",
        "\t               nodes: {'n0': ['2']}",
        "\t          process id: 8444",
        "\t        process name: false",
        "\t               state: FAILED (1)",
    ]


def test_launches_of_an_original_are_known_only_where_they_were_measured(original: Path) -> None:
    """As its own report has it: from when the pilot took the task as started."""
    assert json.loads(ask(str(original), "launch-stats", "--json"))["generated_for_total_jobs"] == 0
    times = {"b": {"s": "2026-11-28 09:44:40.214346", "f": "2026-11-28 09:44:40.516094"}}
    (original / "rtimes_n0_1.log").write_text(json.dumps({"node": "n0", "rt": times}))
    (row,) = json.loads(ask(str(original), "launch-stats", "--details", "--json"))["jobs"]
    assert (row["task"], row["start_s"], row["finish_s"]) == ("b", *[pytest.approx(0.1, abs=1e-5)] * 2)


def test_pilotfish_report_takes_the_folder_too(original: Path) -> None:
    assert json.loads(ask(str(original), "stats", "--json"))["total_jobs"] == 8
    assert json.loads(ask(str(original / ".qcgpjm-service-vm.7685"), "rusage", "--json"))["used_cores"] == 4


def test_the_originals_command_takes_all_runs_of_a_folder_together(original: Path) -> None:
    with PastRun(original, {"n1": 2}) as run:
        run.job("other")
        run.task("other", {"n1": [0]}, 1, 2)
        run.close(3)
    assert old("stats", str(original)).startswith("\t          total jobs: 9\n")


def test_main_returns_an_exit_code(original: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert report_cli.main("qcg-pm-report", ["stats", str(original)]) == 0
    assert report_cli.main("qcg-pm-report", ["stats", str(original / "absent")]) == 2
    assert report_cli.main("qcg-pm-processes", ["apps", str(original), "a:0"]) == 0
    assert report_cli.main("qcg-pm-report", ["allocation", str(original), "n7", "0"]) == 2
    assert "there is no node 'n7'" in capsys.readouterr().err
