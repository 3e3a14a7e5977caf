"""Opens the sockets that clients and agents connect to.

There is always an ipc endpoint in a private folder. CURVE over TCP comes with --net, for agents on other hosts, and in a batch
job for clients too: who wants to look at it sits on a login node. Plain TCP comes only with --net-plain, and never for agents.
"""

from __future__ import annotations

import logging
import random
import socket as network
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
import psutil
import zmq

from ..files import write_atomically
from ..model.errors import SettingsError
from ..wire.names import why_unknown
from ..wire.security import Keys, ZapAuthenticator, harden, lock_server, new_keys
from .config import Settings

log = logging.getLogger(__name__)

_PORT_TRIES = 200
_AGENT_QUEUE = 100_000
"""An order that is dropped is a task that never starts, so an agent's queue is long; what it may hold is bounded by leases."""


@dataclass(slots=True)
class Endpoints:
    """The bound sockets and where they can be reached, by endpoint (`ipc`, `curve`, `plain`)."""

    context: zmq.Context[zmq.Socket[bytes]]
    folder: Path
    """Of the ipc sockets."""
    requests: list[zmq.Socket[bytes]] = field(default_factory=list)
    events: list[zmq.Socket[bytes]] = field(default_factory=list)
    agents: list[zmq.Socket[bytes]] = field(default_factory=list)
    request_addresses: dict[str, str] = field(default_factory=dict)
    event_addresses: dict[str, str] = field(default_factory=dict)
    agent_addresses: dict[str, str] = field(default_factory=dict)
    agent_endpoints: tuple[str, ...] = ()
    """All addresses of the agents' TCP endpoint, to be tried in turn."""
    keys: Keys | None = None
    authenticator: ZapAuthenticator | None = None

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
        if self.authenticator is not None:
            self.authenticator.close()
        self.context.term()
        for address in (self.request_addresses, self.event_addresses, self.agent_addresses):
            if "ipc" in address:
                Path(address["ipc"].removeprefix("ipc://")).unlink(missing_ok=True)


class Kept(msgspec.Struct, frozen=True):
    """What a resumed manager has to have in common with its predecessor, for agents of other hosts that outlived it."""

    keys: Keys
    agent_port: int


def open_endpoints(
    settings: Settings,
    folder: Path,
    kept_file: Path,
    agents_elsewhere: bool = False,
    clients_elsewhere: bool = False,
) -> Endpoints:
    """Bind everything that `settings` asks for; ipc sockets in `folder`.

    `agents_elsewhere`: some agents come from other hosts. Then keys and port are those of `kept_file` if it is there, and
    it is written (mode 0600). `clients_elsewhere`: some clients do. Raises SettingsError for an address that is taken.
    """
    endpoints = Endpoints(zmq.Context(), folder)
    try:
        _open_ipc(endpoints, settings, folder)
        if agents_elsewhere:
            _open_for_agents(endpoints, settings, kept_file)
        if settings.net or settings.net_plain or clients_elsewhere:
            _open_tcp(endpoints, settings)
    except SettingsError:
        endpoints.close()
        raise
    return endpoints


def _open_ipc(endpoints: Endpoints, settings: Settings, folder: Path) -> None:
    for name, kind in (("requests", zmq.ROUTER), ("events", zmq.XPUB), ("agents", zmq.ROUTER)):
        if name == "events" and settings.disable_pub:
            continue
        socket = _socket(endpoints, settings, name, kind)
        path = folder / f"{name}.ipc"
        path.unlink(missing_ok=True)  # left by a manager that was killed; the journal's lock says it is gone
        _bind(socket, f"ipc://{path}", str(path))
        _enter(endpoints, name, "ipc", socket, f"ipc://{path}")


def _lock(endpoints: Endpoints, keys: Keys) -> None:
    """From here on there are keys, and somebody who looks at those of others."""
    endpoints.keys = keys
    endpoints.authenticator = ZapAuthenticator(endpoints.context, keys.client_public)
    endpoints.authenticator.start()


def _open_for_agents(endpoints: Endpoints, settings: Settings, kept_file: Path) -> None:
    kept = None
    with suppress(OSError, msgspec.DecodeError):
        kept = msgspec.json.decode(kept_file.read_bytes(), type=Kept)
    keys = kept.keys if kept else new_keys()
    _lock(endpoints, keys)
    interface = settings.net_interface or "*"
    socket = _socket(endpoints, settings, "agents", zmq.ROUTER)
    lock_server(socket, keys)
    port = _bind_port(socket, interface, None, settings, kept.agent_port if kept else None)
    endpoints.agent_endpoints = tuple(f"tcp://{name}:{port}" for name in _names_of(interface))
    _enter(endpoints, "agents", "curve", socket, endpoints.agent_endpoints[0])
    write_atomically(kept_file, msgspec.json.encode(Kept(keys, port)))


def _open_tcp(endpoints: Endpoints, settings: Settings) -> None:
    transport = "plain" if settings.net_plain else "curve"
    if transport == "curve" and endpoints.keys is None:
        _lock(endpoints, new_keys())
    interface = settings.net_interface or ("127.0.0.1" if transport == "plain" else "*")
    host = _names_of(interface)[0]
    ports = {"requests": settings.net_port, "events": settings.net_pub_port}
    for name, kind in (("requests", zmq.ROUTER), ("events", zmq.XPUB)):
        if name == "events" and settings.disable_pub:
            continue
        socket = _socket(endpoints, settings, name, kind)
        if transport == "curve" and endpoints.keys is not None:
            lock_server(socket, endpoints.keys)
        port = _bind_port(socket, interface, ports[name], settings)
        _enter(endpoints, name, transport, socket, f"tcp://{host}:{port}")
    if transport == "plain":
        reason = "anyone who reaches it runs commands as you; leave --net-plain out to lock it"
        log.warning("endpoint.plain", extra={"address": endpoints.request_addresses["plain"], "reason": reason})


def _socket(endpoints: Endpoints, settings: Settings, name: str, kind: int) -> zmq.Socket[bytes]:
    socket = endpoints.context.socket(kind)
    if name == "agents":
        harden(socket, settings.max_message_mib << 20, queue=_AGENT_QUEUE, handover=True)
    else:
        harden(socket, settings.max_message_mib << 20)
    return socket


def _enter(endpoints: Endpoints, name: str, transport: str, socket: zmq.Socket[bytes], address: str) -> None:
    sockets, addresses = {
        "requests": (endpoints.requests, endpoints.request_addresses),
        "events": (endpoints.events, endpoints.event_addresses),
        "agents": (endpoints.agents, endpoints.agent_addresses),
    }[name]
    sockets.append(socket)
    addresses[transport] = address


def _bind(socket: zmq.Socket[bytes], address: str, where: str) -> None:
    try:
        socket.bind(address)
    except zmq.ZMQError as error:
        socket.close()
        raise SettingsError(f"cannot listen there: {zmq.strerror(error.errno or 0)}", where=where) from error


def _bind_port(
    socket: zmq.Socket[bytes], interface: str, port: int | None, settings: Settings, first: int | None = None
) -> int:
    """The port asked for, else a free one of the range: `first`, then in random order, because pilots share hosts."""
    if port is not None:
        _bind(socket, f"tcp://{interface}:{port}", f"{interface}:{port}")
        return port
    lowest, highest = settings.net_port_min, settings.net_port_max
    candidates = random.sample(range(lowest, highest + 1), min(_PORT_TRIES, highest + 1 - lowest))
    for candidate in [first, *candidates] if first else candidates:
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


def _names_of(interface: str) -> list[str]:
    """Under which names others may reach what listens on an interface (its name or address), the likeliest first.

    All interfaces: this host's name, then the addresses of those that are up, loopback last. A name that not even this host
    can look up comes after them all.
    """
    addresses = {
        name: [entry.address for entry in entries if entry.family == network.AF_INET]
        for name, entries in psutil.net_if_addrs().items()
    }
    if interface not in ("*", "0.0.0.0"):
        return addresses.get(interface) or [interface]
    every = [address for name in addresses for address in addresses[name]]
    numbers = sorted(every, key=lambda address: address.startswith("127."))
    own = network.gethostname()
    reason = why_unknown(own)
    if not reason:
        return [own, *numbers]
    log.warning("host.unknown", extra={"host": own, "reason": f"it cannot look up its own name: {reason}"})
    return [*numbers, own]
