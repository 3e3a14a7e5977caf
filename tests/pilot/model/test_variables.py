"""Variables are filled into values as the old system's templates did it, and a text without them costs nothing."""

from __future__ import annotations

from string import Template
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilotfish.pilot.model.job_spec import Execution
from pilotfish.pilot.model.variables import has_variables, substitute, substitute_all, substitute_execution

VALUES = {"it": "7", "jname": 'a "quoted" name', "ncores": "4"}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("out.$it", "out.7"),
        ("out.${it}.txt", "out.7.txt"),
        ("${it}$it", "77"),
        ("$items", "$items"),
        ("${unknown} $unknown", "${unknown} $unknown"),
        ("$$it", "$it"),
        ("$$$$it", "$$it"),
        ("$", "$"),
        ("${", "${"),
        ("${it", "${it"),
        ("$5 ${5}", "$5 ${5}"),
        ("${jname}", 'a "quoted" name'),
    ],
)
def test_text(text: str, expected: str) -> None:
    assert substitute(text, VALUES) == expected


@given(st.text(alphabet="$${}itncores_9 é", max_size=30))
def test_the_result_is_that_of_a_template(text: str) -> None:
    assert substitute(text, VALUES) == Template(text).safe_substitute(VALUES)


def test_a_text_without_variables_is_the_same_object() -> None:
    text = "x" * 100
    assert substitute(text, VALUES) is text


def test_a_value_is_not_looked_into_again() -> None:
    assert substitute("$a", {"a": "$b", "b": "no"}) == "$b"


def test_names_of_members_stay() -> None:
    assert substitute_all({"$it": ["$it", 1, None, {"x": "$it"}]}, VALUES) == {"$it": ["7", 1, None, {"x": "7"}]}


EVERYWHERE = Execution(
    exec="e$it",
    args=("a$it",),
    env={"E": "$it"},
    wd="w$it",
    stdin="i$it",
    stdout="o$it",
    stderr="r$it",
    modules=("m$it",),
    venv="v$it",
    model="d$it",
    model_opts={"mpirun": "p$it", "mpirun_args": ["-n", "$ncores"]},
)


def test_an_execution_is_filled_everywhere() -> None:
    assert substitute_execution(EVERYWHERE, VALUES) == Execution(
        exec="e7",
        args=("a7",),
        env={"E": "7"},
        wd="w7",
        stdin="i7",
        stdout="o7",
        stderr="r7",
        modules=("m7",),
        venv="v7",
        model="d7",
        model_opts={"mpirun": "p7", "mpirun_args": ["-n", "4"]},
    )


def test_an_optional_text_that_turns_out_empty_is_as_absent() -> None:
    """As one that is empty from the start; arguments and variables stay what they are."""
    empty = {**VALUES, "it": ""}
    texts: dict[str, Any] = dict.fromkeys(("wd", "stdin", "stdout", "stderr", "venv", "model"), "$it")
    execution = Execution(exec="x", args=("$it",), env={"A": "$it"}, modules=("$it", "gcc"), **texts)
    assert substitute_execution(execution, empty) == Execution(exec="x", args=("",), env={"A": ""}, modules=("gcc",))


@pytest.mark.parametrize(
    "execution",
    [
        Execution(exec="$it"),
        Execution(script="echo $$"),
        Execution(exec="x", args=("a", "$b")),
        Execution(exec="x", env={"A": "$b"}),
        Execution(exec="x", stdout="$it"),
        Execution(exec="x", modules=("$m",)),
        Execution(exec="x", model_opts={"mpirun": "$m"}),
    ],
)
def test_an_execution_with_a_dollar_has_variables(execution: Execution) -> None:
    assert has_variables(execution)


def test_an_execution_without_a_dollar_has_none() -> None:
    assert not has_variables(Execution(exec="x", args=("a",), env={"A": "b"}, wd="w", model_opts={"mpirun": "m"}))
