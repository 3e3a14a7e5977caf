"""A run can be asked about by its name, while it is at work and after it has ended in any way."""

from __future__ import annotations

import csv
import io
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from patience import PATIENCE_S

from pilotfish import Run
from pilotfish.api.run_folder import find_run, name_run, runs_in
from pilotfish.pilot.model.errors import LostError, UsageError

SWEEP = ("run", "--quiet", "--nodes", "2", "--run-name", "monday", "--grid", "a=1,2,3")
COMMAND = ("--", "sh", "-c", "echo out {a}; echo err >&2; exit $(( {a} == 2 ))")


def pilotfish(wd: Path, *words: str, code: int = 0) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pilotfish", *words]
    done = subprocess.run(command, cwd=wd, capture_output=True, text=True, timeout=PATIENCE_S, check=False)
    assert done.returncode == code, done.stderr
    return done


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The working folder of a run `monday` of three tasks, of which task:1 failed."""
    wd = tmp_path_factory.mktemp("s")
    pilotfish(wd, *SWEEP, "--output", "out", *COMMAND, code=1)
    return wd


def test_a_run_tells_what_became_of_each_task_and_with_which_parameters(sweep: Path) -> None:
    run = Run("monday", sweep)
    rows = {row.task: row for row in run.tasks()}
    assert run.state == "ended"
    assert [rows[f"task:{index}"].params for index in range(3)] == [{"a": "1"}, {"a": "2"}, {"a": "3"}]
    failed = rows["task:1"]
    assert (failed.state, failed.exit_code, failed.reason, failed.attempts) == ("FAILED", 1, "exit code 1", 1)
    assert failed.seconds is not None
    assert (failed.stdout, failed.stderr) == (sweep / "out/task-1.out", sweep / "out/task-1.err")
    summary = run.summary()
    assert (summary.tasks, summary.succeeded, summary.failed, summary.left) == (3, 2, 1, 0)


def test_a_frame_has_typed_columns_beside_the_parameters(sweep: Path) -> None:
    frame = Run("monday", sweep).frame().sort_values("a")
    assert list(frame["a"]) == [1, 2, 3]
    assert list(frame["exit_code"]) == [0, 1, 0]
    assert frame["seconds"].dtype.kind == "f"


def test_show_has_the_failures_first_with_their_last_lines(sweep: Path) -> None:
    text = pilotfish(sweep, "show").stdout
    assert "run monday: ended, began 2" in text
    assert "  3 tasks: 2 succeeded, 1 failed\n  task:1 a=2: FAILED exit code 1\n    | err\n" in text


def test_show_filters_by_state_name_parameter_and_code(sweep: Path) -> None:
    for words in (["--state", "failed"], ["--task", "*:1"], ["--param", "a=2"], ["--code", "1"]):
        lines = pilotfish(sweep, "show", "monday", *words).stdout.splitlines()
        assert [line.split()[0] for line in lines] == ["TASK", "task:1"]
    assert "'a' is not NAME=VALUE; write --param alpha=0.1" in pilotfish(sweep, "show", "--param", "a", code=2).stderr


def test_tables_for_other_programs(sweep: Path, tmp_path: Path) -> None:
    rows = list(csv.DictReader(io.StringIO(pilotfish(sweep, "show", "--csv").stdout)))
    assert sorted((row["a"], row["task"], row["exit_code"]) for row in rows) == [
        ("1", "task:0", "0"),
        ("2", "task:1", "1"),
        ("3", "task:2", "0"),
    ]
    told = json.loads(pilotfish(sweep, "show", "--json", "--code", "1").stdout)
    assert (told["version"], told["name"], told["failed"]) == (1, "monday", 1)
    assert [row["params"] for row in told["selected"]] == [{"a": "2"}]
    pilotfish(sweep, "show", "--parquet", str(tmp_path / "t.parquet"))
    from pyarrow import parquet

    table = parquet.read_table(tmp_path / "t.parquet")
    assert sorted(table.column("a").to_pylist()) == [1, 2, 3]
    kinds = {field.name: str(field.type) for field in table.schema}
    assert (kinds["a"], kinds["exit_code"], kinds["started"], kinds["seconds"], kinds["attempts"]) == (
        *("int64", "int64", "timestamp[us]", "double", "int64"),
    )


def test_polars_takes_a_run_too(sweep: Path) -> None:
    import polars

    frame = polars.from_arrow(Run("monday", sweep).arrow())
    assert isinstance(frame, polars.DataFrame)
    assert frame.sort("a").select("a", "exit_code", "state").rows() == [
        (1, 0, "SUCCEED"),
        (2, 1, "FAILED"),
        (3, 0, "SUCCEED"),
    ]


def test_what_a_task_has_written(sweep: Path) -> None:
    assert pilotfish(sweep, "cat", "last", "task:2").stdout == "out 3\n"
    assert pilotfish(sweep, "cat", "last", "task:2", "--stderr").stdout == "err\n"
    assert pilotfish(sweep, "tail", "last", "task:0", "-n", "1").stdout == "out 1\n"
    assert "run monday has no task 'task:7'" in pilotfish(sweep, "cat", "last", "task:7", code=2).stderr


def test_waiting_for_what_is_over_tells_how_it_ended(sweep: Path) -> None:
    pilotfish(sweep, "wait", "monday", code=1)
    told = json.loads(pilotfish(sweep, "runs", "--json").stdout)
    assert [(run["name"], run["state"], run["tasks"], run["left"]) for run in told["runs"]] == [
        ("monday", "ended", 3, 0)
    ]


def test_a_name_that_is_no_run_is_refused_with_the_nearest(sweep: Path) -> None:
    assert "there is no run 'mondya'; did you mean monday?" in pilotfish(sweep, "show", "mondya", code=3).stderr
    again = pilotfish(sweep, *SWEEP, *COMMAND, code=2).stderr
    assert "there is a run 'monday' already" in again
    for name in ("last", "a/b", "", ".x"):
        assert "cannot be the name of a run" in pilotfish(sweep, "run", "--run-name", name, "--", "true", code=2).stderr


def test_a_killed_run_tells_as_much_and_goes_on_under_its_name(wd: Path, wait_until: Callable[..., None]) -> None:
    command = [
        sys.executable,
        "-m",
        "pilotfish",
        *SWEEP,
        "--output",
        "out",
        "--",
        "sh",
        "-c",
        "[ {a} = 1 ] || sleep 600",
    ]
    run = subprocess.Popen(command, cwd=wd, start_new_session=True, stderr=subprocess.DEVNULL)
    try:
        name = wd / "pilotfish-runs/last"
        wait_until(lambda: name.exists() and Run("last", wd).summary().succeeded == 1, "its first task is known")
        assert Run("last", wd).state == "running"
        assert "it is running" in pilotfish(wd, "rm", "-y", "last", code=1).stderr
        pilotfish(wd, "wait", "--timeout", "0", code=75)
    finally:
        os.killpg(run.pid, signal.SIGTERM)
        assert run.wait(PATIENCE_S) == 143
    wait_until(lambda: Run("monday", wd).state != "running", "it is over")
    summary = Run("monday", wd).summary()
    assert (summary.succeeded, summary.left) == (1, 2)
    assert [row.state for row in Run("monday", wd).tasks()] == ["SUCCEED", "QUEUED", "QUEUED"]
    assert [run.name for run in runs_in(wd)] == ["monday"]


def test_removing_a_run_leaves_what_its_tasks_have_written(wd: Path) -> None:
    for name in ("one", "two"):
        pilotfish(wd, "run", "--quiet", "--nodes", "1", "--run-name", name, "--output", "out", "--", "echo", name)
    assert pilotfish(wd, "rm", "two", code=130).stdout == ""  # nobody answers
    pilotfish(wd, "rm", "-y", "two")
    assert [run.name for run in runs_in(wd)] == ["one"]
    assert os.readlink(wd / "pilotfish-runs/last") == "one"
    assert (wd / "out/task.out").exists()


def test_a_folder_of_names_that_others_can_change_is_not_used(wd: Path) -> None:
    (wd / "pilotfish-runs").mkdir()
    (wd / "pilotfish-runs").chmod(0o777)
    pilotfish(wd, "run", "--quiet", "--nodes", "1", "--", "true")
    assert list((wd / "pilotfish-runs").iterdir()) == []
    assert Run("last", wd).summary().succeeded == 1


# --- names and folders --------------------------------------------------------------------------------------------------


@pytest.fixture
def aux(wd: Path) -> Callable[[str], Path]:
    def make(name: str) -> Path:
        folder = wd / f".qcgpjm-service-{name}"
        folder.mkdir(mode=0o700)
        (folder / "connection.json").touch(0o600)
        return folder

    return make


def test_a_run_is_found_by_name_id_folder_and_working_folder(wd: Path, aux: Callable[[str], Path]) -> None:
    folder = aux("h.1")
    name_run(folder, "monday")
    for run in ("monday", "last", "h.1", ".qcgpjm-service-h.1", folder, str(folder), f"{wd}/"):
        assert find_run(run, wd).path == folder


def test_a_pilot_without_a_name_goes_by_its_id(wd: Path, aux: Callable[[str], Path]) -> None:
    folder = aux("h.1")
    assert (find_run("last", wd).name, find_run("h.1", wd).path) == ("h.1", folder)


def test_a_run_keeps_its_name_when_it_goes_on_and_last_is_the_latest(wd: Path, aux: Callable[[str], Path]) -> None:
    first, second = aux("h.1"), aux("h.2")
    assert name_run(first, "monday") == "monday"
    assert name_run(second, None) != "monday"
    assert name_run(first, None) == "monday"
    assert os.readlink(wd / "pilotfish-runs/last") == "monday"
    with pytest.raises(UsageError, match=r"there is a run 'monday' already"):
        name_run(second, "monday")


def test_links_that_lead_elsewhere_are_no_runs(wd: Path, aux: Callable[[str], Path]) -> None:
    name_run(aux("h.1"), "monday")
    (wd / "pilotfish-runs/evil").symlink_to("/etc")
    (wd / "pilotfish-runs/gone").symlink_to("../.qcgpjm-service-gone")
    assert [run.name for run in runs_in(wd)] == ["monday"]
    with pytest.raises(LostError, match=r"there is no run 'evil'"):
        find_run("evil", wd)
