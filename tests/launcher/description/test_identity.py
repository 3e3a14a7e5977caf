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

from pilotfish.launcher.description.grouping import groups
from pilotfish.launcher.description.identity import job_hash, submission_hash
from pilotfish.launcher.description.machine import machine_to_dict, parse_machine
from pilotfish.launcher.description.resources import Resources
from pilotfish.launcher.description.schema import DescriptionError
from pilotfish.launcher.description.submission import parse_submission
from pilotfish.launcher.description.task import Task

GOLDEN = json.loads((Path(__file__).parents[1] / "golden" / "hashes.json").read_text())


@pytest.mark.parametrize("case", GOLDEN["tasks"])
def test_a_tasks_hash(case: dict[str, Any]) -> None:
    assert Task.load_from_dict(case["given"]).task_hash == case["hash"]


@pytest.mark.parametrize("case", GOLDEN["resources"])
def test_resources_are_written_as_there_and_a_jobs_hash(case: dict[str, Any]) -> None:
    resources = Resources.load_from_dict(case["given"])
    assert json.dumps(resources.serialize()) == json.dumps(case["written"])
    assert job_hash([Task.load_from_dict(each["given"]) for each in GOLDEN["tasks"]], resources) == case["job_hash"]


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
    task = Task(command.replace("\0", ""), "w", files, [], log, log, retries=retries)
    assert Task.load_from_dict(task.serialize()) == task


NAMES = st.text("abcXYZ_09", min_size=1).filter(lambda name: not name.startswith("_"))
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)
LINES = st.lists(st.text().filter(lambda line: "\0" not in line), max_size=3)
KEYS = st.fixed_dictionaries(
    {"group_size": st.integers(0, 100)},
    optional={
        "number_node": st.integers(1, 9),
        "queue_name": st.text("ab ü"),
        "custom_flags": LINES,
        "strategy": st.fixed_dictionaries({}, optional={"ratio_unfinished": st.floats(0, 0.99)}),
        "envs": st.dictionaries(NAMES, VALUES, max_size=4),
        "kwargs": st.dictionaries(NAMES, VALUES, max_size=4),
        "wait_time": st.floats(0, 1e300),
        "walltime": st.floats(0.001, 1e9) | st.integers(1, 10**9) | st.sampled_from(["1h30m", "90s", "1-02:03:04"]),
        "memory": st.integers(1, 10**9) | st.sampled_from(["4G", "500M", "1.5T"]),
        "account": st.none() | st.text("ab-"),
        "exclusive": st.booleans(),
        "dependency": st.lists(st.text("0123456789.", min_size=1), max_size=3),
        "max_jobs": st.none() | st.integers(1, 99),
    },
)


@given(KEYS)
def test_written_resources_read_as_themselves_and_have_the_same_hash(given: dict[str, Any]) -> None:
    resources = Resources.load_from_dict(given)
    written = json.loads(json.dumps(resources.serialize()))
    assert Resources.load_from_dict(written) == resources
    task = Task("true", "w")
    assert job_hash([task], Resources.load_from_dict(written)) == job_hash([task], resources)


PROFILES = st.fixed_dictionaries(
    {"hostname": st.text("ab.", min_size=1)},
    optional={
        "username": st.none() | st.text("ab"),
        "port": st.integers(1, 65535),
        "password": st.sampled_from(["env:A", "file:~/x", "keyring:a/b", "ask:", None]),
        "timeout": st.floats(1, 1e6),
        "look_for_keys": st.booleans(),
        "jump": st.text("ab@:,"),
    },
)


@given(PROFILES, st.integers(0, 9), st.booleans())
def test_a_written_machine_reads_as_itself(profile: dict[str, Any], retry_count: int, flag: bool) -> None:
    given = {
        "batch_type": "LSF",
        "context_type": "SSH",
        "local_root": ".",
        "remote_root": "/r",
        "retry_count": retry_count,
    }
    machine = parse_machine(
        {**given, "remote_profile": profile, "clean_asynchronously": flag, "create_remote_root": flag}
    )
    assert parse_machine(json.loads(json.dumps(machine_to_dict(machine)))) == machine


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
