"""What manager and agents log: events with keys."""

from __future__ import annotations

import ast
import logging
import re
import sys
from collections.abc import Iterator
from pathlib import Path

from pilotfish.pilot.logs import EventFormatter

PILOT = Path(__file__).parents[2] / "pilot"
OLD_TEXTS = ("service %s version", "FileInterface reply message")
"""Lines that tools for QCG-PilotJob look for."""


def log_calls() -> Iterator[str]:
    for file in sorted(file for part in ("manager", "agent") for file in (PILOT / part).glob("*.py")):
        calls = (node for node in ast.walk(ast.parse(file.read_text())) if isinstance(node, ast.Call))
        yield from (ast.unparse(call) for call in calls if ast.unparse(call.func).startswith("log."))


EVENT = re.compile(r"log\.[a-z]+\('[a-z_]+\.[a-z_]+'(, extra=(\{.*\}|\w+))?\)", re.DOTALL)


def test_all_lines_of_manager_and_agents_are_events() -> None:
    """One style, so that each line can be found by its name and nobody has to take a sentence apart."""
    others = [call for call in log_calls() if not EVENT.fullmatch(call)]
    assert [call for call in others if not any(text in call for text in OLD_TEXTS)] == []
    assert len(others) == len(OLD_TEXTS)


def test_the_keys_of_an_event_stand_behind_its_name() -> None:
    """In the order of the call, and before the traceback if there is one."""
    try:
        raise ValueError("no")
    except ValueError:
        record = logging.makeLogRecord(
            {"msg": "agent.trouble", "node": "n1", "reason": "who knows", "exc_info": sys.exc_info()}
        )
    first, *rest = EventFormatter().format(record).splitlines()
    assert re.fullmatch(r"[\d-]+ [\d:]+,\d+: agent\.trouble node=n1 reason=who knows", first)
    assert rest[-1] == "ValueError: no"
