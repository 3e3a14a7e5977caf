"""A job that asks for more memory than it may have, on a real Slurm that lets the kernel see to that (cgroup v1)."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from emulated import Slurm
from real import SLURM_PROGRAMS, require

from pilotfish.launcher.description.submission import parse_submission
from pilotfish.launcher.submission.placement import Placement
from pilotfish.launcher.submission.runner import SubmissionFailedError

TAKE = f"{sys.executable} -c 'import time; taken = bytearray(b\"x\") * 200_000_000; time.sleep(2)'"


@pytest.fixture
def slurm_with_limits(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Slurm]:
    require("unshare", "nsenter", *SLURM_PROGRAMS)
    if not os.access("/sys/fs/cgroup/memory/memory.limit_in_bytes", os.R_OK):
        pytest.skip("the kernel's memory controller is not in a cgroup v1 hierarchy")
    limits = "TaskPlugin=task/cgroup\nSelectTypeParameters=CR_Core_Memory\n"
    with Slurm(nodes=1, cpus=2, extra=limits) as slurm:
        for name in [name for name in os.environ if name.startswith("SLURM")]:
            monkeypatch.delenv(name)
        for name in ("SLURM_CONF", "PATH"):
            monkeypatch.setenv(name, slurm.environ[name])
        monkeypatch.setenv("PILOTFISH_HOME", str(tmp_path / "home"))
        yield slurm
    for group in sorted(Path("/sys/fs/cgroup/memory/slurm_node1").glob("**"), reverse=True):
        with suppress(OSError):  # Slurm leaves its own groups
            group.rmdir()


@pytest.fixture
def submission(slurm_with_limits: Slurm, wd: Path) -> Callable[..., Placement]:
    def make(*tasks: dict[str, Any], memory: str, **given: Any) -> Placement:
        machine = {
            "batch_type": "Slurm",
            "context_type": "Local",
            "local_root": str(wd / "here"),
            "remote_root": str(wd / "there"),
            "retry_count": 0,
        }
        (wd / "here/w").mkdir(parents=True, exist_ok=True)
        resources = {"group_size": 1, "memory": memory, "cpu_per_node": 1, "walltime": "5m"}
        found = {"work_base": "w", "machine": machine, "resources": resources, "task_list": list(tasks), **given}
        return Placement(parse_submission(found), tell=print)

    return make


def rows(wd: Path) -> dict[str, dict[str, Any]]:
    return {row["folder"]: row for row in json.loads((wd / "here/w/results.json").read_text())}


def test_a_job_that_dies_of_memory_says_so_and_one_with_more_does_not(
    submission: Callable[..., Placement], wd: Path
) -> None:
    tasks = [{"command": TAKE, "task_work_path": "greedy"}, {"command": "echo ok", "task_work_path": "modest"}]
    with pytest.raises(SubmissionFailedError, match="memory"):
        submission(*tasks, memory="50M").run(check_interval_s=1)
    found = rows(wd)
    assert (found["greedy"]["state"], found["greedy"]["reason"]) == ("failed", "out of memory")
    assert (found["modest"]["state"], found["modest"]["exit_code"]) == ("finished", 0)
    submission({"command": TAKE, "task_work_path": "greedy"}, memory="400M").run(check_interval_s=1)
    assert rows(wd)["greedy"]["exit_code"] == 0


def test_a_task_of_a_pilot_that_takes_too_much_is_ended_and_the_others_go_on(
    submission: Callable[..., Placement], wd: Path
) -> None:
    """The pilot's own watch or the kernel: the task fails, the pilot and the job do not."""
    greedy = {"command": TAKE, "task_work_path": "greedy", "resources": {"memory": "60M"}}
    modest = [{"command": "echo ok", "task_work_path": f"m{number}"} for number in range(4)]
    with pytest.raises(SubmissionFailedError):
        submission(greedy, *modest, memory="500M", pilot={"python": sys.executable}).run(check_interval_s=1)
    found = rows(wd)
    assert [found[f"m{number}"]["exit_code"] for number in range(4)] == [0] * 4
    assert found["greedy"]["state"] == "failed"
    assert "memory limit" in json.dumps(found["greedy"])


def test_slurm_holds_the_limit_of_a_task_that_is_a_step(slurm_with_limits: Slurm, wd: Path) -> None:
    """Model `srunmpi`: two ranks with 150 MB each, which the agent cannot watch."""

    def job(name: str, memory: str) -> dict[str, Any]:
        take = "import time; taken = bytearray(b'x') * 150_000_000; time.sleep(2)"
        execution = {"exec": sys.executable, "args": ["-c", take], "model": "srunmpi", "stderr": f"{name}.err"}
        return {"name": name, "execution": execution, "resources": {"numNodes": 1, "numCores": 2, "mem": memory}}

    (wd / "jobs.json").write_text(json.dumps([job("greedy", "100M"), job("modest", "600M")]))
    number = slurm_with_limits.submit("pilotfish run jobs.json", wd, "--ntasks-per-node=2", "--mem=1500M")
    slurm_with_limits.wait_for_end(number)
    (report,) = wd.glob(".qcgpjm-service-*/jobs.report")
    states = {entry["name"]: entry["state"] for entry in map(json.loads, report.read_text().splitlines())}
    assert states == {"greedy": "FAILED", "modest": "SUCCEED"}, (wd / "modest.err").read_text()
    assert "OOM" in (wd / "greedy.err").read_text().upper()
