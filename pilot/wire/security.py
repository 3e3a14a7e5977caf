"""Locks on the endpoints: CURVE keys, who may pass, and limits on what a peer can make a socket do.

CURVE alone encrypts and proves the *server*: libzmq lets any client key in unless a ZAP handler says no (RFC 27). The
`ZapAuthenticator` is that handler. It answers from our own loop, so there is no second thread that sees keys.
"""

from __future__ import annotations

import socket as network
from dataclasses import dataclass, field

import zmq
from zmq.utils import z85

from .connection import ConnectionFile

ZAP_ADDRESS = "inproc://zeromq.zap.01"
ZAP_VERSION = b"1.0"
ZAP_DOMAIN = b"pilotfish"

HANDSHAKE_MS = 10_000
_GREETING_BYTES, _GREETING_S = 64, 2.0
_GREETING_BEGINS = b"\xff" + bytes(8) + b"\x7f\x03"
LINGER_MS = 1_000
KEEPALIVE_IDLE_S, KEEPALIVE_INTERVAL_S, KEEPALIVE_COUNT = 60, 15, 4


@dataclass(frozen=True, slots=True)
class Keys:
    """Two CURVE key pairs, Z85 text. All clients and agents of a pilot share the client pair."""

    server_public: str
    server_secret: str = field(repr=False)
    client_public: str
    client_secret: str = field(repr=False)


def new_keys() -> Keys:
    server_public, server_secret = (key.decode() for key in zmq.curve_keypair())
    client_public, client_secret = (key.decode() for key in zmq.curve_keypair())
    return Keys(server_public, server_secret, client_public, client_secret)


def lock_server(socket: zmq.Socket[bytes], keys: Keys) -> None:
    """Make every connection to this socket pass CURVE and the ZapAuthenticator. Call before `bind`.

    ZAP_ENFORCE_DOMAIN: without a running ZapAuthenticator nobody gets in (libzmq's default is everybody).
    """
    socket.curve_server = True
    socket.curve_secretkey = keys.server_secret.encode()
    socket.setsockopt(zmq.ZAP_DOMAIN, ZAP_DOMAIN)
    socket.setsockopt(zmq.ZAP_ENFORCE_DOMAIN, 1)


def unlock_client(socket: zmq.Socket[bytes], connection: ConnectionFile, endpoint: str) -> None:
    """Give the socket what `endpoint` asks for (only `curve` asks for anything). Call before `connect`."""
    if endpoint == "curve":
        socket.curve_serverkey = connection.server_public_key.encode()
        socket.curve_publickey = connection.client_public_key.encode()
        socket.curve_secretkey = connection.client_secret_key.encode()


def wants_keys(address: str) -> bool:
    """Whether a CURVE endpoint listens at this TCP address. A client without keys hears nothing of it from libzmq.

    A ZMTP peer begins with a greeting: ten bytes of signature, two of version, then the name of its mechanism (RFC 23). It
    tells that one when it has our version, and hangs up when it has ours and that is another one.
    """
    host, _, port = address.removeprefix("tcp://").rpartition(":")
    if not address.startswith("tcp://") or not port.isdigit():
        return False
    try:
        with network.create_connection((host.strip("[]"), int(port)), _GREETING_S) as peer:
            peer.sendall(_GREETING_BEGINS)
            greeting = b""
            while len(greeting) < _GREETING_BYTES and (part := peer.recv(_GREETING_BYTES - len(greeting))):
                greeting += part
    except OSError:
        return False
    return greeting[12:32].rstrip(b"\0") == b"CURVE"


def harden(socket: zmq.Socket[bytes], max_message_bytes: int, *, queue: int = 1000, handover: bool = False) -> None:
    """Limits for one socket; call before `bind` or `connect`.

    Args:
        max_message_bytes: a peer that sends a larger frame is disconnected.
        queue: messages held per peer and direction. A full queue stops reading from that peer; what happens to sends
            depends on the socket type (PUB, XPUB and ROUTER drop).
        handover: ROUTER only: a new connection with a known identity replaces the old one, so that an agent which
            reconnects is not locked out by its own half-open connection. Never on a endpoint for strangers.
    """
    socket.setsockopt(zmq.MAXMSGSIZE, max_message_bytes)
    socket.setsockopt(zmq.HANDSHAKE_IVL, HANDSHAKE_MS)
    socket.setsockopt(zmq.SNDHWM, queue)
    socket.setsockopt(zmq.RCVHWM, queue)
    socket.setsockopt(zmq.LINGER, LINGER_MS)
    # A peer whose host vanished is noticed after about two minutes; otherwise its connection stays for ever.
    socket.setsockopt(zmq.TCP_KEEPALIVE, 1)
    socket.setsockopt(zmq.TCP_KEEPALIVE_IDLE, KEEPALIVE_IDLE_S)
    socket.setsockopt(zmq.TCP_KEEPALIVE_INTVL, KEEPALIVE_INTERVAL_S)
    socket.setsockopt(zmq.TCP_KEEPALIVE_CNT, KEEPALIVE_COUNT)
    if handover:
        socket.setsockopt(zmq.ROUTER_HANDOVER, 1)


class ZapAuthenticator:
    """Answers libzmq's question, once per connection to a locked socket, whether the client's key may pass.

    One per context. Register `socket` with the loop and call `answer` when it is readable; start it before the first
    locked socket is bound.
    """

    def __init__(self, context: zmq.Context[zmq.Socket[bytes]], allowed_key: str) -> None:
        """`allowed_key`: the client public key, Z85 text."""
        self.socket = context.socket(zmq.REP)
        self._allowed = z85.decode(allowed_key.encode())

    def start(self) -> None:
        self.socket.setsockopt(zmq.LINGER, 0)
        self.socket.bind(ZAP_ADDRESS)

    def answer(self) -> None:
        """Answer all waiting questions; never blocks."""
        while self.socket.poll(0):
            self.socket.send_multipart(self._verdict(self.socket.recv_multipart()))

    def _verdict(self, question: list[bytes]) -> list[bytes]:
        # version, request id, domain, address, identity, mechanism, credentials (for CURVE: the client's 32 byte key)
        request_id = question[1] if len(question) > 1 else b""
        passes = question[2:3] == [ZAP_DOMAIN] and question[5:] == [b"CURVE", self._allowed]
        status = (b"200", b"OK") if passes else (b"400", b"not a key of this pilot")
        return [ZAP_VERSION, request_id, *status, b"", b""]

    def close(self) -> None:
        self.socket.close()
