"""Jobs in containers of YARN: `hadoop` and `yarn` are stand-ins that really run them (`hadoop.py`)."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hadoop import Hadoop

from pilotfish.launcher.submission.placement import Placement


def soon(seconds: float) -> None:
    time.sleep(seconds / 10)


@pytest.fixture
def make(wd: Path, hadoop: Hadoop, submission: Callable[..., Placement]) -> Callable[..., Placement]:
    """`make(command, ...)`: a task for each, which reads `in`, has `common` beside it and makes `out*`."""
    told: list[str] = []

    def made(*commands: str, **given: Any) -> Placement:
        tasks = []
        for at, command in enumerate(commands):
            folder = wd / "here/w" / f"t{at}"
            folder.mkdir(parents=True, exist_ok=True)
            (folder / "in").write_text(f"{at}\n")
            tasks.append(
                {"command": command, "task_work_path": f"t{at}", "forward_files": ["in"], "backward_files": ["out*"]}
            )
        (wd / "here/w/common").write_text("common\n")
        machine = {"batch_type": "DistributedShell", "context_type": "HDFS", "remote_root": "hdfs://nn:8020/user/ann"}
        kwargs = {"yarn_path": str(hadoop.folder / "jars"), "img_name": "registry/image:1", "mem_limit": 4}
        resources = {"queue_name": "q", "kwargs": kwargs, **given.pop("resources", {})}
        machine |= given.pop("machine", {})
        found = submission(
            *tasks,
            machine=machine,
            resources=resources,
            forward_common_files=["common"],
            tools={"tell": told.append, "sleep": soon},
            **given,
        )
        found.told = told  # type: ignore[attr-defined]
        return found

    return made


def test_jobs_run_in_containers_and_their_results_come_home(
    make: Callable[..., Placement], hadoop: Hadoop, wd: Path
) -> None:
    """Each task sees its inputs and the common ones; nothing is left behind."""
    made = make("cat in ../common >out1; echo told", "cat in >out; ls -a .. >out2")
    assert made.run(check_interval_s=0.5).over
    assert (wd / "here/w/t0/out1").read_text() == "0\ncommon\n"
    assert (wd / "here/w/t1/out").read_text() == "1\n"
    assert "t0" not in (wd / "here/w/t1/out2").read_text().split(), "a job has its own inputs only"
    assert not (wd / "here/w/t0/log").exists()
    assert list(hadoop.file("user/ann").iterdir()) == []
    assert len(hadoop.applications()) == 2
