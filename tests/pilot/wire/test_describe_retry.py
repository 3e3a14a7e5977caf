"""`retry` of a job description, and `--retry` of the command line."""

from __future__ import annotations

from typing import Any

import pytest

from pilotfish.api.retry_rules import parse_rules
from pilotfish.pilot.model.errors import InvalidJobError, UsageError
from pilotfish.pilot.model.job_spec import RetryRule
from pilotfish.pilot.wire.describe import describe_jobs, undescribe

RULES = (RetryRule(2, (), ("memory limit",), 0.0, 2.0, 1.0), RetryRule(3, (75, -9), (), 60.0, 1.0, 1.5))


def job(retry: Any, **resources: Any) -> dict[str, Any]:
    return {
        "name": "a",
        "execution": {"exec": "x"},
        "resources": {"numCores": 1, "mem": "1G", "wt": "5m", **resources},
        "retry": retry,
    }


def test_rules_are_read_and_written() -> None:
    written = [
        {"times": 2, "reasons": ["memory limit"], "mem": 2},
        {"times": 3, "codes": [75, -9], "pause": "1m", "wt": 1.5},
    ]
    (spec,) = describe_jobs([job(written)], None)
    assert spec.retry == RULES
    assert undescribe(spec)["retry"] == written


def test_one_rule_needs_no_array_and_one_code_neither() -> None:
    (spec,) = describe_jobs([job({"codes": 3, "reasons": "x"})], None)
    assert spec.retry == (RetryRule(1, (3,), ("x",)),)


def test_words_of_a_command_line_are_the_same_rules() -> None:
    words = ['reason="memory limit" times=2 mem=2', "code=75,-9 times=3 pause=1m wt=1.5"]
    (spec,) = describe_jobs([job(parse_rules(words))], None)
    assert spec.retry == RULES


@pytest.mark.parametrize(
    ("retry", "error"),
    [
        (3, 'jobs[0].retry: 3 is not a rule; write {"codes"'),
        ([{}, "x"], 'jobs[0].retry[1]: "x" is not a rule'),
        ({"code": 3}, 'jobs[0].retry.code: unknown key; did you mean "codes"?'),
        ({"times": 0}, "jobs[0].retry.times: 0 is not a number from 1 to 10000"),
        ({"codes": ["137"]}, 'jobs[0].retry.codes: "137" is not the exit code of a failure'),
        ({"codes": [0]}, "jobs[0].retry.codes: 0 is not the exit code of a failure"),
        ({"reasons": [""]}, 'jobs[0].retry.reasons: "" is not a word of a reason'),
        ({"pause": 5}, 'jobs[0].retry.pause: 5 is not a time; write "30s"'),
        ({"pause": "5 minutes"}, 'jobs[0].retry.pause: "5 minutes" is not a wall time; write'),
        ({"mem": 0.5}, "jobs[0].retry.mem: 0.5 is not a factor from 1 to 1000"),
        ({"wt": "2"}, 'jobs[0].retry.wt: "2" is not a factor'),
    ],
)
def test_what_is_no_rule_is_refused_with_its_place(retry: Any, error: str) -> None:
    with pytest.raises(InvalidJobError) as raised:
        describe_jobs([job(retry)], None)
    assert str(raised.value).startswith(error)


def test_a_factor_needs_a_limit() -> None:
    with pytest.raises(InvalidJobError, match=r"retry\.mem: there is no limit to be raised; give resources\.mem"):
        describe_jobs([job({"mem": 2}, mem=None)], None)


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("cod=3", "--retry: there is no 'cod' in a rule; did you mean code?"),
        ("code", "--retry: 'code' is not NAME=VALUE; write --retry"),
        ("code=x", "--retry: code: 'x' is not a number"),
        ("reason='x", '--retry: "reason=\'x" cannot be read: No closing quotation'),
        ("", "--retry: there is nothing in the rule"),
        ("times=1 times=2", "--retry: 'times' is given twice"),
    ],
)
def test_words_that_are_no_rule_are_refused(text: str, error: str) -> None:
    with pytest.raises(UsageError) as raised:
        parse_rules([text])
    assert str(raised.value).startswith(error)
