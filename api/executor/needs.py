"""What a call needs of others, at the moment when it is sent: from the pilot, or, of those that are over, from here."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import BrokenExecutor, CancelledError
from typing import Any

from ...pilot.functions import values
from ..errors import WrongArgumentsError
from .future import Future, LostCallError
from .place import NoPilotError


class Needs:
    """`taken`: futures whose results are among the arguments; `before`: those that only must have succeeded.

    `given`: for each of `taken` the value, or its place among what comes from the pilot. `after`: names of tasks to wait for,
    of which the first `inputs` give values. `futures`: those. `error`: why the call cannot be made.
    """

    def __init__(self, owner: object, taken: Sequence[Future[Any]], before: Sequence[Future[Any]], folder: str) -> None:
        self.given: list[bytes | int] = []
        self.after: list[str] = []
        self.futures: list[Future[Any]] = []
        self.error: BaseException | None = None
        places: dict[str, int] = {}
        try:
            for future in taken:
                if not _is_open(future, owner):
                    self.given.append(values.write(_result_of(future), folder))
                elif future.task in places:
                    self.given.append(places[future.task])
                    future.drop_dependent()
                else:
                    places[future.task] = len(self.after)
                    self.given.append(len(self.after))
                    self.after.append(future.task)
                    self.futures.append(future)
            self.inputs = len(self.after)
            for future in before:
                if not _is_open(future, owner):
                    _result_of(future)
                else:
                    future.drop_dependent()
                    if future.task not in places:
                        self.after.append(future.task)
        except Exception as error:
            self.error = error
            for future in self.futures:
                future.drop_dependent()


def _is_open(future: Future[Any], owner: object) -> bool:
    """Whether the pilot is to wait for it. Raises WrongArgumentsError for the future of another pilot."""
    if not future.add_dependent():
        return False
    if future.owner is not owner:
        future.drop_dependent()
        raise WrongArgumentsError("this future is of another executor, and not done", remedy="pass its result")
    return True


def _result_of(future: Future[Any]) -> Any:
    """Raises LostCallError when it has none."""
    try:
        return future.result()
    except (Exception, CancelledError) as error:
        raise omitted(error) from error


def omitted(cause: BaseException | None) -> LostCallError:
    """What a call raises that was never made, because one that it needs has failed for this reason."""
    error = LostCallError("what it waits for has failed", "OMITTED")
    error.__cause__ = cause
    return error


def broken(error: BaseException) -> BaseException:
    """What calls raise whose executor has lost its pilot, or has never had one."""
    if isinstance(error, NoPilotError):
        found: BaseException = NoPilotError(error.what, where=error.where, remedy=error.remedy)
        found.__cause__ = error.__cause__
        return found
    found = BrokenExecutor(f"the executor has lost its pilot: {error}")
    found.__cause__ = error
    return found
