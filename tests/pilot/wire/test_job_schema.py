"""The JSON Schema of job files: it knows the members that `describe` knows, and takes what `describe` takes."""

from __future__ import annotations

from typing import Any

import jsonschema
import pytest

from pilotfish.pilot.model.errors import PilotfishError
from pilotfish.pilot.wire import describe, describe_resources, job_schema

SCHEMA = jsonschema.Draft202012Validator(job_schema.job_file_schema())
FULL: dict[str, Any] = {
    "name": "sweep",
    "execution": {
        "exec": "mpirun-less",
        "args": ["--alpha", "${alpha}", 3],
        "env": {"OMP_NUM_THREADS": "4"},
        "wd": "out/${it}",
        "stdin": "in",
        "stdout": "out",
        "stderr": None,
        "modules": ["gcc", "openmpi"],
        "venv": "/opt/venv",
        "model": "openmpi",
        "model_opts": {"mpirun_args": ["--verbose"]},
    },
    "resources": {
        "numNodes": {"min": 1, "max": 2},
        "numCores": 4,
        "wt": "1h",
        "mem": "2G",
        "tags": ["gpu"],
        "nodeCrs": {"gpu": 1},
        "nvme": 2,
        "scratch": "400G",
        "placement": "scatter",
        "apart": True,
    },
    "iteration": {"params": [{"alpha": 0.1}], "grid": {"seed": {"stop": 3}}},
    "dependencies": {"after": ["first", "other:${it}"]},
    "priority": 2,
    "retries": 1,
    "retry": [{"codes": [75, -9], "reasons": "memory", "times": 2, "pause": "1m", "mem": 2, "wt": 1.5}],
    "attributes": {"project": "x"},
}


def members(name: str) -> set[str]:
    return set(getattr(job_schema, name)["properties"])


def test_the_schema_has_the_members_that_are_accepted() -> None:
    """A member that is added to the description is added to the schema too."""
    assert members("JOB") == describe._JOB_MEMBERS
    assert members("EXECUTION") == describe._EXECUTION_MEMBERS
    assert members("RESOURCES") == describe_resources._MEMBERS


def test_a_job_with_every_member_is_one_for_both() -> None:
    """As a file of one job, as an array, and as `{jobs: [...]}`."""
    assert describe.describe_jobs([FULL], None)[0].name == "sweep"
    for whole in (FULL, [FULL], {"jobs": [FULL]}):
        SCHEMA.validate(whole)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("nam",), "x"),
        (("name",), 3),
        (("execution", "exe"), "x"),
        (("execution", "env"), {"A": 1}),
        (("execution", "stdout"), 1),
        (("resources", "cores"), 1),
        (("resources", "numCores"), "four"),
        (("resources", "numCores"), {"least": 1}),
        (("resources", "nodeCrs"), {"gpus": 1}),
        (("iteration", "end"), 3),
        (("dependencies", "after"), "first"),
        (("retries",), -1),
        (("retry",), {"code": 3}),
        (("retry",), [{"times": 0}]),
        (("attributes",), "x"),
    ],
    ids=str,
)
def test_what_is_wrong_is_wrong_for_both(path: tuple[str, ...], value: object) -> None:
    """An unknown key or a value of another type: the editor marks what the pilot refuses."""
    job = {key: dict(member) if isinstance(member, dict) else member for key, member in FULL.items()}
    inner: dict[str, Any] = job
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = value
    assert not SCHEMA.is_valid([job])
    with pytest.raises(PilotfishError):
        describe.describe_jobs([job], None)
