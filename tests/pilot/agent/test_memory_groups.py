"""Control groups for tasks with a memory limit, on made-up folders. The kernel's part is in cluster/test_memory_limits.py."""

from __future__ import annotations

import os
from pathlib import Path

from pilotfish.pilot.agent import memory_groups
from pilotfish.pilot.agent.launch import Launch
from pilotfish.pilot.agent.memory_groups import Ending, MemoryGroups
from pilotfish.pilot.model.job_spec import Execution


def test_numbers_of_events_are_read() -> None:
    events = ["low", "0", "high", "0", "max", "12", "oom", "1", "oom_kill", "3"]
    assert memory_groups.count_of(events, "oom_kill") == 3
    assert memory_groups.count_of(events, "oom_group_kill") == 0


def made_up(parent: Path, controllers: str, enabled: str = "", procs: str = "") -> Path:
    """A folder with the files of a group that was handed to us: there is no `cgroup.procs` above it."""
    folder = parent / "group"
    folder.mkdir()
    (folder / "cgroup.controllers").write_text(controllers)
    (folder / "cgroup.subtree_control").write_text(enabled)
    (folder / "cgroup.procs").write_text(procs)
    return folder


def test_a_group_handed_to_us_is_made_ready(tmp_path: Path) -> None:
    folder = made_up(tmp_path, "cpu memory pids\n")
    assert memory_groups.group_for_tasks(folder) == folder
    assert (folder / "cgroup.subtree_control").read_text() == "+memory"


def test_the_group_above_serves_one_that_is_its_leaf(tmp_path: Path) -> None:
    folder = made_up(tmp_path, "memory\n", enabled="memory\n")
    leaf = folder / "leaf"
    leaf.mkdir()
    for name in ("cgroup.procs", "cgroup.subtree_control", "cgroup.controllers"):
        (leaf / name).write_text("")
    assert memory_groups.group_for_tasks(leaf) == folder


def test_without_the_memory_controller_there_is_none(tmp_path: Path) -> None:
    assert memory_groups.group_for_tasks(made_up(tmp_path, "cpu pids\n")) is None


def test_a_group_in_a_tree_that_somebody_else_runs_is_left_alone(tmp_path: Path) -> None:
    folder = made_up(tmp_path, "memory\n")
    (tmp_path / "cgroup.procs").write_text("")  # we could write above it too, and no mark says that it is ours
    assert memory_groups.group_for_tasks(folder) is None
    assert (folder / "cgroup.subtree_control").read_text() == ""


def test_limits_are_written(tmp_path: Path) -> None:
    (tmp_path / "memory.swap.max").write_text("max")
    memory_groups.limit(tmp_path, 100 << 20)
    written = {path.name: path.read_text() for path in tmp_path.iterdir()}
    assert written == {"memory.max": "104857600", "memory.oom.group": "1", "memory.swap.max": "0"}


def test_the_ending_is_read(tmp_path: Path) -> None:
    assert memory_groups.ending_of(tmp_path) == Ending(False, 0)
    (tmp_path / "memory.peak").write_text("4096\n")
    (tmp_path / "memory.events").write_text("oom 1\noom_kill 2\n")
    assert memory_groups.ending_of(tmp_path) == Ending(True, 4096)


def test_where_there_are_no_groups_the_task_starts_without(tmp_path: Path) -> None:
    groups = MemoryGroups("node-1", lambda: None)
    pid = groups.spawn(Launch("/bin/true", ["true"], {}, "/", [], Execution(exec="true")), 1 << 20)
    assert pid not in groups
    assert _exit_code(pid) == 0


def _exit_code(pid: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
