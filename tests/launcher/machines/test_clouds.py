"""Jobs through the two services of Bohrium: a server on loopback stands for both, and really runs them (`cloud.py`)."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from cloud import Cloud

from pilotfish.launcher.contexts import http
from pilotfish.launcher.submission.placement import Placement

PROFILES: dict[str, dict[str, Any]] = {
    "Bohrium": {
        "email": "ann@example.org",
        "password": "env:BOHRIUM_PASSWORD",
        "program_id": 12,
        "input_data": {
            "job_type": "container",
            "platform": "ali",
            "machine_type": "c2",
            "image_name": "i",
            "grouped": True,
        },
    },
    "OpenAPI": {"access_key": "env:KEY_OF_ANN", "project_id": 12, "machine_type": "c2", "image_address": "i"},
}


@pytest.fixture
def cloud(wd: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cloud]:
    monkeypatch.setattr(http, "FIRST_PAUSE_S", 0.01)
    with Cloud(wd / "cloud") as made:
        for name, value in {**made.environ, "BOHRIUM_PASSWORD": "secret", "KEY_OF_ANN": "key"}.items():
            monkeypatch.setenv(name, value)
        yield made


def soon(seconds: float) -> None:
    time.sleep(min(seconds, 0.05))


@pytest.fixture(params=["Bohrium", "OpenAPI"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def make(wd: Path, kind: str, cloud: Cloud, submission: Callable[..., Placement]) -> Callable[..., Placement]:
    """`make(command, ...)`: a task for each, which reads `in`, has `common` beside it and makes `out*`."""
    told: list[str] = []

    def made(*commands: str, profile: Any = None, **given: Any) -> Placement:
        tasks = []
        for at, command in enumerate(commands):
            folder = wd / "here/w" / f"t{at}"
            folder.mkdir(parents=True, exist_ok=True)
            (folder / "in").write_text(f"{at}\n")
            tasks.append(
                {"command": command, "task_work_path": f"t{at}", "forward_files": ["in"], "backward_files": ["out*"]}
            )
        (wd / "here/w/common").write_text("common\n")
        machine = {"batch_type": kind, "context_type": kind, "remote_root": None}
        machine["remote_profile"] = {**PROFILES[kind], **(profile or {})}
        machine |= given.pop("machine", {})
        found = submission(
            *tasks,
            machine=machine,
            forward_common_files=["common"],
            tools={"tell": told.append, "sleep": soon},
            **given,
        )
        found.told = told  # type: ignore[attr-defined]
        return found

    return made


def test_jobs_run_there_and_their_results_come_home(make: Callable[..., Placement], cloud: Cloud, wd: Path) -> None:
    """Each job has its own inputs and the common ones; all are one group; nothing is left here."""
    made = make("cat in ../common >out1; echo told", "cat in >out; ls -a .. >out2")
    assert made.run(check_interval_s=0.5).over
    assert (wd / "here/w/t0/out1").read_text() == "0\ncommon\n"
    assert (wd / "here/w/t1/out").read_text() == "1\n"
    assert "t0" not in (wd / "here/w/t1/out2").read_text().split()
    assert len(cloud.jobs) == 2
    assert len({job.group for job in cloud.jobs.values()}) == 1
    staged = wd.parent / "home/staged"
    assert [each for each in staged.rglob("*") if each.is_file()] == [] if staged.exists() else True
