"""Lets the tests of the agent import their `fake_manager`, and gives each test one with an agent at its other end."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from fake_manager import FakeManager


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[FakeManager]:
    """A manager with one agent that has been welcomed; both are gone after the test."""
    with FakeManager(tmp_path) as fake:
        fake.start_agent()
        fake.welcome()
        yield fake
