"""`--only`: a small language for which tasks."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

import pytest

from pilotfish.api.selection import Selection
from pilotfish.api.task_records import TaskRow
from pilotfish.pilot.model.errors import UsageError

PARAMS = {"alpha": "0.5", "label": "small", "state": "solid", "seed": "07"}
ROW = TaskRow(
    "mesh:3",
    "FAILED",
    137,
    "out of memory",
    PARAMS,
    datetime(2026, 1, 2),
    None,
    1.5,
    "n3",
    0.5,
    2.0,
    2,
    Path("o"),
    None,
)
LEFT = ROW._replace(state="QUEUED", exit_code=None, reason="", seconds=None)


@pytest.mark.parametrize(
    "text",
    [
        'alpha > 0.3 and state == "FAILED"',
        "0.3 < alpha <= 0.5",
        "code in (137, 139)",
        "exit_code == 137 and code != 0",
        "'memory' in reason",
        'label == "small" or alpha < 0.3',
        'glob(task, "m*:3") and name == "mesh" and index == 3',
        'param.state == "solid"',
        "not (attempts == 1)",
        "seconds * 2 > cpu_s + 2 and max_rss_mib % 2 == 0",
        "seed == '07' and seed == 7",
        "-alpha < 0",
    ],
)
def test_what_is_true_of_a_task(text: str) -> None:
    assert Selection(text, PARAMS).wants(ROW)


@pytest.mark.parametrize("text", ["code > 0", "seconds < 5", "alpha < 0.5", "state == 'FAILED'", "seconds + 1 > 0"])
def test_what_a_task_does_not_have_compares_as_false(text: str) -> None:
    assert not Selection(text, PARAMS).wants(LEFT)


def test_a_task_that_has_not_run_has_its_parameters_and_a_state() -> None:
    selection = Selection('alpha > 0.3 and state == "QUEUED" and index < 4', ["alpha"])
    assert [selection.wants_new("a", 3, {"alpha": alpha}) for alpha in ("0.5", "0.3")] == [True, False]


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("alhpa > 3", "--only: there is no 'alhpa'; did you mean alpha?"),
        ("param.colour == 3", "--only: there is no 'colour'; known are alpha,"),
        ("state == FAILED", "--only: there is no 'FAILED'; known are alpha,"),
        ("alpha >", "--only: 'alpha >' cannot be read: invalid syntax; write something like"),
        ("", "--only: '' cannot be read: invalid syntax"),
        ("__import__('os').system('x')", "--only: \"__import__('os').system('x')\" cannot be read: __import__("),
        ("().__class__", "--only: '().__class__' cannot be read: ().__class__ is not possible here"),
        ("[x for x in task]", "--only: '[x for x in task]' cannot be read: [x for x in task] is not possible here"),
        ("alpha ** 9999", "--only: 'alpha ** 9999' cannot be read: alpha ** 9999 is not possible here"),
        ("glob(task)", "--only: 'glob(task)' cannot be read: write glob(task, \"mesh-*\")"),
        ("state = 'FAILED'", "--only: \"state = 'FAILED'\" cannot be read: "),
        ("(" * 300 + ")" * 300, "--only: '(((("),
    ],
)
def test_what_cannot_be_read_is_one_line_that_says_why(text: str, error: str) -> None:
    with pytest.raises(UsageError) as raised:
        Selection(text, PARAMS)
    assert str(raised.value).startswith(error)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("label > 3", "--only: 'small' > 3 compares a text with a number (task mesh:3);"),
        ("label * 1000000 == ''", "--only: 'small' and 1000000 are not two numbers (task mesh:3);"),
        ("alpha / 0 > 1", "--only: division by zero (task mesh:3);"),
    ],
)
def test_what_cannot_be_decided_names_the_task(text: str, error: str) -> None:
    with pytest.raises(UsageError) as raised:
        Selection(text, PARAMS).wants(ROW)
    assert str(raised.value).startswith(error)
