"""The pilot of an executor on another machine: put in place, reached, followed by the next one, ended.

It is the pilot of a submission without tasks (submission/service_jobs.py), and everything that is done to it is done by the
submission's runner: journalled before, and found again after any death. A thread of its own works on that, and holds the
submission's journal, so two programs never have the same pilot. What this adds: when a batch job is wanted, and the connection
file here by which the executor reaches the pilot that runs: a private one, with addresses that lead through the context.

A batch job is placed when the executor asks for a pilot and there is none: at its beginning, and whenever it has calls and has
lost the last one. So an allocation that ends with work left is followed by another one, and one that ends while nobody calls is
not. The pilot goes on from its journal, which is in its folder there. A pilot that gets nowhere is not followed for ever
(`_MOST_USELESS`).

A machine that cannot be reached is waited for, however long: laptops sleep. Only the very first contact must come about.
"""

from __future__ import annotations

import logging
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from pathlib import Path

from ...api.executor.place import NoPilotError
from ...pilot.model.errors import InternalError, LostError, PilotfishError, RefusedError, TransientError
from ...pilot.wire import connection
from ..contexts.base import ContextLostError
from ..job.states import JobState, Reason
from ..submission.batch_job import ASKED_FOR, BatchJob, Phase
from ..submission.placement import Opened, Placement
from ..submission.service_jobs import remove_folder
from ..submission.tunnel import connection_there, led_through

log = logging.getLogger(__name__)

_FIRST_POLL_S, _SLOWER, _LONGEST_POLL_S = 0.5, 1.5, 30.0
_START_POLL_S = 1.0
"""At most, while a batch job runs whose pilot cannot be reached yet."""
_LIVE_POLL_S = 15.0
_NEED_S = 0.5
_LOOK_S = 5.0
_END_S = 60.0
"""How long cancelled batch jobs are waited for before their folder is removed."""
_MOST_USELESS = 3
"""Pilots in a row that have brought home nothing."""


class PilotFailedError(RefusedError):
    """The batch job of the pilot was refused, or has ended in a way that no other one would change."""

    code = "pilot-failed"


class PlacedPilot:
    """`where`: the machine, for people. `keeps`: when it has failed, a later program may go on from what it has there."""

    def __init__(self, placement: Placement, where: str, *, keeps: bool) -> None:
        self._placement = placement
        self._where = where
        self._keeps = keeps
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self._file: Path | None = None
        """The connection file of the pilot that can be reached."""
        self._is_wanted = False
        self._is_ending = False
        self._wakes = False
        self._turns = 0
        self._failure: BaseException | None = None
        self._ends = self._ends_before = 0
        self._useless = 0
        self._has_begun = False
        """A batch job was looked at or placed by us, so its failure is none of an earlier life."""
        self._was_reached = False
        """The pilot of this attempt could be reached."""

    # --- for the executor ---------------------------------------------------------------------------------------------------

    @property
    def is_begun(self) -> bool:
        return self._thread is not None

    def wait(self, is_needed: Callable[[], bool], ends: int) -> Path:
        """The connection file of the pilot, when there is one. Raises NoPilotError."""
        with self._changed:
            self._begin()
            self._ends, self._is_wanted = ends, True
            self._wake()
            while self._file is None:
                if self._failure is not None:
                    raise self._no_pilot(self._failure)
                if self._is_ending or not is_needed():
                    raise NoPilotError("the executor was shut down before it had one", where=self._where)
                self._changed.wait(_NEED_S)
            return self._file

    def look(self) -> None:
        """Begin the connection anew; waits until that has been tried."""
        with self._changed:
            seen = self._turns
            self._file = None
            self._is_wanted = True
            self._wake()
            self._changed.wait_for(lambda: self._turns > seen or self._failure is not None, _LOOK_S)

    def end(self) -> None:
        """Raises PilotfishError when the batch jobs could not be ended, or the folder there not be removed."""
        with self._changed:
            if self._failure is None:
                self._begin()
            self._is_ending = True
            self._wake()
        if self._thread is not None:
            self._thread.join()
        if isinstance(self._failure, LostError) and self._placement.is_recorded:
            remedy = (
                f"`pilotfish submissions cancel {self._placement.hash[:10]}` ends its batch job when that is possible"
            )
            raise LostError(self._failure.what, where=self._where, remedy=remedy) from self._failure

    def _begin(self) -> None:
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="pilotfish-place", daemon=True)
            self._thread.start()

    def _wake(self) -> None:
        self._wakes = True
        self._changed.notify_all()

    def _no_pilot(self, error: BaseException) -> NoPilotError:
        what, where, remedy = str(error), self._where, ""
        if isinstance(error, PilotfishError):
            what, where, remedy = error.what, error.where or self._where, error.remedy
        found = NoPilotError(f"no pilot can be put on the machine: {what}", where=where, remedy=remedy)
        found.__cause__ = error
        return found

    # --- the thread ---------------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        failure: BaseException | None = None
        try:
            with (
                self._placement.opened() as opened,
                tempfile.TemporaryDirectory(prefix="pilotfish-place-") as folder,
                Connection(opened, Path(folder)) as reached,
            ):
                opened.context.make_folder(opened.work.root)
                try:
                    self._work(opened, reached)
                finally:
                    reached.close()
                    self._publish(None)
                    if self._is_ending or not self._keeps:
                        self._finish(opened)
        except PilotfishError as error:
            failure = error
        except BaseException as error:
            failure = InternalError(f"{type(error).__name__}: {error}")
            failure.__cause__ = error
        with self._changed:
            self._failure = failure or self._failure
            self._changed.notify_all()

    def _work(self, opened: Opened, reached: Connection) -> None:
        """Until the executor ends."""
        pause_s = _FIRST_POLL_S
        while not self._is_ending:
            before = self._state(opened)
            try:
                self._turn(opened, reached)
            except (TransientError, ContextLostError) as error:
                log.warning("trying again: %s", error)
            self._publish(reached.file)
            longest_s = self._longest_pause_s(opened, reached)
            pause_s = _FIRST_POLL_S if before != self._state(opened) else min(pause_s * _SLOWER, longest_s)
            with self._changed:
                self._turns += 1
                self._changed.notify_all()
                self._changed.wait_for(lambda: self._wakes, pause_s)
                self._wakes = False

    def _turn(self, opened: Opened, reached: Connection) -> None:
        """See what has become of the batch jobs, and do what the executor wants now."""
        main = _main(opened)
        with self._changed:
            is_wanted = self._is_wanted
            begins_anew = is_wanted and self._file is None
        if begins_anew:
            reached.close()
        if is_wanted and main.phase.final:
            self._renew(opened, main)
        runner = opened.runner
        runner.step()
        runner.look()
        runner.take_in()
        self._has_begun = True
        if main.phase is not Phase.PLACED:
            reached.close()
        elif main.state is not JobState.waiting:
            reached.look()
            self._was_reached = self._was_reached or reached.file is not None

    def _renew(self, opened: Opened, main: BatchJob) -> None:
        """Let the batch jobs be placed again. Raises PilotFailedError when that would change nothing."""
        self._useless = 0 if self._ends > self._ends_before else self._useless + 1
        self._ends_before = self._ends
        if self._has_begun and main.phase is Phase.FAILED and (why := self._why_hopeless(main)):
            detail = "\n".join(main.detail.splitlines()[-10:])
            named = f"its batch job {main.id}" if main.id else "its batch job"
            raise PilotFailedError(f"{named} {why}{f': {detail}' if detail else ''}", where=self._where)
        for job in opened.progress.jobs.values():
            if job.phase.final:
                opened.inputs.renew(job, job.tasks, "the executor has work")
        self._was_reached = False

    def _why_hopeless(self, main: BatchJob) -> str:
        """Empty when another batch job may do what this one has not done."""
        if main.reason.startswith(Reason.LAUNCH):
            return "was refused"
        if main.reason == Reason.CANCELED:
            return "was cancelled"
        if main.reason.startswith((Reason.DEPENDENCY, Reason.NEVER)):
            return f"can never start ({main.reason})"
        if main.reason == Reason.PROGRAM and not self._was_reached:
            return "has ended before the pilot could be reached"
        if self._useless >= _MOST_USELESS:
            return f"has ended ({main.reason}), and so have those before it, without a result"
        return ""

    def _state(self, opened: Opened) -> object:
        return [(job.phase, job.state, job.attempt) for job in opened.progress.jobs.values()]

    def _longest_pause_s(self, opened: Opened, reached: Connection) -> float:
        if reached.file is not None:
            return _LIVE_POLL_S
        main = _main(opened)
        is_starting = main.phase is Phase.PLACED and main.state is not JobState.waiting
        return _START_POLL_S if is_starting or (self._is_wanted and main.phase.final) else _LONGEST_POLL_S

    def _publish(self, file: Path | None) -> None:
        with self._changed:
            self._file = file
            self._is_wanted = self._is_wanted and file is None
            self._changed.notify_all()

    # --- the end ------------------------------------------------------------------------------------------------------------

    def _finish(self, opened: Opened) -> None:
        runner = opened.runner
        living = [job for job in opened.progress.jobs.values() if not job.phase.final]
        runner.cancel(living, ASKED_FOR)
        ids = [job.id for job in living if job.id]
        until = time.monotonic() + _END_S
        while ids and time.monotonic() < until:
            with suppress(TransientError):
                listing = runner.site.machine.query(opened.context, ids)
                ids = [each for each in ids if each in listing and not listing[each].state.ended]
            time.sleep(_FIRST_POLL_S if ids else 0.0)
        if opened.context.in_place:
            remove_folder(opened.context, opened.work)
        runner.clean()
        opened.forget()


class Connection:
    """The way to the pilot that runs: `file` is its connection file here, None while it cannot be reached."""

    def __init__(self, opened: Opened, folder: Path) -> None:
        self._context, self._root = opened.context, opened.work.root
        self._path = folder / connection.FILE_NAME
        self._tunnels = ExitStack()
        self._mark: object = None
        self.file: Path | None = None

    def look(self) -> None:
        """See which pilot is there. Raises ContextLostError, TransientError."""
        try:
            found = connection_there(self._context, self._root)
            mark = (found.host, found.pid, found.started_s)
            if self.file is not None and mark == self._mark and not found.ended:
                return
            self.close()
            if found.ended or (self._context.local and not connection.is_alive(found)):
                return
            connection.write(self._path, led_through(found, self._context, self._tunnels, self._path.parent))
        except ContextLostError:
            raise
        except (LostError, RefusedError) as error:  # it has not begun, or is one that was there before
            log.debug("the pilot cannot be reached yet: %s", error)
            self.close()
            return
        self._mark, self.file = mark, self._path

    def close(self) -> None:
        """Who has the file sees that the pilot is not there any more."""
        if self.file is not None:
            connection.retire(self.file)
            self.file = None
        self._tunnels.close()

    def __enter__(self) -> Connection:
        return self

    def __exit__(self, *ignored: object) -> None:
        self.close()


def _main(opened: Opened) -> BatchJob:
    """The batch job of the pilot; others bring it nodes."""
    return next(job for job in opened.progress.jobs.values() if job.tasks)
