"""Who may pass a locked endpoint."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress

import msgspec
import pytest
import zmq
from zmq.utils.monitor import recv_monitor_message

from pilotfish.pilot.wire.connection import ConnectionFile
from pilotfish.pilot.wire.security import Keys, ZapAuthenticator, harden, lock_server, new_keys, unlock_client

Socket = zmq.Socket[bytes]
PATIENCE_MS = 5_000


class LockedEndpoint:
    """A locked ROUTER on loopback with its ZapAuthenticator, turned by hand."""

    def __init__(self, keys: Keys, context: zmq.Context[Socket], keep: bool) -> None:
        self.context = context
        self.authenticator = ZapAuthenticator(context, keys.client_public)
        if keep:
            self.authenticator.start()
        self.server = context.socket(zmq.ROUTER)
        harden(self.server, 1000)
        lock_server(self.server, keys)
        self.address = f"tcp://127.0.0.1:{self.server.bind_to_random_port('tcp://127.0.0.1')}"
        self.connection = ConnectionFile(
            instance_id="i",
            pid=1,
            host="h",
            started_s=0,
            aux_dir="",
            request_addresses={},
            event_addresses={},
            agent_addresses={},
            server_public_key=keys.server_public,
            client_public_key=keys.client_public,
            client_secret_key=keys.client_secret,
        )

    def client(self, connection: ConnectionFile, endpoint: str = "curve") -> tuple[Socket, Socket]:
        """A client with its monitor, knocking with one message."""
        client = self.context.socket(zmq.DEALER)
        client.linger = 0
        unlock_client(client, connection, endpoint)
        events = zmq.EVENT_HANDSHAKE_SUCCEEDED | zmq.EVENT_HANDSHAKE_FAILED_AUTH | zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL
        monitor = client.get_monitor_socket(events | zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL | zmq.EVENT_DISCONNECTED)
        client.connect(self.address)
        with suppress(zmq.Again):  # it may have been turned away by now, and then a send would wait for ever
            client.send(b"knock", zmq.NOBLOCK)
        return client, monitor

    def outcome(self, monitor: Socket) -> int:
        """The first thing the client's monitor sees, with the ZapAuthenticator at work."""
        poller = zmq.Poller()
        poller.register(monitor, zmq.POLLIN)
        poller.register(self.authenticator.socket, zmq.POLLIN)
        while ready := dict(poller.poll(PATIENCE_MS)):
            if monitor in ready:
                return int(recv_monitor_message(monitor)["event"])
            self.authenticator.answer()
        raise AssertionError("nothing happened")


@contextmanager
def endpoint(keys: Keys, keep: bool = True) -> Iterator[LockedEndpoint]:
    context: zmq.Context[Socket] = zmq.Context()
    try:
        yield LockedEndpoint(keys, context, keep)
    finally:
        context.destroy(linger=0)


def test_the_key_of_the_pilot_passes() -> None:
    with endpoint(new_keys()) as it:
        _, monitor = it.client(it.connection)
        assert it.outcome(monitor) == zmq.EVENT_HANDSHAKE_SUCCEEDED
        assert it.server.poll(PATIENCE_MS)
        assert it.server.recv_multipart()[1:] == [b"knock"]


def test_another_client_key_is_turned_away_though_it_knows_the_server_key() -> None:
    stranger = new_keys()
    with endpoint(new_keys()) as it:
        strange = msgspec.structs.replace(
            it.connection, client_public_key=stranger.client_public, client_secret_key=stranger.client_secret
        )
        _, monitor = it.client(strange)
        assert it.outcome(monitor) == zmq.EVENT_HANDSHAKE_FAILED_AUTH
        assert not it.server.poll(0)


def test_a_client_without_any_key_is_turned_away() -> None:
    with endpoint(new_keys()) as it:
        _, monitor = it.client(it.connection, endpoint="plain")
        assert it.outcome(monitor) != zmq.EVENT_HANDSHAKE_SUCCEEDED
        assert not it.server.poll(0)


def test_without_an_authenticator_nobody_passes() -> None:
    with endpoint(new_keys(), keep=False) as it:
        _, monitor = it.client(it.connection)
        assert it.outcome(monitor) != zmq.EVENT_HANDSHAKE_SUCCEEDED
        assert not it.server.poll(0)


def test_a_frame_over_the_limit_costs_the_connection_and_reaches_nobody() -> None:
    with endpoint(new_keys()) as it:
        client, monitor = it.client(it.connection)
        assert it.outcome(monitor) == zmq.EVENT_HANDSHAKE_SUCCEEDED
        assert it.server.poll(PATIENCE_MS)
        it.server.recv_multipart()
        client.send(bytes(5000))
        assert it.outcome(monitor) == zmq.EVENT_DISCONNECTED
        assert not it.server.poll(0)


@pytest.mark.parametrize("question", [[], [b""], [b"1.0", b"7"], [b"x"] * 20])
def test_a_malformed_question_is_answered_with_no(question: list[bytes]) -> None:
    context: zmq.Context[Socket] = zmq.Context()
    authenticator = ZapAuthenticator(context, new_keys().client_public)
    assert authenticator._verdict(question)[2] == b"400"
    context.destroy(linger=0)


def test_secrets_are_not_in_the_repr() -> None:
    keys = new_keys()
    assert keys.server_secret not in repr(keys)
    assert keys.client_secret not in repr(keys)
