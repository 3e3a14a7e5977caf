"""The table of faults in docs/launcher.md names tests; all of them are there."""

from __future__ import annotations

import re
from pathlib import Path

TESTS = Path(__file__).parents[2]


def test_the_tests_of_the_fault_table_exist() -> None:
    page = (TESTS.parent / "docs/launcher.md").read_text()
    named = re.findall(r"`(test_\w+)`", page)
    defined = {name for file in TESTS.rglob("test_*.py") for name in re.findall(r"def (test_\w+)\(", file.read_text())}
    assert len(named) > 15
    assert [name for name in named if name not in defined] == []
