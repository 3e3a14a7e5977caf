"""From a lost manager to the one that takes its place: requests of an executor are sent again, to that one."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable
from typing import TypeVar

from ..client import Client
from ..errors import ConnectionError, PilotfishError, RequestRefusedError
from .place import NoPilotError

T = TypeVar("T")

_MANAGER_S = 300.0
"""How long a pilot that is not our own may be without a manager."""
_RETRY_S = 0.1


class Failover:
    """`client`: that of the manager of now, set under the lock of `changed`; None before there is one.

    Args:
        connect_again: gives a client after the manager was lost, if there may be another one.
        is_placed: the pilot is put in place for its calls, so another one comes only while there are any, whenever that is.
        changed: notified when `has_calls` or `is_over` may say something else.
        has_calls: whether calls have no end yet.
        is_over: whether nobody needs another manager.
    """

    def __init__(
        self,
        connect_again: Callable[[], Client] | None,
        is_placed: bool,
        changed: threading.Condition,
        has_calls: Callable[[], bool],
        is_over: Callable[[], bool],
    ) -> None:
        self.client: Client | None = None
        self._connect_again = connect_again
        self._is_placed = is_placed
        self._changed = changed
        self._has_calls = has_calls
        self._is_over = is_over

    def asked(self, client: Client, ask: Callable[[Client], T]) -> T:
        """What this client says, or one of the next manager. Raises RequestRefusedError, and when no manager comes."""
        while True:
            try:
                return ask(client)
            except RequestRefusedError:
                raise
            except ConnectionError as error:
                client = self.next_client(error)

    def next_client(self, error: ConnectionError) -> Client:
        """A client of the manager that has taken the place of a lost one. Raises `error` when none comes."""
        if self._connect_again is None:
            raise error
        if self._is_placed:
            with self._changed:
                self._changed.wait_for(lambda: self._has_calls() or self._is_over())
        until = math.inf if self._is_placed else time.monotonic() + _MANAGER_S
        while time.monotonic() < until and not self._is_over():
            try:
                client = self._connect_again()
                with self._changed:
                    self.client = client
                return client
            except NoPilotError:
                raise
            except PilotfishError:
                time.sleep(_RETRY_S)
        raise error
