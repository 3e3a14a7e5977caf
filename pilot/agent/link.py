"""The agent's connection to its manager: found, kept, and found again.

A connection can break with messages under way in both directions, and a new manager may listen somewhere else, behind the
same connection file. So whenever one stands `on_up` is called, where the agent says Hello with everything it holds; and as
long as none stands, the ways that the connection file tells are tried in turn.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from struct import Struct

import zmq

from ..loop import Loop
from ..model.errors import PilotfishError
from ..wire import connection
from ..wire.security import unlock_client

PATIENCE_S, MOST_PATIENCE_S = 3.0, 12.0
"""How long one way is tried before the connection file is read again; doubled each time, as a manager may just be busy."""
_PING_MS, _PING_PATIENCE_MS = 3_000, 10_000
"""Over TCP a silent peer is found by libzmq itself; then the connection is made anew, which works once the link is mended."""
LAST_WORDS_MS = 2000
_EVENT = Struct("=Hi")
"""Number and value of what a monitor tells: zmq.utils.monitor would do, but it brings asyncio and ssl into each agent."""


class Link:
    """One DEALER socket. `find` reads where the manager is; `on_frame` gets what it sends."""

    def __init__(
        self,
        agent_id: str,
        loop: Loop,
        find: Callable[[], connection.ConnectionFile],
        on_up: Callable[[], None],
        on_frame: Callable[[bytes], None],
    ) -> None:
        self._agent_id = agent_id
        self._loop = loop
        self._find = find
        self._on_up = on_up
        self._on_frame = on_frame
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._socket: zmq.Socket[bytes] | None = None
        self._monitor: zmq.Socket[bytes] | None = None
        self._tried: tuple[str, tuple[str, str]] | None = None
        """The manager's key and the way that is being tried or used."""
        self._patience_s = PATIENCE_S
        self._up = False

    def open(self) -> None:
        """Begin to connect. Raises PilotfishError when the manager cannot be found."""
        info = self._find()
        self._try(info, connection.agent_ways(info)[0])
        self._loop.call_after(self._patience_s, self._look_elsewhere)

    def send(self, frame: bytes) -> None:
        """Send without waiting. What cannot be sent now is lost, and told again with the next Hello."""
        if self._socket is not None:
            with suppress(zmq.Again):
                self._socket.send(frame, zmq.NOBLOCK)

    def close(self) -> None:
        """Close, giving what was sent last some time to leave."""
        self._shut(LAST_WORDS_MS)
        self._context.term()

    def _read(self) -> None:
        assert self._socket is not None
        with suppress(zmq.Again):
            while True:
                self._note()  # first: what follows may have come over a new connection
                self._on_frame(self._socket.recv(zmq.NOBLOCK))

    def _note(self) -> None:
        assert self._monitor is not None
        was_made = False
        while self._monitor.poll(0):
            event, _ = _EVENT.unpack(self._monitor.recv_multipart()[0])
            self._up = event == zmq.EVENT_HANDSHAKE_SUCCEEDED
            was_made = was_made or self._up
        if was_made and self._up:
            self._patience_s = PATIENCE_S
            self._on_up()

    def _look_elsewhere(self) -> None:
        if not self._up:
            self._patience_s = min(2 * self._patience_s, MOST_PATIENCE_S)
            # Not found: a manager that is about to start again, and what we know may still be right.
            with suppress(PilotfishError):
                info = self._find()
                ways = connection.agent_ways(info)
                last = ways.index(self._tried[1]) if self._tried and self._tried[1] in ways else -1
                self._try(info, ways[(last + 1) % len(ways)])
        self._loop.call_after(self._patience_s, self._look_elsewhere)

    def _try(self, info: connection.ConnectionFile, way: tuple[str, str]) -> None:
        if self._tried == (info.server_public_key, way):
            return  # libzmq goes on with that one by itself
        self._shut(0)
        self._tried = info.server_public_key, way
        transport, address = way
        socket = self._socket = self._context.socket(zmq.DEALER)
        unlock_client(socket, info, transport)
        socket.setsockopt(zmq.ROUTING_ID, os.fsencode(self._agent_id))
        socket.setsockopt(zmq.SNDHWM, 0)  # a report is never dropped here; what waits is bounded by what we hold
        socket.setsockopt(zmq.RECONNECT_IVL, 50)
        socket.setsockopt(zmq.RECONNECT_IVL_MAX, 1000)
        if transport != "ipc":
            socket.setsockopt(zmq.CONNECT_TIMEOUT, int(PATIENCE_S * 1000))
            socket.setsockopt(zmq.HEARTBEAT_IVL, _PING_MS)
            socket.setsockopt(zmq.HEARTBEAT_TIMEOUT, _PING_PATIENCE_MS)
        self._monitor = socket.get_monitor_socket(zmq.EVENT_HANDSHAKE_SUCCEEDED | zmq.EVENT_DISCONNECTED)
        self._loop.on_readable(self._monitor, self._note)
        self._loop.on_readable(socket, self._read)
        socket.connect(address)

    def _shut(self, linger_ms: int) -> None:
        socket, monitor = self._socket, self._monitor
        if socket is None or monitor is None:
            return
        self._loop.forget(socket)
        self._loop.forget(monitor)
        socket.disable_monitor()
        monitor.close(0)
        socket.close(linger_ms)
        self._socket = self._monitor = None
        self._up = False
