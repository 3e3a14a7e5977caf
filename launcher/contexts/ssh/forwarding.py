"""A local port that leads, over an SSH connection, to a port that the machine there can reach."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from contextlib import suppress

from ....pilot.model.errors import PilotfishError
from ..base import Tunnel
from .session import Channel
from .streams import Pumps, shut


class Forwarding(Tunnel):
    """Listens on 127.0.0.1 from `start` on. Whoever connects is joined with a channel of its own.

    Where no channel can be had the connection is closed again: clients that try anew get through when the way is back.

    Args:
        opened: gives a channel to the target; called in a thread of each connection.
    """

    def __init__(self, opened: Callable[[], Channel]) -> None:
        super().__init__("")
        self._opened = opened
        self._listener: socket.socket | None = None
        self._connections: set[socket.socket] = set()

    def start(self) -> None:
        """Raises as `opened`, which is tried once."""
        self._opened().close()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._accept, args=(self._listener,), daemon=True).start()

    def _accept(self, listener: socket.socket) -> None:
        with suppress(OSError):  # closed
            while True:
                connection, _ = listener.accept()
                self._connections.add(connection)
                threading.Thread(target=self._join, args=(connection,), daemon=True).start()

    def _join(self, connection: socket.socket) -> None:
        with connection, suppress(PilotfishError):
            Pumps(connection, self._opened()).run()
        self._connections.discard(connection)

    def close(self) -> None:
        if self._listener is not None:
            shut(self._listener)
            self._listener.close()
            self._listener = None
        for connection in list(self._connections):
            shut(connection)
