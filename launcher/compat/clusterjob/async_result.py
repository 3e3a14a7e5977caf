"""`AsyncResult`: a submitted job script that can be come back to, also from another program or on another day."""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from ....pilot.locks import held
from ....pilot.model.errors import JournalError
from ...description.schema import DescriptionError
from ...job.states import JobState, Reason, Status
from ...submission.single import OneJob, look_at
from .headers import DEFAULT

PENDING, RUNNING, COMPLETED, CANCELLED, FAILED = range(-2, 3)
"""Below 0: not over; above 0: over, and not well."""
STATUS_CODES = [PENDING, RUNNING, COMPLETED, CANCELLED, FAILED]
str_status = dict(zip(STATUS_CODES, ("PENDING", "RUNNING", "COMPLETED", "CANCELLED", "FAILED"), strict=True))

_FIRST_PAUSE_S = 0.5
_KEPT = frozenset(
    ["backend", "remote", "status", "exit_code", "message", "epilogue", "epilogue_ran", "max_sleep_interval", "job"]
)
"""What a kept result has, besides its version."""


class NoKeptResultError(JournalError, FileNotFoundError):
    """There is no file where a result is looked for."""

    code = "no-kept-result"


class _Load:
    """Of the class it makes a result of what `dump` has written, of an object it loads into that. Raises JournalError."""

    def __get__(
        self, result: AsyncResult | None, kind: type[AsyncResult]
    ) -> Callable[[str | os.PathLike[str]], AsyncResult]:
        return (AsyncResult() if result is None else result)._take_over


class AsyncResult:
    """What became of a job script; like `multiprocessing.pool.AsyncResult`.

    Attributes:
        job_id: the batch system's; None when it was not taken.
        message: why it failed, as far as it is known.
        exit_code: of the script; None while it runs, or when it is not known.
        epilogue: a script that is run here, once, when the job is first seen to be over.
        cache_file: where it is kept after each change of its status; None: nowhere.
        max_sleep_interval: longest pause between two looks, in seconds.
    """

    max_sleep_interval: float = 160

    def __init__(
        self,
        job: OneJob | None = None,
        backend: str = DEFAULT,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.backend = backend
        self.remote: str | None = None
        self.epilogue = ""
        self.cache_file: str | None = None
        self.message = ""
        self.exit_code: int | None = None
        self.job = job
        self._status = CANCELLED if job is None else PENDING
        self._epilogue_ran = False
        self._clock, self._sleep = clock, sleep

    @property
    def job_id(self) -> str | None:
        return self.job.id or None if self.job is not None else None

    def __repr__(self) -> str:
        return f"<AsyncResult {self.backend} {self.job_id} {str_status[self._status]}>"

    # --- looking --------------------------------------------------------------------------------------------------------

    @property
    def status(self) -> int:
        """One of STATUS_CODES; asks the batch system until the job is over."""
        if self._status < COMPLETED and self.job is not None:
            _look_at([self])
        return self._status

    def _take(self, found: Status) -> None:
        status = _code(found)
        if status == self._status:
            return
        self._status = status
        if status >= COMPLETED:
            self.exit_code, self.message = found.exit_code, found.reason
            self._ended()
        else:
            self.dump()

    def _ended(self) -> None:
        self.dump()
        self.run_epilogue()

    def mark_failed(self, why: str) -> None:
        """The job was never taken."""
        self._status, self.message = FAILED, why

    def ready(self) -> bool:
        return self.status >= COMPLETED

    def successful(self) -> bool:
        """Whether it ended well. AssertionError while it is not over."""
        assert self.ready(), "the job is not over"
        return self._status == COMPLETED

    def wait(self, timeout: float | None = None) -> None:
        """Until it is over, or `timeout` seconds have gone: looks at once, then ever less often."""
        self.wait_all([self], timeout)

    @staticmethod
    def wait_all(results: Sequence[AsyncResult], timeout: float | None = None) -> None:
        """Until all of these are over, or `timeout` seconds have gone; one question to the batch system for all of them."""
        if not results:
            return
        clock, sleep = results[0]._clock, results[0]._sleep
        longest = min(each.max_sleep_interval for each in results)
        deadline = None if timeout is None else clock() + timeout
        first = min(_FIRST_PAUSE_S, longest)
        pause, seen = first, _look_at(results)
        while any(status < COMPLETED for status in seen):
            left = pause if deadline is None else min(pause, deadline - clock())
            if left <= 0:
                return
            sleep(left)
            now = _look_at(results)
            doubled = pause * 2 if pause * 2 <= longest else pause
            pause = doubled if now == seen else first
            seen = now

    def get(self, timeout: float | None = None) -> int:
        """`wait`, then the status."""
        self.wait(timeout)
        return self.status

    def cancel(self) -> None:
        """End the job. Nothing happens when it is over; otherwise its epilogue runs."""
        if self.ready():
            return
        assert self.job is not None
        self._take(self.job.cancel())

    def forget(self) -> None:
        """Remove what is kept of a job that is over, on the machine and in the cache file: no other handle can tell its end."""
        if self.job is not None and self.ready():
            self.job.forget()
        if self.cache_file is not None:
            for name in (self.cache_file, f"{self.cache_file}.lock"):
                Path(name).unlink(missing_ok=True)

    # --- the epilogue ---------------------------------------------------------------------------------------------------

    def run_epilogue(self) -> None:
        """Run it here, in the current folder, unless it has been run, by whatever program. Raises CalledProcessError.

        That is noted on the job's machine before, so it is never run twice.
        """
        if self._epilogue_ran:
            return
        mine = not self.epilogue or self.job is None or self.job.claim_epilogue()
        self._epilogue_ran = True
        self.dump()
        if mine and self.epilogue:
            run_here(self.epilogue)

    # --- keeping --------------------------------------------------------------------------------------------------------

    def dump(self, cache_file: str | os.PathLike[str] | None = None) -> None:
        """Write it down, whole or not at all; without a name into its own cache file, if it has one.

        Where another program has written that the same job is over, that stays.
        """
        target = os.fspath(cache_file) if cache_file is not None else self.cache_file
        if target is None:
            return
        path = Path(target).absolute()
        with held(f"{path}.lock"):
            if not (self._status < COMPLETED and self.job is not None and _says_over(path, self.job.hash)):
                self._write(path)

    def _write(self, path: Path) -> None:
        found = {
            "version": 1,
            "backend": self.backend,
            "remote": self.remote,
            "status": self._status,
            "exit_code": self.exit_code,
            "message": self.message,
            "epilogue": self.epilogue,
            "epilogue_ran": self._epilogue_ran,
            "max_sleep_interval": self.max_sleep_interval,
            "job": None if self.job is None else self.job.to_dict(),
        }
        temporary = path.with_name(f".{path.name}.{os.getpid()}")
        with open(temporary, "w", opener=lambda name, flags: os.open(name, flags, 0o600)) as file:
            json.dump(found, file, indent=1)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)

    load = _Load()

    def _take_over(self, cache_file: str | os.PathLike[str]) -> AsyncResult:
        found = _read(cache_file)
        try:
            self.job = None if found["job"] is None else OneJob.from_dict(found["job"])
        except (KeyError, TypeError, ValueError, DescriptionError) as error:
            raise _no_result(cache_file, f"job: {error}") from error
        self.backend = found["backend"]
        self.remote, self.epilogue, self._epilogue_ran = found["remote"], found["epilogue"], found["epilogue_ran"]
        self._status, self.exit_code, self.message = found["status"], found["exit_code"], found["message"]
        self.max_sleep_interval, self.cache_file = found["max_sleep_interval"], os.fspath(cache_file)
        return self


class EndedResult(int, AsyncResult):
    """The status of a script that was waited for, as a number: one of STATUS_CODES, with all that a result has besides."""

    def __new__(cls, result: AsyncResult) -> EndedResult:
        made = super().__new__(cls, result.status)
        made.__dict__ = result.__dict__
        return made

    def __init__(self, result: AsyncResult) -> None:
        """All has been taken over."""

    __repr__ = int.__repr__

    def __reduce__(self) -> tuple[type[int], tuple[int]]:
        """In another process, or as a copy, it is the number."""
        return int, (int(self),)


def _look_at(results: Sequence[AsyncResult]) -> list[int]:
    living = [(each, each.job) for each in results if each._status < COMPLETED and each.job is not None]
    for (each, _), status in zip(living, look_at([job for _, job in living]), strict=True):
        each._take(status)
    return [each._status for each in results]


def _says_over(path: Path, job_hash: str) -> bool:
    try:
        found = _read(path)
        return bool(found["job"] and found["job"]["hash"] == job_hash and found["status"] >= COMPLETED)
    except (JournalError, KeyError, TypeError):
        return False


def _code(found: Status) -> int:
    if found.state is JobState.finished:
        return COMPLETED
    if found.state.ended:
        return CANCELLED if found.reason == Reason.CANCELLED else FAILED
    return PENDING if found.state in (JobState.waiting, JobState.unsubmitted) else RUNNING


def _read(path: str | os.PathLike[str]) -> dict[str, Any]:
    try:
        found: dict[str, Any] = json.loads(Path(path).read_text())
        if found["version"] != 1:
            raise ValueError(f"version {found['version']}")
        if missing := _KEPT - found.keys():
            raise ValueError(f"it has no {sorted(missing)[0]!r}")
        return found
    except FileNotFoundError as error:
        raise NoKeptResultError("there is no kept result", where=os.fspath(path)) from error
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise _no_result(path, error) from error


def _no_result(path: str | os.PathLike[str], why: object) -> JournalError:
    remedy = "remove the file; clusterjob's own cache files cannot be read"
    return JournalError(f"is no kept result: {why}", where=os.fspath(path), remedy=remedy)


def run_here(text: str) -> None:
    """Run a script on this machine, in the current folder. Raises CalledProcessError."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "script")
        path.write_text(text)
        path.chmod(0o700)
        subprocess.run([path], check=True)
