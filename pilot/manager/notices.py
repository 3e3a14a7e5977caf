"""`--notify`: a command of the user's is run at the first failure of a task and at the end of the pilot.

Each command has a thread, because even its start may hang (a program on a file server that does not answer), and a time limit,
so that the pilot ends in any case. Only the first failure is told: a hundred thousand others would be a hundred thousand mails.
"""

from __future__ import annotations

import shlex
import time
from collections.abc import Mapping
from threading import Thread

from ..exit_codes import ExitCode
from ..model.states import State
from ..notify import LIMIT_S, run
from ..wire.replies import TaskCounts
from .parts import Parts

_KILLED_S = 1.0


class Notices:
    """Made when the journal has been read. `parts.status` is told what goes wrong with a command."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._words = shlex.split(parts.settings.notify or "")  # which the settings have checked
        self._failed_before = parts.scheduler.jobs.tasks_in[State.FAILED]
        """Those of earlier lives, of which the first was told then."""
        self._has_told = False
        self._threads: list[Thread] = []

    def look(self) -> None:
        """Called twice a second."""
        failures = self._parts.recent.failures
        new = min(len(failures), self._parts.scheduler.jobs.tasks_in[State.FAILED] - self._failed_before)
        if self._words and new > 0 and not self._has_told:
            self._has_told = True
            first = failures[new - 1]
            code = "" if first.exit_code is None else str(first.exit_code)
            why = first.message or f"exit code {code}"
            self._run(
                {"": "failure", "TASK": first.task, "REASON": why, "TASK_EXIT_CODE": code, "NODE": first.node},
                f"task {first.task} has failed: {why}",
            )

    def end(self, exit_code: int) -> None:
        """The pilot has ended, with this exit code; returns when all commands have, or their time is over."""
        if not self._words:
            return
        self.look()
        self._wait()  # so that the end is told last
        tasks = self._parts.status.describe(ended=True).tasks
        left = tasks.total - tasks.ended
        state, code = _state(exit_code, tasks, self._parts.scheduler.jobs.tasks_in[State.CANCELED])
        succeeded = self._parts.scheduler.jobs.tasks_in[State.SUCCEED]
        failed = tasks.ended - succeeded
        text = f"{state}: {tasks.total} tasks, {succeeded} succeeded, {failed} failed, {left} left"
        counts = {"TASKS": tasks.total, "SUCCEEDED": succeeded, "FAILED": failed, "LEFT": left, "EXIT_CODE": code}
        self._run({"": "end", "STATE": state, **{name: str(count) for name, count in counts.items()}}, text)
        self._wait()

    def _wait(self) -> None:
        """For the commands that run. Each has a limit of time."""
        until = time.monotonic() + LIMIT_S + _KILLED_S
        for thread in self._threads:
            thread.join(max(0.0, until - time.monotonic()))

    def _run(self, variables: Mapping[str, str], text: str) -> None:
        aux = self._parts.aux
        whole = {
            **variables,
            "RUN": aux.instance_id,
            "FOLDER": str(aux.path),
            "TEXT": f"pilotfish {aux.instance_id}: {text}",
        }
        thread = Thread(target=run, args=(self._words, whole, self._parts.status.warn), name="notify", daemon=True)
        try:
            thread.start()
        except RuntimeError as error:  # no room for a thread
            self._parts.status.warn(f"--notify: {error}")
            return
        self._threads.append(thread)


def _state(exit_code: int, tasks: TaskCounts, canceled: int) -> tuple[str, int]:
    """One word for how it has ended, and the exit code that `pilotfish run` has then."""
    if exit_code == ExitCode.INTERRUPTED:
        return "interrupted", exit_code
    if tasks.ended < tasks.total:
        return "left", exit_code or ExitCode.WORK_LEFT
    if exit_code:
        return "stopped", exit_code
    return ("failed", ExitCode.FAILED) if tasks.failed or canceled else ("succeeded", ExitCode.DONE)
