"""The futures of an executor, and how the exception of a call comes back."""

from __future__ import annotations

import concurrent.futures
import logging
import os
from collections.abc import Callable, Sequence
from concurrent.futures import BrokenExecutor, CancelledError, InvalidStateError
from contextlib import suppress
from typing import Any, Protocol, TypeVar

import msgpack

from ...pilot.functions import values
from ...pilot.functions.worker import EXCEPTION, OUTPUT, UNPREPARED
from .. import html
from ..errors import PilotfishError
from .cache import Cache

T = TypeVar("T")

log = logging.getLogger("concurrent.futures")
"""Where the standard library says what callbacks raise."""

_WHY = {"OMITTED": "what it waits for has failed"}

_OUTPUT_BYTES = OUTPUT.size
NO_OUTPUT = OUTPUT.pack(0)


class RemoteTraceback(Exception):
    """Where an exception was raised, as text; the cause of the exception that came back."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.text = text

    def __str__(self) -> str:
        return f'\n"""\n{self.text}"""'


class RemoteError(PilotfishError):
    """A call has raised something that cannot be made here: its class cannot be imported or built, or it cannot be pickled.

    `kind` is the name of its class, `text` what it says; `__cause__` has its traceback.
    """

    code = "remote"

    def __init__(self, kind: str, text: str) -> None:
        super().__init__(f"{kind}: {text}" if text else kind)
        self.kind = kind
        self.text = text

    def __reduce__(self) -> tuple[Any, ...]:
        return RemoteError, (self.kind, self.text)


class LostCallError(PilotfishError, RuntimeError):
    """A call has ended without a result: its process died, it was stopped at a limit, or what it waits for has failed.

    `state` is that of its task, `output` what it had printed.
    """

    code = "call-lost"

    def __init__(self, message: str, state: str = "FAILED", output: str = "") -> None:
        super().__init__(message)
        self.state = state
        self.output = output

    def __reduce__(self) -> tuple[Any, ...]:
        return LostCallError, (self.what, self.state, self.output)


class Owner(Protocol):
    """The link of an executor."""

    def cancel(self, future: Future[Any]) -> None: ...


class Future(concurrent.futures.Future[T]):
    """As that of `concurrent.futures`, and besides:

    `task` is the name of its task in the pilot (`JOB:INDEX`), empty until it is submitted; `output` what the call has printed.
    """

    # Of the class, as most futures need none of their own.
    task = ""
    output = ""
    convert: Callable[[Any], T] | None = None
    """What makes the result of what the call has returned, if that is not the result."""
    dependents = 0
    """How many calls that have been sent take its result from the pilot."""
    is_taken = False
    """Its end is here, and the result is about to be: who needs that takes it from here."""
    key = b""
    """What its call is, for an executor that is to find its calls again."""
    cache: Cache | None = None
    """Where its result is to be kept, by its key."""
    file = ""
    """One that has its result, and is needed by dependents."""

    def __init__(self, owner: Owner | None = None) -> None:
        super().__init__()
        self.owner = owner
        """Who has to be told that it is cancelled; None when it is over."""

    def _repr_html_(self) -> str:
        """What a notebook shows of it; it waits for nothing."""
        state, value, error = self._state.replace("_AND_NOTIFIED", "").lower(), None, None
        if state == "finished":
            error = self.exception(0)
            value = None if error is not None else repr(self.result(0))
        raised = None if error is None else f"{type(error).__name__}: {error}"
        members = {"task": self.task, "result": value, "exception": raised, "output": self.output}
        return html.facts("Future", {"state": state, **members})

    def take(self) -> bool:
        """Its end is here; whether no other call needs its result from the pilot."""
        with self._condition:
            self.is_taken = True
            return not self.dependents

    def add_dependent(self) -> bool:
        """A call is about to be sent that needs its result; False: it takes it from here."""
        with self._condition:
            if self.is_taken or self.done_quietly():
                return False
            self.dependents += 1
            return True

    def done_quietly(self) -> bool:
        """As `done`, for who holds the condition."""
        return self._state in ("CANCELLED", "CANCELLED_AND_NOTIFIED", "FINISHED")

    def drop_dependent(self) -> None:
        """A call that has taken its result has ended."""
        with self._condition:
            self.dependents -= 1
            file, self.file = ("", self.file) if self.dependents else (self.file, "")
        if file:
            with suppress(OSError):
                os.unlink(file)

    def cancel(self) -> bool:
        """Cancel the call, also one that waits in the pilot. False: it executes (see `Executor.interrupt`), or is over."""
        if not super().cancel():
            return False
        with self._condition:
            owner, self.owner = self.owner, None
        if owner is not None:
            self.set_running_or_notify_cancel()  # as nobody will take it up: `wait` and `as_completed` learn of it
            owner.cancel(self)
        return True

    def now_runs(self) -> None:
        """The pilot tells that it executes."""
        with self._condition:  # who cancels it tells that it is cancelled
            if self._state == "PENDING":
                self.set_running_or_notify_cancel()

    def settle(self, value: T) -> None:
        """It has returned this; nothing comes of it when it was cancelled meanwhile.

        What a callback raises that is no Exception (SystemExit, say) `concurrent.futures` does not catch. It must not cost the
        other calls their ends.
        """
        self.owner = None
        try:
            self.set_result(value)
        except InvalidStateError:
            pass
        except BaseException:
            log.exception("a callback of %r has raised this", self)

    def settle_with(self, error: BaseException) -> None:
        """It has raised this; as `settle`."""
        self.owner = None
        try:
            self.set_exception(error)
        except InvalidStateError:
            pass
        except BaseException:
            log.exception("a callback of %r has raised this", self)


def settle(future: Future[Any], data: bytes, *, keep: bool = False) -> None:
    """The call has returned what an end has as `data`; `keep` a file that has the value."""
    is_alone = future.take()
    try:
        if not data:
            raise LostCallError("its result was removed before it could be read", "SUCCEED")
        packed = memoryview(data)[_OUTPUT_BYTES:]
        if data[:_OUTPUT_BYTES] != NO_OUTPUT:
            future.output, packed = split(data)
        if future.cache is not None:
            future.cache.put(future.key, packed)
        value = values.unpack(packed, once=is_alone and not keep)
        if not is_alone and not keep:
            future.file = values.file_of(packed) or ""
        if future.convert is not None:
            value = future.convert(value)
    except BaseException as error:  # whatever the user's classes do when they are built
        future.settle_with(error)
    else:
        future.settle(value)


def settle_with_error(
    future: Future[Any], data: bytes, message: str, state: str, needs: Sequence[Future[Any]] = ()
) -> None:
    """The call has ended badly; `message` says why. `data` as `settle`, with what it raised, or nothing if its process died.

    `needs`: those whose results it took. One that was about to return when it was cancelled has a value, which nobody wants.
    """
    packed = memoryview(b"")
    future.take()
    if data:
        future.output, packed = split(data)
    error: BaseException
    if packed[:1] == EXCEPTION:
        error = error_of(packed[1:])
    else:
        _drop(packed)
        error = CancelledError(message) if state == "CANCELED" else _lost(message, state, future.output, needs)
    future.settle_with(error)


def _lost(message: str, state: str, output: str, needs: Sequence[Future[Any]]) -> LostCallError:
    error = LostCallError(message or _WHY.get(state, state), state, output)
    causes = [need.exception() for need in needs if need.done() and not need.cancelled()]
    error.__cause__ = next((cause for cause in causes if cause is not None), None)
    return error


def _drop(packed: memoryview) -> None:
    """Remove the file that has a value, if one has."""
    file = values.file_of(packed) if packed else None
    if file is not None:
        with suppress(OSError):
            os.unlink(file)


def split(data: bytes) -> tuple[str, memoryview]:
    """What was printed, and the value."""
    length = OUTPUT.unpack_from(data)[0]
    end = _OUTPUT_BYTES + length
    return data[_OUTPUT_BYTES:end].decode(errors="replace"), memoryview(data)[end:]


def error_of(data: memoryview) -> BaseException:
    """The exception that a call has raised."""
    try:
        how, kind, text, traceback, itself = msgpack.unpackb(data)
    except ValueError as damage:
        return LostCallError(f"what it raised cannot be read: {damage}")
    error: BaseException | None = None
    if itself:
        try:
            error = values.unpack(itself)
        except BaseException:  # its class cannot be imported here, or not be built
            error = None
    if not isinstance(error, BaseException):
        error = RemoteError(kind, text)
    error.__cause__ = RemoteTraceback(traceback)
    if how == UNPREPARED:
        broken = BrokenExecutor(f"the initializer has failed: {kind}: {text}")
        broken.__cause__ = error
        return broken
    return error
