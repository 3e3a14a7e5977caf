"""Commands among the calls of an executor: `executor.submit(Command("./sim", "--x", x))`."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ..errors import QCGPJMAError
from ..plain import as_word


class CommandResult(NamedTuple):
    """How a command went. `files`: those that it was asked for, where they are; `output`: what it printed to either stream."""

    args: tuple[str, ...]
    code: int
    stdout: str
    stderr: str
    files: tuple[Path, ...]
    wd: Path

    @property
    def output(self) -> str:
        return self.stdout + self.stderr

    def check(self) -> CommandResult:
        """Itself. Raises CommandError when the command has failed."""
        if self.code:
            raise CommandError(self)
        return self


class CommandError(QCGPJMAError):
    """A command has failed; `result` tells how."""

    code = "command-failed"

    def __init__(self, result: CommandResult) -> None:
        last = result.output.strip().rpartition("\n")[2][:200]
        super().__init__(f"{result.args[0]} ended with exit code {result.code}{f': {last}' if last else ''}")
        self.result = result

    def __reduce__(self) -> tuple[Any, ...]:
        return CommandError, (self.result,)


class Command:
    """A program with its arguments, each of them text, a path or a number; no shell sees them.

    Args:
        wd: the folder in which it runs, made if need be; that of the executor if not given.
        env: variables besides those that a task has.
        stdin: what it reads.
        files: patterns of files in its folder whose paths the result is to have.
        check: a command that fails makes its call fail with CommandError.
    """

    def __init__(
        self,
        *args: object,
        wd: str | os.PathLike[str] = "",
        env: Mapping[str, object] | None = None,
        stdin: str | bytes = b"",
        files: str | Sequence[str] = (),
        check: bool = False,
    ) -> None:
        if not args:
            raise TypeError("Command() needs at least the name of a program")
        self.args = tuple(as_word(word, f"args[{place}]") for place, word in enumerate(args))
        self.wd = as_word(wd, "wd") if wd else ""
        self.env = {name: as_word(value, f"env.{name}") for name, value in (env or {}).items()}
        self.stdin = stdin.encode() if isinstance(stdin, str) else stdin
        self.files = [files] if isinstance(files, str) else list(files)
        self.check = check

    def __repr__(self) -> str:
        return f"Command({', '.join(map(repr, self.args))})"

    @property
    def __name__(self) -> str:
        return Path(self.args[0]).name

    def words(self) -> tuple[Any, ...]:
        """As the function worker takes it."""
        return list(self.args), self.wd, self.env, self.stdin, self.files

    def result_of(self, told: Any) -> CommandResult:
        """From what the function worker tells. Raises CommandError when it is to be checked and has failed."""
        stdout, stderr = (told[name].decode(errors="replace") for name in ("stdout", "stderr"))
        files = tuple(map(Path, told["files"]))
        result = CommandResult(self.args, told["code"], stdout, stderr, files, Path(told["wd"]))
        return result.check() if self.check else result
