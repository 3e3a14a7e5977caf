"""Named resources of a submission's tasks are the pilot's."""

from __future__ import annotations

from pilotfish.launcher.description.task import Task
from pilotfish.launcher.submission.pilot_jobs import _resources
from pilotfish.pilot.model.job_spec import Need, Size, Want
from pilotfish.pilot.model.resources import PARTS
from pilotfish.pilot.wire.describe_resources import describe_resources


def test_a_task_may_ask_for_named_resources_and_parts_of_gpus() -> None:
    task = Task("./solve", "a", resources={"gpus": 0.25, "named": {"licence": 1, "scratch": "2G"}})
    assert describe_resources(_resources(task.resources or {}), "resources").need == Need(
        Size.exactly(1),
        Size.exactly(1),
        named=(Want("gpu", 0, PARTS // 4), Want("licence", 1), Want("scratch", 2 << 30)),
    )
