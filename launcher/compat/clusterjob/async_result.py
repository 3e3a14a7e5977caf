"""`AsyncResult`: a submitted job script that can be come back to, also from another program or on another day."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ....pilot.model.errors import JournalError
from ...description.schema import DescriptionError
from ...job import store
from ...job.single import JobRecord, Phase, from_dict, to_dict
from ...job.states import JobState
from ...submission.looking import look_at
from ...submission.single import SingleJob
from .backends import ClusterjobBackend
from .headers import DEFAULT
from .status import CANCELLED, COMPLETED, code_of, str_status

log = logging.getLogger("clusterjob")
_FIRST_PAUSE_S = 0.5
_VERSION = 2


class NoKeptResultError(JournalError, FileNotFoundError):
    """There is no file where a result is looked for."""

    code = "no-kept-result"


class _Load:
    """Of the class it makes a result of what `dump` has written, of an object it loads into that. Raises JournalError."""

    def __get__(self, result: AsyncResult | None, kind: type[AsyncResult]) -> Callable[..., AsyncResult]:
        return (AsyncResult() if result is None else result)._take_over


class AsyncResult:
    """What became of a job script; like `multiprocessing.pool.AsyncResult`. It tells what the job's record says.

    Attributes:
        job: the batch job; None of a result that nothing was loaded into yet.
        cache_file: where a copy is kept, renewed when the job is seen to be over; None: nowhere.
        max_sleep_interval: longest pause between two looks, in seconds.
    """

    max_sleep_interval: float = 160

    def __init__(
        self,
        backend: str | ClusterjobBackend = DEFAULT,
        *,
        job: SingleJob | None = None,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.backend = backend if isinstance(backend, str) else backend.name
        self.remote: str | None = None
        self.cache_file: str | None = None
        self._kept: JobRecord | None = None
        """What this handle has read from the cache file, or written there, last."""
        self.job = job
        self._clock, self._sleep = clock, sleep

    @property
    def job_id(self) -> str | None:
        """The batch system's; None when it has not taken the job."""
        return self.job.id or None if self.job is not None else None

    @property
    def exit_code(self) -> int | None:
        """Of the script; None while it runs, or when it is not known."""
        return self.job.record.status.exit_code if self.job is not None else None

    @property
    def message(self) -> str:
        """Why it failed, as far as it is known."""
        end = None if self.job is None else self.job.record.end
        if end is None or end.state is JobState.failed:
            return "" if end is None else end.native
        return f"{end.reason}: {end.why}" if end.why else end.reason

    @property
    def epilogue(self) -> str:
        """A script that is run here, once, when the job is first seen to be over."""
        return self.job.record.epilogue if self.job is not None else ""

    @epilogue.setter
    def epilogue(self, text: str) -> None:
        if self.job is not None:
            self.job.step(lambda record: replace(record, epilogue=text))

    def __repr__(self) -> str:
        return f"<AsyncResult {self.backend} {self.job_id} {str_status[self._known]}>"

    # --- looking --------------------------------------------------------------------------------------------------------

    @property
    def _known(self) -> int:
        return CANCELLED if self.job is None else code_of(self.job.record.status)

    @property
    def status(self) -> int:
        """One of STATUS_CODES; asks the batch system until the job is over."""
        return _look_at([self])[0]

    def ready(self) -> bool:
        return self.status >= COMPLETED

    def successful(self) -> bool:
        """Whether it ended well. AssertionError while it is not over."""
        assert self.ready(), "the job is not over"
        return self._known == COMPLETED

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
            log.debug("waiting for %d jobs, next look in %g s", sum(each < COMPLETED for each in seen), pause)
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
        if self.job is None or self.ready():
            return
        self.job.cancel()
        self._is_over()

    def forget(self) -> None:
        """Remove what is kept of a job that is over, on its machine too: no other handle can tell its end.

        Raises RefusedError while it is not over.
        """
        if self.job is not None:
            self.ready()
            self.job.forget()
        if self.cache_file is not None:
            for name in (self.cache_file, f"{self.cache_file}.lock"):
                Path(name).unlink(missing_ok=True)

    # --- the epilogue ---------------------------------------------------------------------------------------------------

    def _is_over(self) -> None:
        """What is due at the end, by whoever sees it first."""
        if self.job is not None and self.epilogue and not self.job.record.epilogue_ran:
            try:
                self.run_epilogue()
            finally:
                self.dump()

    def run_epilogue(self) -> None:
        """Run it here, in the current folder, unless it has been run, by whatever program. Raises CalledProcessError.

        That is noted on the job's machine before, so it is never run twice.
        """
        if self.job is None or self.job.record.epilogue_ran:
            return
        mine = bool(self.epilogue) and self.job.record.phase is not Phase.REFUSED and self.job.claim_epilogue()
        self.job.step(lambda record: replace(record, epilogue_ran=True))
        if mine:
            run_here(self.epilogue)

    # --- keeping --------------------------------------------------------------------------------------------------------

    def dump(self, cache_file: str | os.PathLike[str] | None = None) -> None:
        """Write down which job it is, whole or not at all; without a name into its own cache file, if it has one."""
        target = os.fspath(cache_file) if cache_file is not None else self.cache_file
        if target is None:
            return
        kept = {
            "version": _VERSION,
            "backend": self.backend,
            "remote": self.remote,
            "max_sleep_interval": self.max_sleep_interval,
            "job": None if self.job is None else to_dict(self.job.record),
        }
        store.write_copy(Path(target).absolute(), json.dumps(kept, indent=1))
        if target == self.cache_file:
            self._kept = None if self.job is None else self.job.record

    load = _Load()

    def _take_over(
        self, cache_file: str | os.PathLike[str], backend: str | ClusterjobBackend | None = None
    ) -> AsyncResult:
        found = _read(cache_file)
        try:
            self._kept = None if found["job"] is None else from_dict(found["job"])
            self.job = None if self._kept is None else SingleJob(store.current(self._kept))
        except (KeyError, TypeError, ValueError, AttributeError, DescriptionError) as error:
            raise _no_result(cache_file, f"job: {error}") from error
        named = backend if backend is None or isinstance(backend, str) else backend.name
        self.backend, self.remote = named or found["backend"], found["remote"]
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
    look_at([each.job for each in results if each.job is not None])
    now = [each._known for each in results]
    for each, status in zip(results, now, strict=True):
        log.debug("Job %s is %s", each.job_id, str_status[status])
        # What this handle has written last counts, not what it knew: another may have seen the end between two of our looks.
        if each.job is not None and each.job.record != each._kept:
            each.dump()
        if status >= COMPLETED:
            each._is_over()
    return now


def _read(path: str | os.PathLike[str]) -> dict[str, Any]:
    try:
        found: dict[str, Any] = json.loads(Path(path).read_text())
        if found["version"] != _VERSION:
            raise ValueError(f"version {found['version']}")
        if missing := {"backend", "remote", "max_sleep_interval", "job"} - found.keys():
            raise ValueError(f"it has no {min(missing)!r}")
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
