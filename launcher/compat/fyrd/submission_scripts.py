"""fyrd's objects for the files of a job."""

from __future__ import annotations

import os
import posixpath
from pathlib import Path

from ...contexts.base import Context
from ...contexts.lazy_local import LazyLocalContext
from ...contexts.shell import place, sh


class Script:
    """A script of a job, on the job's machine.

    Attributes:
        file_name: its path there.
        script: its text.
    """

    def __init__(self, file_name: str, script: str = "", context: Context | None = None) -> None:
        self.file_name = file_name
        self.script = script
        self._context = context or LazyLocalContext(Path.cwd(), None, {})

    @property
    def exists(self) -> bool:
        """Whether the file is there."""
        return self.file_name in self._context.read([self.file_name])

    written = exists

    def write(self, overwrite: bool = True) -> None:
        """Write the file; with `overwrite=False` only where there is none."""
        if overwrite or not self.exists:
            self._context.write({self.file_name: self.script.encode()})

    def clean(self, delete_output: bool | None = None) -> None:
        """Remove the file. Output of the job is no part of it: `Job.clean` removes that."""
        self._context.run(sh("rm -f -- {file}", file=place(self._context.absolute(self.file_name))))

    def __fspath__(self) -> str:
        return self.file_name

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.file_name}>"

    def __str__(self) -> str:
        return f"{posixpath.basename(os.fspath(self))}:\n{self.script}"


class Function(Script):
    """The program that calls a function; what it calls is pickled in a file beside it."""
