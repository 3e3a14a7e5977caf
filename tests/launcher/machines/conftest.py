"""Clouds and a Hadoop that stand in for the real ones, and submissions to them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from cloud import PROFILES, Cloud
from hadoop import Hadoop

from pilotfish.launcher.contexts import http
from pilotfish.launcher.submission.placement import Placement


@pytest.fixture
def cloud(wd: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cloud]:
    monkeypatch.setattr(http, "FIRST_PAUSE_S", 0.01)
    with Cloud(wd / "cloud") as made:
        for name, value in {**made.environ, "BOHRIUM_PASSWORD": "s3cret-of-ann", "KEY_OF_ANN": "k3y-of-ann"}.items():
            monkeypatch.setenv(name, value)
        yield made


def soon(seconds: float) -> None:
    time.sleep(min(seconds, 0.05))


@pytest.fixture(params=["Bohrium", "OpenAPI"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def to_cloud(wd: Path, kind: str, cloud: Cloud, submission: Callable[..., Placement]) -> Callable[..., Placement]:
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
        machine: dict[str, Any] = {"batch_type": kind, "context_type": kind, "remote_root": None}
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


@pytest.fixture
def hadoop(wd: Path, monkeypatch: pytest.MonkeyPatch) -> Hadoop:
    made = Hadoop(wd / "hadoop")
    for name, value in made.environ.items():
        monkeypatch.setenv(name, value)
    return made
