"""Memory limits by control groups, on a kernel that has version 2: a pilot in a virtual machine (see memory_scenario.py)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import small_machine

BOOT_S = 300
BEYOND = "memory limit of 100 MiB exceeded ("


@pytest.fixture(scope="module")
def answers(virtual_machine: None, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What the pilots of the scenario told."""
    scenario = Path(__file__).parent / "memory_scenario.py"
    output = small_machine.run(scenario, tmp_path_factory.mktemp("machine"), BOOT_S)
    found = [line for line in output.splitlines() if line.startswith("ANSWERS ")]
    assert found, output
    read: dict[str, Any] = json.loads(found[0].removeprefix("ANSWERS "))
    return read


def test_the_kernel_kills_a_task_beyond_its_limit(answers: dict[str, Any]) -> None:
    state, message, peak_kib = answers["delegated"]["ends"]["hog"]
    assert state == "FAILED"
    assert message.startswith(BEYOND)
    assert peak_kib == 100 * 1024


def test_what_a_task_starts_in_another_session_counts(answers: dict[str, Any]) -> None:
    state, message, _ = answers["delegated"]["ends"]["elsewhere"]
    assert state == "FAILED"
    assert message.startswith(BEYOND)


def test_a_task_within_its_limit_ends_well(answers: dict[str, Any]) -> None:
    state, message, peak_kib = answers["delegated"]["ends"]["modest"]
    assert (state, message) == ("SUCCEED", "")
    assert 30 * 1024 <= peak_kib <= 100 * 1024


def test_a_program_that_is_not_there_is_named(answers: dict[str, Any]) -> None:
    state, message, _ = answers["delegated"]["ends"]["missing"]
    assert state == "FAILED"
    assert "'/no/such/program'" in message


def test_only_tasks_with_limits_have_groups_and_the_pilot_is_in_a_leaf(answers: dict[str, Any]) -> None:
    assert answers["delegated"]["where"].startswith("0::/user/pilotfish-n0-")
    assert answers["delegated"]["unlimited"] == "0::/user/pilotfish\n"


def test_no_group_is_left(answers: dict[str, Any]) -> None:
    delegated = answers["delegated"]
    assert (delegated["while it runs"], delegated["after a killed agent"]) == (1, 1)
    assert delegated["at the end"] == []


def test_where_no_group_was_handed_over_the_agent_watches(answers: dict[str, Any]) -> None:
    watched = answers["watched"]
    state, message, _ = watched["ends"]["hog"]
    assert state == "FAILED"
    assert message.startswith(BEYOND)
    assert watched["where"] == "0::/system\n"


def test_the_top_of_a_containers_own_tree_serves(answers: dict[str, Any]) -> None:
    container = answers["container"]
    state, message, peak_kib = container["ends"]["hog"]
    assert state == "FAILED"
    assert message.startswith(BEYOND)
    assert peak_kib == 100 * 1024
    assert container["where"].startswith("0::/pilotfish-n0-")
