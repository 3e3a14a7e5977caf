"""Where the output of a step's tasks goes, and their input comes from."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import threading
from collections.abc import Mapping
from typing import IO, Any, NamedTuple

from . import batch_step
from .arguments import Values


class Task(NamedTuple):
    """One process of the step: its rank, and its number on its node."""

    rank: int
    local: int
    node_id: int
    node: str


class Step(NamedTuple):
    """A step as it was asked for: `cores`: what it takes on each of its nodes while it runs; none with --overlap."""

    number: int
    name: str
    tasks: tuple[Task, ...]
    cpus_per_task: int
    cores: Mapping[str, int]

    @property
    def nodes(self) -> list[str]:
        return list(dict.fromkeys(task.node for task in self.tasks))

    def counts(self) -> list[int]:
        return [sum(task.node == node for task in self.tasks) for node in self.nodes]


class Streams:
    """Where the tasks' output goes and their input comes from: as srun's own, or what -i, -o and -e name."""

    def __init__(self, values: Values, job: dict[str, Any], step: Step, cwd: str) -> None:
        self._values = values
        self._job = job
        self._step = step
        self._cwd = cwd
        self._files: dict[str, IO[bytes]] = {}
        self._pumps: list[threading.Thread] = []
        self._fed: list[IO[bytes]] = []
        self.label = "label" in values

    def of(self, task: Task) -> dict[str, Any]:
        """The arguments of Popen."""
        out = self._file("output", task, "wb")
        err = self._file("error", task, "wb") if "error" in self._values else (subprocess.STDOUT if out else None)
        if self.label:
            return {"stdin": self._input(task), "stdout": out or subprocess.PIPE, "stderr": err or subprocess.PIPE}
        return {"stdin": self._input(task), "stdout": out, "stderr": err}

    def _input(self, task: Task) -> Any:
        text = self._values.get("input", "all")
        if text == "none" or (text.isdigit() and int(text) != task.rank):
            return subprocess.DEVNULL
        if text != "all" and not text.isdigit():
            return self._file("input", task, "rb")
        if len(self._step.tasks) == 1 or text.isdigit() or os.isatty(0):
            return None
        return subprocess.PIPE

    def _file(self, option: str, task: Task, mode: str) -> Any:
        pattern = self._values.get(option)
        if pattern is None or (option != "input" and pattern == "all"):
            return None
        if pattern == "none":
            return subprocess.DEVNULL
        number = str(self._step.number)
        name = batch_step.file_name(pattern, self._job, task.node, number, task.rank, task.node_id)
        path = os.path.join(self._cwd, name)
        if mode == "rb":
            return open(path, "rb")
        if path not in self._files:
            self._files[path] = open(
                path, "ab" if self._values.get("open-mode", self._usual()).startswith("a") else "wb"
            )
        return self._files[path]

    def _usual(self) -> str:
        return "append" if self._job["append"] else "truncate"

    def attach(self, task: Task, process: subprocess.Popen[bytes]) -> None:
        width = len(str(len(self._step.tasks) - 1))
        for pipe, to in ((process.stdout, sys.stdout.buffer), (process.stderr, sys.stderr.buffer)):
            if pipe is not None:
                self._pump(_labelled, pipe, to, f"{task.rank:>{width}}: ".encode())
        if process.stdin is not None:
            self._fed.append(process.stdin)

    def feed(self) -> None:
        """Every task gets all that comes in."""
        if self._fed:
            thread = threading.Thread(target=_fed, args=(self._fed,), daemon=True)
            thread.start()

    def _pump(self, target: Any, *arguments: Any) -> None:
        thread = threading.Thread(target=target, args=arguments)
        thread.start()
        self._pumps.append(thread)

    def close(self) -> None:
        for thread in self._pumps:
            thread.join()
        for file in self._files.values():
            file.close()


def _labelled(pipe: IO[bytes], to: IO[bytes], label: bytes) -> None:
    for line in pipe:
        to.write(label + line)
        to.flush()


def _fed(targets: list[IO[bytes]]) -> None:
    while data := os.read(0, 65536):
        for target in list(targets):
            try:
                target.write(data)
                target.flush()
            except OSError:
                targets.remove(target)  # it does not read
    for target in targets:
        with contextlib.suppress(OSError):
            target.close()
