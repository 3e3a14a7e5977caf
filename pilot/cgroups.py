"""Control groups (cgroup version 2): where this process's own is, what limits it, and removing those of ours."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

LEAF = "pilotfish"
"""The group that the processes of a pilot move to when tasks get groups of their own; those are called LEAF-AGENT-NUMBER."""
_MOST_TRIES = 200
_TRY_AGAIN_S = 0.01


def own_folder(cgroup: str, mountinfo: str) -> Path | None:
    """The folder of the group of a process, from its /proc files `cgroup` and `mountinfo`.

    None without version 2, or when the group is not below the one that is mounted.
    """
    paths = [line[3:] for line in cgroup.splitlines() if line.startswith("0::/") and not line.startswith("0::/..")]
    mounts = [fields.split() for fields in mountinfo.splitlines() if " - cgroup2 " in fields]
    for path in paths:
        for mount in mounts:
            root, point = mount[3], mount[4]
            inside = os.path.relpath(path, root)
            if inside.split("/")[0] != "..":
                return Path(os.path.normpath(os.path.join(point, inside)))
    return None


def find_own() -> Path | None:
    """The folder of this process's own group."""
    try:
        return own_folder(Path("/proc/self/cgroup").read_text(), Path("/proc/self/mountinfo").read_text())
    except OSError:
        return None


def words(path: Path) -> list[str]:
    """What a group's file says; nothing where there is no such file."""
    try:
        return path.read_text().split()
    except OSError:
        return []


def lines_above(own: Path | None, name: str) -> Iterator[list[str]]:
    """The words of that file of a group and of each group above it: limits hold for all below."""
    for folder in () if own is None else (own, *own.parents):
        if not (folder / "cgroup.procs").exists():
            return
        yield words(folder / name)


def prefix_of(agent_id: str) -> str:
    """How the names of the groups of an agent's tasks begin."""
    return f"{LEAF}-{agent_id.replace('/', '_')}-"


def remove_groups(parent: Path, agent_id: str) -> None:
    """Remove the groups of an agent's tasks in `parent`, and kill what is in them."""
    for folder in parent.glob(f"{prefix_of(agent_id)}*"):
        for _ in range(_MOST_TRIES):
            for pid in words(folder / "cgroup.procs"):
                with suppress(OSError):
                    os.kill(int(pid), signal.SIGKILL)
            with suppress(OSError):
                folder.rmdir()
            if not folder.exists():
                break
            time.sleep(_TRY_AGAIN_S)  # what was killed takes a moment to go


def clear_after(agent_id: str) -> None:
    """Remove the groups that a dead agent of this host has left behind."""
    own = find_own()
    if own is not None:
        for parent in (own, own.parent):
            remove_groups(parent, agent_id)
