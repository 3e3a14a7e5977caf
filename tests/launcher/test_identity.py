"""Hashes and groups agree with DPDispatcher 1.1.0, bit for bit (golden/make_hashes.py wrote what it gives)."""

from __future__ import annotations

import json
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilotfish.launcher.description import (
    parse_resources,
    parse_submission,
    parse_task,
    resources_to_dict,
    task_to_dict,
)
from pilotfish.launcher.grouping import groups
from pilotfish.launcher.identity import job_hash, submission_hash, task_hash
from pilotfish.launcher.schema import DescriptionError
from pilotfish.launcher.task import Task

GOLDEN = json.loads((Path(__file__).parent / "golden" / "hashes.json").read_text())


@pytest.mark.parametrize("case", GOLDEN["tasks"])
def test_a_tasks_hash(case: dict[str, Any]) -> None:
    assert task_hash(parse_task(case["given"])) == case["hash"]


@pytest.mark.parametrize("case", GOLDEN["resources"])
def test_resources_are_written_as_there_and_a_jobs_hash(case: dict[str, Any]) -> None:
    resources = parse_resources(case["given"])
    assert json.dumps(resources_to_dict(resources)) == json.dumps(case["written"])
    assert job_hash([parse_task(each["given"]) for each in GOLDEN["tasks"]], resources) == case["job_hash"]


@pytest.mark.parametrize("case", GOLDEN["groups"], ids=lambda case: f"{case['count']} by {case['size']}")
def test_groups(case: dict[str, Any]) -> None:
    assert [list(group) for group in groups(case["count"], case["size"])] == case["groups"]


@given(st.integers(1, 300), st.integers(0, 310))
def test_each_task_is_in_one_group_of_the_size_and_nobodys_generator_is_touched(count: int, size: int) -> None:
    before = random.getstate()
    found = groups(count, size)
    assert random.getstate() == before
    assert sorted(position for group in found for position in group) == list(range(count))
    assert all(len(group) == (size or count) for group in found[:-1])


@pytest.mark.parametrize(("count", "size"), [(0, 1), (3, -1)])
def test_no_tasks_and_negative_sizes_are_refused(count: int, size: int) -> None:
    with pytest.raises(DescriptionError):
        groups(count, size)


@given(st.text(), st.lists(st.sampled_from(["a", "b/c", "*.dat"])), st.none() | st.just("log"), st.integers(0, 3))
def test_a_written_task_reads_as_itself(command: str, files: list[str], log: str | None, retries: int) -> None:
    task = Task(command.replace("\0", ""), "w", tuple(files), (), log, log, retries=retries)
    assert parse_task(task_to_dict(task)) == task


def submission(**changes: Any) -> Any:
    given = {
        "work_base": "w",
        "machine": {
            "batch_type": "slurm",
            "context_type": "ssh",
            "local_root": ".",
            "remote_root": "/scratch",
            "remote_profile": {"hostname": "h", "username": "u", "password": "secret"},
        },
        "resources": {"group_size": 1, "envs": {"A": 1, "B": 2}},
        "task_list": [{"command": "true", "task_work_path": "t"}],
    }
    return parse_submission(given | changes)


def test_a_submissions_hash_does_not_depend_on_secrets_retries_or_the_order_of_keys() -> None:
    first = submission()
    other = submission(resources={"envs": {"B": 2, "A": 1}, "group_size": 1})
    profile = {"username": "u", "hostname": "h", "key_filename": "k"}
    other = replace(other, machine=replace(other.machine, profile=profile, retry_count=7))
    assert submission_hash(first, "/l") == submission_hash(other, "/l")
    assert submission_hash(first, "/l") != submission_hash(first, "/m")
    assert submission_hash(first, "/l") != submission_hash(replace(first, tasks=first.tasks * 2), "/l")
