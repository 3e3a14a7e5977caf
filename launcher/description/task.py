"""A task as DPDispatcher describes it: a shell command in a folder, with files that go there and come back."""

from __future__ import annotations

import posixpath
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Task:
    """One command to run in one folder.

    Attributes:
        command: shell text, taken as it is.
        task_work_path: folder below `work_base`; made when it is missing.
        forward_files: patterns (recursive globs) below the folder that are brought to the machine.
        backward_files: patterns below the folder that are brought back.
        outlog, errlog: names for standard output and error below the folder; None: not kept.
        task_name: what the batch system shows when the job has this task only.
        resources: for a task of a pilot: `cores`, `nodes`, `gpus`, `memory`, `wt` (see docs); None elsewhere.
        dependencies: for a task of a pilot: names of tasks that must have succeeded before.
        iteration: for a task of a pilot: `{"start", "stop"}` or `{"values"}`.
        retries: for a task of a pilot: how often it is started again when it failed.
    """

    command: str
    task_work_path: str
    forward_files: tuple[str, ...] = ()
    backward_files: tuple[str, ...] = ()
    outlog: str | None = "log"
    errlog: str | None = "err"
    task_name: str | None = None
    resources: dict[str, Any] | None = field(default=None, hash=False)
    dependencies: tuple[str, ...] = ()
    iteration: dict[str, Any] | None = field(default=None, hash=False)
    retries: int = 0

    @property
    def folder(self) -> str:
        """`task_work_path` in its one spelling: `a/b`, and `.` for the root.

        Paths are made and compared with this; hashes are made of what was written.
        """
        return posixpath.normpath(self.task_work_path)

    def path(self, name: str) -> str:
        """A file of this task, below the root."""
        return posixpath.normpath(posixpath.join(self.folder, name))
