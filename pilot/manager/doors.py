"""Opens the sockets: an ipc door in a private folder always; CURVE over TCP with --net; plain TCP only with --net-plain."""

from __future__ import annotations

import logging
import random
import socket as network
from dataclasses import dataclass, field
from pathlib import Path

import zmq

from ..model.errors import SettingsError
from ..wire.security import Doorkeeper, Keys, harden, lock_server, new_keys
from .config import Settings

log = logging.getLogger(__name__)

_PORT_TRIES = 200
_AGENT_QUEUE = 100_000
"""An order that is dropped is a task that never starts, so an agent's queue is long; what it may hold is bounded by leases."""


@dataclass(slots=True)
class Doors:
    """The bound sockets and where they can be reached, by door (`ipc`, `curve`, `plain`)."""

    context: zmq.Context[zmq.Socket[bytes]]
    requests: list[zmq.Socket[bytes]] = field(default_factory=list)
    events: list[zmq.Socket[bytes]] = field(default_factory=list)
    agents: list[zmq.Socket[bytes]] = field(default_factory=list)
    request_addresses: dict[str, str] = field(default_factory=dict)
    event_addresses: dict[str, str] = field(default_factory=dict)
    agent_addresses: dict[str, str] = field(default_factory=dict)
    keys: Keys | None = None
    keeper: Doorkeeper | None = None

    @property
    def address(self) -> str:
        """What to tell programs that take one address: plain TCP if it is open, else the ipc socket."""
        return self.request_addresses.get("plain") or self.request_addresses["ipc"]

    @property
    def event_address(self) -> str | None:
        return self.event_addresses.get("plain") or self.event_addresses.get("ipc")

    def close(self) -> None:
        for socket in [*self.requests, *self.events, *self.agents]:
            socket.close()
        if self.keeper is not None:
            self.keeper.close()
        self.context.term()
        for address in (self.request_addresses, self.event_addresses, self.agent_addresses):
            if "ipc" in address:
                Path(address["ipc"].removeprefix("ipc://")).unlink(missing_ok=True)


def open_doors(settings: Settings, folder: Path) -> Doors:
    """Bind everything that `settings` asks for; ipc sockets in `folder`. Raises SettingsError for an address that is taken."""
    doors = Doors(zmq.Context())
    try:
        _open_ipc(doors, settings, folder)
        if settings.net or settings.net_plain:
            _open_tcp(doors, settings)
    except SettingsError:
        doors.close()
        raise
    return doors


def _open_ipc(doors: Doors, settings: Settings, folder: Path) -> None:
    for name, kind in (("requests", zmq.ROUTER), ("events", zmq.XPUB), ("agents", zmq.ROUTER)):
        if name == "events" and settings.disable_pub:
            continue
        socket = _socket(doors, settings, name, kind)
        path = folder / f"{name}.ipc"
        path.unlink(missing_ok=True)  # left by a manager that was killed; the journal's lock says it is gone
        _bind(socket, f"ipc://{path}", str(path))
        _enter(doors, name, "ipc", socket, f"ipc://{path}")


def _open_tcp(doors: Doors, settings: Settings) -> None:
    door = "plain" if settings.net_plain else "curve"
    if door == "curve":
        doors.keys = new_keys()
        doors.keeper = Doorkeeper(doors.context, doors.keys.client_public)
        doors.keeper.start()
    interface = settings.net_interface or ("127.0.0.1" if door == "plain" else "*")
    ports = {"requests": settings.net_port, "events": settings.net_pub_port}
    for name, kind in (("requests", zmq.ROUTER), ("events", zmq.XPUB)):
        if name == "events" and settings.disable_pub:
            continue
        socket = _socket(doors, settings, name, kind)
        if doors.keys is not None:
            lock_server(socket, doors.keys)
        port = _bind_port(socket, interface, ports[name], settings)
        _enter(doors, name, door, socket, f"tcp://{_reachable(interface)}:{port}")
    if door == "plain":
        log.warning(
            "door.plain: anyone who reaches %s runs commands as you; leave --net-plain out to lock it",
            doors.request_addresses["plain"],
        )


def _socket(doors: Doors, settings: Settings, name: str, kind: int) -> zmq.Socket[bytes]:
    socket = doors.context.socket(kind)
    if name == "agents":
        harden(socket, settings.max_message_mib << 20, queue=_AGENT_QUEUE, handover=True)
    else:
        harden(socket, settings.max_message_mib << 20)
    return socket


def _enter(doors: Doors, name: str, door: str, socket: zmq.Socket[bytes], address: str) -> None:
    sockets, addresses = {
        "requests": (doors.requests, doors.request_addresses),
        "events": (doors.events, doors.event_addresses),
        "agents": (doors.agents, doors.agent_addresses),
    }[name]
    sockets.append(socket)
    addresses[door] = address


def _bind(socket: zmq.Socket[bytes], endpoint: str, where: str) -> None:
    try:
        socket.bind(endpoint)
    except zmq.ZMQError as error:
        socket.close()
        raise SettingsError(f"cannot listen there: {zmq.strerror(error.errno or 0)}", where=where) from error


def _bind_port(socket: zmq.Socket[bytes], interface: str, port: int | None, settings: Settings) -> int:
    """The port asked for, else a free one of the range: tried in random order, because pilots share hosts."""
    if port is not None:
        _bind(socket, f"tcp://{interface}:{port}", f"{interface}:{port}")
        return port
    lowest, highest = settings.net_port_min, settings.net_port_max
    candidates = random.sample(range(lowest, highest + 1), min(_PORT_TRIES, highest + 1 - lowest))
    for candidate in candidates:
        try:
            socket.bind(f"tcp://{interface}:{candidate}")
        except zmq.ZMQError:
            continue
        return candidate
    socket.close()
    raise SettingsError(
        f"no free port on {interface} in {lowest}..{highest}",
        where="--net-port-min, --net-port-max",
        remedy="widen the range",
    )


def _reachable(interface: str) -> str:
    """The name to publish for an interface: all of them are reached by this host's name."""
    return network.gethostname() if interface in ("*", "0.0.0.0") else interface
