"""The files of one job of fyrd: their names, which no other job has, and the text of its scripts."""

from __future__ import annotations

import os
import posixpath
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from ...contexts.shell import word
from ...job.states import Reason, Status
from ...submission.command_jobs import file_name
from ...submission.job_options import ClusterError
from . import functions


@dataclass(frozen=True)
class JobFiles:
    """Paths on the job's machine; relative folders of the options are below the one in which it runs.

    Attributes:
        stem: the job's name with digits that no other job has.
        key: signs what a function returns.
    """

    options: Mapping[str, Any]
    stem: str
    folder: str
    local: bool
    key: bytes
    command: str | Callable[..., Any]
    args: Sequence[Any]
    keywords: Mapping[str, Any]

    def _at(self, option: str, name: str) -> str:
        folder = self.options.get(option) or ""
        return posixpath.join(self.folder, os.path.expanduser(folder) if self.local else folder, name)

    def _name(self, end: str) -> str:
        return f"{self.stem}.{self.options.get('suffix', 'cluster')}{end}"

    @property
    def out(self) -> str:
        return self._at("outpath", self.options.get("outfile") or self._name(".out"))

    @property
    def err(self) -> str:
        return self._at("outpath", self.options.get("errfile") or self._name(".err"))

    @property
    def result(self) -> str:
        """What a function returned."""
        return self._at("outpath", self._name(".out.func.pickle"))

    @property
    def scripts(self) -> list[str]:
        names = ["_func.py", "_func.pickle.in"] if callable(self.command) else [".script"]
        return [self._at("scriptpath", self._name(name)) for name in names]

    def texts(self) -> dict[str, bytes]:
        """The scripts. Raises FunctionError."""
        if not callable(self.command):
            line = " ".join([self.command, *(word(str(each)) for each in self.args)])
            return {self.scripts[0]: f"{line}\n".encode()}
        text, call = functions.prepared(
            self.command,
            self.args,
            self.keywords,
            self.scripts[1],
            self.result,
            self.key,
            self.options.get("imports", ()),
            self.options.get("syspaths", ()),
        )
        return {self.scripts[0]: text.encode(), self.scripts[1]: call}


def unique_stem(name: str, digits: str) -> str:
    """A name with digits that no other job has, fit for a file."""
    return f"{file_name(name.removesuffix(f'.{digits}'))}.{digits}"


@dataclass(frozen=True)
class Output:
    """What a job has printed and, if it is a function, returned; nothing where there is no file."""

    out: str = ""
    err: str = ""
    result: bytes | None = None

    @classmethod
    def fetched(cls, place: Place, files: JobFiles, *, printed_only: bool = False) -> Output:
        result = place.read(files.result) if callable(files.command) and not printed_only else None
        return cls(_text(place.read(files.out)), _text(place.read(files.err)), result)


class Place(Protocol):
    """A job where it runs."""

    def read(self, name: str) -> bytes | None: ...


def _text(content: bytes | None) -> str:
    return (content or b"").decode(errors="replace")


def no_result(name: str, state: str, status: Status, err: str, function: bool) -> ClusterError:
    """Why there is none, with the last words of the job."""
    if function and status.reason in ("", Reason.PROGRAM):
        code = "" if status.exit_code is None else f" with exit code {status.exit_code}"
        what = f"{state}: the function has ended its process{code} and returned nothing"
    else:
        code = f", exit code {status.exit_code}" if status.exit_code else ""
        what = f"{state}: {status.reason or status.native or 'no result'}{code}"
    if function and status.reason == Reason.MEMORY:
        what += "; `mem` is for the interpreter too, which alone needs about 30 MB"
    what += f"; last words: {status.why}" if status.why else ""
    return ClusterError(what, where=name, remedy=err.strip()[-500:])
