"""The pilot as its allocator sees it: what it demands, or why it does not answer. Never raises for what a pilot does."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

from ...api.channel import Channel
from ...api.client import Client
from ...api.clientlog import ClientLog
from ...pilot.model.errors import PilotfishError
from ...pilot.wire import connection
from ...pilot.wire.demand import Demand

_ANSWER_S = 20.0


class PilotLink:
    """A manager may be killed and followed by another one, so the connection file is read each time.

    `asks`: nodes are asked for, so work that fits on none there is waits for them.

    Attributes:
        info: its connection file as it was read last; None before.
        ended: it has ended in good order, and nobody follows.
        trouble: why it does not answer now; empty when it does.
        silent_since_s: since when it does not, by `clock`; None when it does.
    """

    def __init__(self, aux: Path, clock: Callable[[], float] = time.monotonic, *, asks: bool = True) -> None:
        self._asks = asks
        self._file = aux / connection.FILE_NAME
        self._clock = clock
        self._client: Client | None = None
        self._manager: tuple[int, float] | None = None
        self.info: connection.ConnectionFile | None = None
        self.ended = False
        self.trouble = ""
        self.silent_since_s: float | None = None

    def demand(self) -> Demand | None:
        """What waits there and what its nodes do; None when it does not answer, or is at its end."""
        try:
            client = self._connected()
            answer = None if client is None else client.demand(nodes_may_come=self._asks)
        except PilotfishError as error:
            self._let_go()
            self._silent(str(error))
            return None
        if answer is not None:
            self.trouble, self.silent_since_s = "", None
        return answer

    def release(self, allocation: str) -> bool:
        """Let the nodes of an allocation drain and leave; whether the pilot has heard it."""
        try:
            client = self._connected()
            if client is None:
                return False
            client.release(allocation)
        except PilotfishError as error:
            self._let_go()
            self._silent(str(error))
            return False
        return True

    def close(self) -> None:
        self._let_go()

    def _connected(self) -> Client | None:
        try:
            self.info = connection.read(self._file)
        except OSError as error:
            self._silent(f"{self._file}: {error.strerror}")
            return None
        self.ended = self.info.ended
        if self.ended:
            self._let_go()
            return None
        if not connection.is_alive(self.info):
            self._let_go()
            self._silent(f"its manager was killed (no process {self.info.pid} on {self.info.host})")
            return None
        manager = self.info.pid, self.info.started_s
        if self._client is None or manager != self._manager:
            self._let_go()
            self._client = Client(Channel(self.info, _ANSWER_S), ClientLog({"log_file": os.devnull}))
            self._client.notice_when_replaced()
            self._manager = manager
        return self._client

    def _silent(self, why: str) -> None:
        self.trouble = why
        self.silent_since_s = self._clock() if self.silent_since_s is None else self.silent_since_s

    def _let_go(self) -> None:
        if self._client is not None:
            self._client.close()
            self._client = None
