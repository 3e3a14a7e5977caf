"""Control groups of this process: found, and the limits of all above it counted. On made-up folders."""

from __future__ import annotations

from pathlib import Path

import psutil
import pytest

from pilotfish.pilot import cgroups
from pilotfish.pilot.systems.host_env import memory, quota

MOUNTS = """\
21 28 0:19 / /proc rw,nosuid - proc proc rw
25 28 0:22 / /sys/fs/cgroup rw,nosuid,relatime shared:4 - cgroup2 cgroup2 rw,nsdelegate
"""


@pytest.mark.parametrize(
    ("cgroup", "mounts", "folder"),
    [
        ("0::/user.slice/a.scope\n", MOUNTS, "/sys/fs/cgroup/user.slice/a.scope"),
        ("0::/\n", MOUNTS, "/sys/fs/cgroup"),
        (
            "5:memory:/x\n0::/job\n",
            MOUNTS.replace("/sys/fs/cgroup", "/sys/fs/cgroup/unified"),
            "/sys/fs/cgroup/unified/job",
        ),
        ("0::/docker/1/a\n", MOUNTS.replace("0:22 /", "0:22 /docker/1"), "/sys/fs/cgroup/a"),
        ("0::/../other\n", MOUNTS, None),
        ("5:memory:/x\n", MOUNTS, None),
        ("0::/job\n", "", None),
    ],
    ids=["scope", "top", "both versions", "container", "out of sight", "version 1", "not mounted"],
)
def test_the_own_group_is_found(cgroup: str, mounts: str, folder: str | None) -> None:
    assert cgroups.own_folder(cgroup, mounts) == (None if folder is None else Path(folder))


def group(path: Path, **files: str) -> Path:
    path.mkdir()
    (path / "cgroup.procs").write_text("")
    for name, text in files.items():
        (path / name.replace("_", ".")).write_text(text)
    return path


def test_the_tightest_limit_on_the_way_up_counts(tmp_path: Path) -> None:
    job = group(tmp_path / "job", cpu_max="250000 100000\n", memory_max="1048576\n")
    step = group(job / "step", cpu_max="max 100000\n", memory_max="2097152\n")
    leaf = group(step / "leaf")  # without these files: the controllers are not handed on
    assert quota(leaf) == 2
    assert memory(leaf) == 1048576


def test_a_share_of_a_core_is_one_core(tmp_path: Path) -> None:
    assert quota(group(tmp_path / "job", cpu_max="50000 100000\n")) == 1


def test_without_limits_it_is_the_machine(tmp_path: Path) -> None:
    top = group(tmp_path / "top", cpu_max="max 100000\n", memory_max="max\n")
    for own in (top, None):
        assert quota(own) is None
        assert memory(own) == psutil.virtual_memory().total
