"""`retry` of a job description: rules for what is done with failures."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

from ..model import walltime
from ..model.errors import InvalidJobError, UsageError
from ..model.job_spec import Resources, RetryRule
from .check import check_members, is_count, shown
from .ranges import EXIT_CODES

_MEMBERS = frozenset({"times", "codes", "reasons", "pause", "mem", "wt"})
_MOST_RULES, _MOST_WORDS = 100, 1000
_MOST_TIMES, _MOST_FACTOR = 10_000, 1000.0


def describe_retry(raw: Any, where: str, resources: Resources) -> tuple[RetryRule, ...]:
    """One rule, or an array of them. Raises InvalidJobError."""
    if raw is None:
        return ()
    rules = raw if isinstance(raw, list) else [raw]
    if len(rules) > _MOST_RULES:
        raise InvalidJobError(f"{len(rules)} rules are more than {_MOST_RULES}", where=where)
    places = [f"{where}[{number}]" for number in range(len(rules))] if isinstance(raw, list) else [where]
    return tuple([_rule(rule, place, resources) for rule, place in zip(rules, places, strict=True)])


def _rule(raw: Any, where: str, resources: Resources) -> RetryRule:
    if not isinstance(raw, dict):
        remedy = 'write {"codes": [75], "times": 3, "pause": "1m"}'
        raise InvalidJobError(f"{shown(raw)} is not a rule", where=where, remedy=remedy)
    check_members(raw, _MEMBERS, where)
    times = raw.get("times", 1)
    if not is_count(times) or not 1 <= times <= _MOST_TIMES:
        raise InvalidJobError(f"{shown(times)} is not a number from 1 to {_MOST_TIMES}", where=f"{where}.times")
    rule = RetryRule(
        times,
        tuple(_codes(raw.get("codes"), f"{where}.codes")),
        tuple(_reasons(raw.get("reasons"), f"{where}.reasons")),
        _pause_s(raw.get("pause"), f"{where}.pause"),
        _factor(raw.get("mem", 1), f"{where}.mem"),
        _factor(raw.get("wt", 1), f"{where}.wt"),
    )
    for factor, limit, member in (
        (rule.mem, resources.need.mem_bytes, "mem"),
        (rule.wt, resources.wt_s, "wt"),
    ):
        if factor > 1 and not limit:
            remedy = f"give resources.{member}, which it multiplies"
            raise InvalidJobError("there is no limit to be raised", where=f"{where}.{member}", remedy=remedy)
    return rule


def _several(raw: Any) -> list[Any]:
    if raw is None:
        return []
    return (raw if isinstance(raw, list) else [raw])[: _MOST_WORDS + 1]


def _codes(raw: Any, where: str) -> Iterable[int]:
    for code in _several(raw):
        if not is_count(code) or not EXIT_CODES[0] <= code <= EXIT_CODES[1] or code == 0:
            remedy = "write numbers, -9 for signal 9"
            raise InvalidJobError(f"{shown(code)} is not the exit code of a failure", where=where, remedy=remedy)
        yield code


def _reasons(raw: Any, where: str) -> Iterable[str]:
    for reason in _several(raw):
        if not isinstance(reason, str) or not reason.strip():
            raise InvalidJobError(
                f"{shown(reason)} is not a word of a reason", where=where, remedy='write "memory limit"'
            )
        yield reason


def _pause_s(raw: Any, where: str) -> float:
    if raw is None or (is_count(raw) and raw == 0):
        return 0.0
    if not isinstance(raw, str):
        raise InvalidJobError(f"{shown(raw)} is not a time", where=where, remedy='write "30s", "5m" or "1h30m"')
    try:
        return walltime.parse(raw)
    except UsageError as error:
        raise InvalidJobError(error.what, where=where, remedy=error.remedy) from None


def _factor(raw: Any, where: str) -> float:
    is_number = isinstance(raw, (int, float)) and not isinstance(raw, bool) and math.isfinite(raw)
    if not is_number or not 1 <= raw <= _MOST_FACTOR:
        remedy = "write 2 for twice as much"
        raise InvalidJobError(f"{shown(raw)} is not a factor from 1 to {_MOST_FACTOR:g}", where=where, remedy=remedy)
    return float(raw)


def undescribe_retry(rules: Iterable[RetryRule]) -> list[dict[str, Any]]:
    """The rules as JSON values, in normal form."""
    described = []
    for rule in rules:
        members: dict[str, Any] = {"times": rule.times}
        members |= {"codes": list(rule.codes)} if rule.codes else {}
        members |= {"reasons": list(rule.reasons)} if rule.reasons else {}
        members |= {"pause": walltime.form(rule.pause_s)} if rule.pause_s else {}
        members |= {name: factor for name, factor in (("mem", rule.mem), ("wt", rule.wt)) if factor != 1}
        described.append(members)
    return described
