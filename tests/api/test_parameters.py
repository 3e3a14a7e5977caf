"""Tables, grids and lists of parameters, from files and the command line to what each task gets."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from patience import PATIENCE_S

from pilotfish import Jobs
from pilotfish.api import parameters
from pilotfish.api.command_job import Parameters, command_job
from pilotfish.api.templates import check_variables
from pilotfish.pilot.model.errors import UsageError
from pilotfish.pilot.model.variables import of_iteration, substitute
from pilotfish.pilot.wire.describe import describe_jobs

TABLE = {"alpha": ["1e-3", "0.10"], "label": ["a, b", "c"]}


def command_lines(words: list[str], **given: object) -> list[list[str]]:
    """What is started for each task of `pilotfish run -- WORDS`, as the agent sees it."""
    job = command_job(words, "task", Parameters(**given))  # type: ignore[arg-type]
    (spec,) = describe_jobs([job], {})
    iteration = spec.iteration
    lines = []
    for pos in range(spec.task_count):
        values: dict[str, str] = {}
        if iteration is not None:
            values = of_iteration(iteration.start + pos, iteration.value_at(pos), bool(iteration.params))
        lines.append([substitute(word, values) for word in (spec.execution.exec or "", *spec.execution.args)])
    return lines


def refusal(words: list[str], **given: object) -> str:
    with pytest.raises(UsageError) as refused:
        command_lines(words, **given)
    return str(refused.value)


# --- tables -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("t.csv", 'alpha,label\r\n1e-3,"a, b"\r\n\r\n0.10,c\r\n'),
        ("t.CSV", '\ufeffalpha,label\n1e-3,"a, b"\n0.10,c'),
        ("t.tsv", "alpha\tlabel\n1e-3\ta, b\n0.10\tc\n"),
        ("t.jsonl", '{"alpha": "1e-3", "label": "a, b"}\n\n{"alpha": "0.10", "label": "c"}\n'),
        ("t.json", json.dumps(TABLE)),
        ("t.json", '[{"alpha": "1e-3", "label": "a, b"}, {"alpha": "0.10", "label": "c"}]'),
        ("t.yaml", "alpha: ['1e-3', '0.10']\nlabel: ['a, b', c]\n"),
    ],
)
def test_all_kinds_of_tables_are_read(wd: Path, name: str, text: str) -> None:
    (wd / name).write_text(text, newline="")
    assert parameters.read_table(str(wd / name)) == TABLE


def test_a_column_is_called_by_what_a_variable_can_be_called(wd: Path) -> None:
    (wd / "t.csv").write_text("learning rate (1/s),n\n0.1,2\n")
    assert parameters.read_table(str(wd / "t.csv")) == {"learning_rate_1_s": ["0.1"], "n": ["2"]}


@pytest.mark.parametrize(
    ("name", "text", "told"),
    [
        ("t.csv", "a,b\n1,2\n3\n", "t.csv: line 3: 1 values for 2 columns"),
        ("t.csv", "a,a\n1,2\n", "two columns are named 'a'"),
        ("t.csv", "a,b\n", "there are no rows in it"),
        ("t.csv", "", "there are no rows in it"),
        ("t.csv", 'a\n"1\n', "t.csv: line 2: unexpected end of data"),
        ("t.csv", "3,4\n1,2\n", "'3' cannot be the name of a parameter"),
        ("t.csv", "it\n1\n", "{it} means something else already"),
        ("t.jsonl", '{"a": 1}\n{"a": \n', "t.jsonl: line 2: is not JSON"),
        ("t.jsonl", '{"a": 1}\n{"b": 1}\n', "t.jsonl: row 2: has other names than the first row"),
        ("t.json", "3", "is no table"),
        ("t.json", '{"a": [1], "b": [1, 2]}', "t.json: b: columns have different lengths"),
        ("t.yaml", "a: [1", "is not YAML"),
        ("t.xlsx", "", "is no table known here; known are .csv"),
    ],
)
def test_what_is_wrong_with_a_table_is_told_with_its_place(wd: Path, name: str, text: str, told: str) -> None:
    (wd / name).write_text(text)
    with pytest.raises(UsageError) as refused:
        parameters.read_table(str(wd / name))
    assert told in str(refused.value)


# --- the command --------------------------------------------------------------------------------------------------------


def test_a_grid_has_a_task_for_each_combination() -> None:
    lines = command_lines(["sim", "{a}-{b}", "${it}"], grid=("a=x,y", "b=range(1,3)"))
    assert lines == [["sim", "x-1", "0"], ["sim", "x-2", "1"], ["sim", "y-1", "2"], ["sim", "y-2", "3"]]


def test_zipped_lists_go_along_with_each_other_and_with_a_grid() -> None:
    lines = command_lines(["sim", "{a}{b}{c}"], zip=("a=x,y", "b=1,2"), grid=("c=!,?",))
    assert lines == [["sim", "x1!"], ["sim", "x1?"], ["sim", "y2!"], ["sim", "y2?"]]


def test_doubled_braces_and_other_braces_stay_what_they_are() -> None:
    words = ["awk", "{print $1}", "{{a}}", "{}", "${a}", '{"json": {a}}']
    assert command_lines(words, grid=("a=7",)) == [["awk", "{print $1}", "{a}", "{}", "7", '{"json": 7}']]
    assert command_lines(["echo", "{a}"]) == [["echo", "{a}"]]


def test_values_are_never_taken_for_variables() -> None:
    assert command_lines(["echo", "{a}"], zip=("a=${it},$x,{a}",)) == [
        ["echo", "${it}"],
        ["echo", "$x"],
        ["echo", "{a}"],
    ]


def test_the_lists_of_gnu_parallel() -> None:
    assert command_lines(["echo", ":::", "a", "b", ":::", "1", "2"]) == [
        ["echo", "a", "1"],
        ["echo", "a", "2"],
        ["echo", "b", "1"],
        ["echo", "b", "2"],
    ]
    assert command_lines(["echo", "{2}-{1}", ":::", "a", "b", ":::+", "1", "2"]) == [["echo", "1-a"], ["echo", "2-b"]]
    assert command_lines(["mv", "{}", "{//}/{#}-{/.}{.}", ":::", "d/x.tar"]) == [["mv", "d/x.tar", "d/1-xd/x"]]
    assert command_lines(["echo", "{}", "{1}", ":::", "a", ":::", "b"]) == [["echo", "a b", "a"]]


def test_a_command_line_in_one_word_is_for_a_shell_and_values_are_not_its_text() -> None:
    (line,) = command_lines(["echo {} $HOME | wc", ":::", "$(rm -rf /)"])
    assert line == ["bash", "-c", 'echo "${1}" $HOME | wc', "bash", "$(rm -rf /)"]
    (line,) = command_lines(["wc -c", ":::", "a file"])
    assert line == ["bash", "-c", 'wc -c "$@"', "bash", "a file"]


def test_lines_of_a_file(wd: Path) -> None:
    (wd / "names").write_bytes(b"one\r\n\nt w o\n")
    assert command_lines(["echo", "{line}"], each_line=str(wd / "names")) == [["echo", "one"], ["echo", "t w o"]]
    assert command_lines(["echo", "::::", str(wd / "names")]) == [["echo", "one"], ["echo", "t w o"]]


def test_what_makes_no_sense_is_refused_with_the_remedy(wd: Path) -> None:
    (wd / "t.csv").write_text("alpha\n1\n")
    table = str(wd / "t.csv")
    assert "{alhpa} is no parameter; did you mean alpha?" in refusal(["sim", "{alhpa}"], params=table)
    assert "--grid: 'alpha' is not NAME=VALUES" in refusal(["sim"], grid=("alpha",))
    assert "--grid: 'a' is given twice" in refusal(["sim"], grid=("a=1", "a=2"))
    assert "--zip: makes no sense with --params" in refusal(["sim"], params=table, zip=("a=1",))
    assert "--iterations: makes no sense with --params" in refusal(["sim"], params=table, iterations=3)
    assert "--grid: makes no sense with lists" in refusal(["sim", ":::", "a"], grid=("a=1",))
    assert "there is nothing behind :::" in refusal(["sim", ":::"])
    assert "there is no command" in refusal([":::", "a"])


@pytest.mark.parametrize(
    ("execution", "told"),
    [
        ({"exec": "sim", "args": ["${alhpa}"]}, "args[0]: ${alhpa} is no variable; did you mean alpha?"),
        ({"exec": "sim", "args": ["${itval.x}"]}, "args[0]: ${itval.x} is no variable; did you mean itval"),
        ({"exec": "sim", "stdout": "${nmae}.out"}, "stdout: ${nmae} is no variable"),
        ({"script": "echo ${anything}", "wd": "${nowhere}"}, "wd: ${nowhere} is no variable"),
    ],
)
def test_unknown_variables_are_refused_with_the_nearest(execution: dict[str, object], told: str) -> None:
    job = {"name": "j", "execution": execution, "iteration": {"params": {"alpha": [1]}}}
    with pytest.raises(UsageError) as refused:
        check_variables(job, "j.json: jobs[0]")
    assert told in str(refused.value)


@pytest.mark.parametrize(
    "execution",
    [
        {"exec": "sim", "args": ["${alpha} ${itval.alpha} ${it} ${jname} ${root_wd} $${other} $HOME"]},
        {"exec": "/bin/bash", "args": ["-c", "echo ${anything}"]},
        {"script": "echo ${anything}"},
    ],
)
def test_what_somebody_will_fill_in_is_let_pass(execution: dict[str, object]) -> None:
    check_variables({"name": "j", "execution": execution, "iteration": {"params": [{"alpha": 1}]}}, "job")


# --- from end to end ----------------------------------------------------------------------------------------------------


def pilotfish(wd: Path, *words: str, code: int = 0) -> str:
    command = [sys.executable, "-m", "pilotfish", *words]
    done = subprocess.run(command, cwd=wd, capture_output=True, text=True, timeout=PATIENCE_S, check=False)
    assert done.returncode == code, done.stderr
    return done.stdout + done.stderr


def test_a_row_that_is_added_runs_and_the_others_do_not_run_again(wd: Path) -> None:
    (wd / "t.csv").write_text("n,unused\n1,a\n2,b\n")
    run = (
        "run",
        "--nodes",
        "2",
        "--params",
        "t.csv",
        "--output",
        "out",
        "--continue",
        "--",
        "sh",
        "-c",
        "echo {n} >>all",
    )
    assert "2 tasks: 2 succeeded" in pilotfish(wd, *run)
    (wd / "t.csv").write_text("n,unused\n3,c\n1,other\n2,b\n")
    assert "1 task new; 2 as before" in pilotfish(wd, *run)
    assert sorted((wd / "all").read_text().split()) == ["1", "2", "3"]


def test_rows_from_python(wd: Path) -> None:
    jobs = Jobs().add(exec="sim", args=["${a}"], params=[{"a": 1}, {"a": wd}]).add(exec="sim", grid={"a": range(3)})
    table, grid = (spec.iteration for spec in describe_jobs(jobs.ordered_jobs(), {}))
    assert table is not None
    assert [table.params[0].at(pos) for pos in range(2)] == ["1", str(wd)]
    assert grid is not None
    assert grid.count == 3
