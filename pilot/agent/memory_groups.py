"""A control group (cgroup v2) of its own for each task with a memory limit, where the kernel lets us make some.

The kernel then holds the limit for everything the task starts, wherever that goes, and nothing has to watch. Groups are made
only below one that has been handed to us (`is_delegated`): beside or below the agent's own. Control groups know no processes
beside groups with limits, so what was in that group, the agent and mostly its manager, moves into a leaf of it first; that
happens with the first task that has a limit.
"""

from __future__ import annotations

import errno
import logging
import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from ..cgroups import LEAF, find_own, prefix_of, remove_groups, words
from .forked import GroupError, plain_start, spawn_in_group
from .launch import Launch

log = logging.getLogger(__name__)

_MOVES = 20


# --- what the kernel's files say ----------------------------------------------------------------------------------------


def count_of(events: Sequence[str], name: str) -> int:
    """A number of memory.events, which has names and numbers in turn; 0 where the kernel has no such name."""
    return int(dict(zip(events[::2], events[1::2], strict=False)).get(name, 0))


# --- the folders --------------------------------------------------------------------------------------------------------


def is_delegated(folder: Path) -> bool:
    """Whether whoever runs the tree has handed this group to us.

    It is marked so by systemd (`Delegate=`), or we may write there and not above it: that is how a user's is handed over,
    and what the top of a container's own tree looks like.
    """
    if not all(os.access(folder / name, os.W_OK) for name in ("cgroup.procs", "cgroup.subtree_control")):
        return False
    for mark in ("user.delegate", "trusted.delegate"):
        with suppress(OSError):
            if os.getxattr(folder, mark) == b"1":
                return True
    return not os.access(folder.parent / "cgroup.procs", os.W_OK)


def group_for_tasks(own: Path) -> Path | None:
    """The group, made ready, in which groups of tasks can be made: `own`, or the one it is a leaf of. None: neither can be."""
    for folder in (own, own.parent):
        if not is_delegated(folder) or "memory" not in words(folder / "cgroup.controllers"):
            continue
        try:
            _enable(folder)
        except OSError as error:
            log.warning("memory.group_refused", extra={"of": folder, "reason": error})
            continue
        return folder
    return None


def _enable(folder: Path) -> None:
    """Let groups in `folder` have memory limits. Processes in it move into a leaf; it may take turns, as they start others."""
    if "memory" in words(folder / "cgroup.subtree_control"):
        return
    for moves in range(_MOVES + 1):
        try:
            (folder / "cgroup.subtree_control").write_text("+memory")
            return
        except OSError as error:
            if error.errno != errno.EBUSY or moves == _MOVES:
                raise
        leaf = folder / LEAF
        leaf.mkdir(exist_ok=True)
        for pid in words(folder / "cgroup.procs"):
            with suppress(ProcessLookupError):
                (leaf / "cgroup.procs").write_text(pid)


def limit(folder: Path, limit_bytes: int) -> None:
    """Together the processes in the group get no more than this, nor any swap; beyond it all of them are killed."""
    (folder / "memory.max").write_text(str(limit_bytes))
    (folder / "memory.oom.group").write_text("1")
    swap = folder / "memory.swap.max"
    if swap.exists():  # not so where the kernel does not count swap
        swap.write_text("0")


class Ending(NamedTuple):
    """What a group says after its task. `peak_bytes` counts all its processes and the files they had read; 0: not known."""

    out_of_memory: bool
    peak_bytes: int


def ending_of(folder: Path) -> Ending:
    peak = words(folder / "memory.peak")  # since Linux 5.19
    return Ending(count_of(words(folder / "memory.events"), "oom_kill") > 0, int(peak[0]) if peak else 0)


# --- the groups of a worker ------------------------------------------------------------------------------------------------


class MemoryGroups:
    """The groups of one worker's tasks, by process id. Where none can be made, tasks start without."""

    def __init__(self, agent_id: str, own: Callable[[], Path | None] = find_own) -> None:
        self._agent_id = agent_id
        self._own = own
        self._looked = False
        self._parent: Path | None = None
        self._made = 0
        self._folders: dict[int, Path] = {}
        self._left: list[Path] = []
        """Of tasks that have ended and left processes."""

    def __contains__(self, pid: int) -> bool:
        return pid in self._folders

    def spawn(self, launch: Launch, limit_bytes: int) -> int:
        """Start the process, in a group of that limit if one can be made. Raises OSError as Launch.spawn does."""
        folder = self._make(limit_bytes)
        if folder is None:
            return plain_start()(launch)
        try:
            pid = spawn_in_group(launch, folder / "cgroup.procs")
        except GroupError as error:
            self._give_up(folder, error)
            return plain_start()(launch)
        except OSError:
            self._remove(folder)
            raise
        self._folders[pid] = folder
        return pid

    def _make(self, limit_bytes: int) -> Path | None:
        if not self._looked:
            self._looked = True
            own = self._own()
            self._parent = None if own is None else group_for_tasks(own)
            log.info("memory.limits", extra={"by": self._parent or "watching"})
        if self._parent is None:
            return None
        self._made += 1
        folder = self._parent / f"{prefix_of(self._agent_id)}{self._made}"
        try:
            folder.mkdir()
            limit(folder, limit_bytes)
        except OSError as error:
            self._give_up(folder, error)
            return None
        return folder

    def _give_up(self, folder: Path, error: Exception) -> None:
        """From now on tasks are watched."""
        log.warning("memory.group_failed", extra={"of": folder, "reason": error})
        self._parent = None
        self._remove(folder)

    def ended(self, pid: int) -> Ending:
        """The task of that process has ended and been reaped. What it has left running keeps the group until it ends too."""
        folder = self._folders.pop(pid)
        ending = ending_of(folder)
        self._left = [left for left in self._left if not self._remove(left)]
        if not self._remove(folder):
            self._left.append(folder)
        return ending

    def close(self) -> None:
        """Nothing of the worker's tasks runs any more, or is to."""
        folders = [*self._folders.values(), *self._left]
        for parent in {folder.parent for folder in folders}:
            remove_groups(parent, self._agent_id)

    @staticmethod
    def _remove(folder: Path) -> bool:
        with suppress(OSError):
            folder.rmdir()
        return not folder.exists()
