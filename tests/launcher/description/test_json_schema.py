"""The JSON Schema of submission files, made from the table that checks them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from click.testing import CliRunner

from pilotfish.launcher.cli.schema import schema

DOCS = Path(__file__).parents[3] / "docs"


@pytest.fixture(scope="module")
def validator() -> jsonschema.Draft202012Validator:
    """As the command prints it."""
    printed = json.loads(CliRunner().invoke(schema, ["submission"]).output)
    jsonschema.Draft202012Validator.check_schema(printed)
    return jsonschema.Draft202012Validator(printed)


@pytest.fixture
def submission() -> dict[str, Any]:
    return {
        "work_base": "w",
        "machine": {
            "batch_type": "Slurm",
            "context_type": "SSH",
            "local_root": ".",
            "remote_root": "/scratch",
            "remote_profile": {"hostname": "login", "_why": "a comment"},
        },
        "resources": {"group_size": 2, "kwargs": {"gpu_line": "#SBATCH --gres=gpu:1"}},
        "task_list": [{"command": "true", "task_work_path": "t"}],
        "pilot": {"pilots": 2},
    }


def test_a_submission_file_conforms(validator: jsonschema.Draft202012Validator, submission: dict[str, Any]) -> None:
    """Also with the name of a machine file instead of a machine."""
    validator.validate(submission)
    validator.validate(submission | {"machine": "cluster"})


@pytest.mark.parametrize(
    ("section", "key", "value"),
    [
        ("machine", "batch_typ", "Slurm"),
        ("machine", "local_root", 3),
        ("resources", "group_size", -1),
        ("resources", "queue", "x"),
        ("pilot", "pilots", 0),
    ],
)
def test_a_wrong_key_or_value_does_not(
    validator: jsonschema.Draft202012Validator, submission: dict[str, Any], section: str, key: str, value: object
) -> None:
    """What the table refuses, the schema refuses."""
    submission[section][key] = value
    assert not validator.is_valid(submission)


def test_the_submissions_in_the_documentation_conform(validator: jsonschema.Draft202012Validator) -> None:
    """Every JSON example of the launcher's page that is a whole submission."""
    blocks = (DOCS / "launcher.md").read_text().split("```json\n")[1:]
    whole = [value for block in blocks if "task_list" in (value := json.loads(block.partition("```")[0]))]
    assert whole
    for each in whole:
        validator.validate({"machine": "of the page before"} | each)
