"""No stranger gets in, and none can stop the service or make it grow without bound."""

from __future__ import annotations

import json
import os
import resource
import socket
import stat
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
import zmq
from msgspec.structs import replace
from patience import PATIENCE_MS, PATIENCE_S

from pilotfish.api.errors import ConnectionError
from pilotfish.api.local import LocalManager
from pilotfish.api.manager import Manager
from pilotfish.pilot.wire import connection

STRANGERS = 10_000
MOST_GROWTH = 300 << 20
JOB = {"name": "theirs", "execution": {"exec": "/bin/true"}}


@pytest.fixture
def locked(wd: Path) -> Iterator[LocalManager]:
    with LocalManager(["--wd", str(wd), "--net", "--nodes", "1"], {"log_file": "/dev/null"}) as pilot:
        yield pilot


@pytest.fixture
def plain(wd: Path) -> Iterator[LocalManager]:
    with LocalManager(["--wd", str(wd), "--net-plain", "--nodes", "1"], {"log_file": "/dev/null"}) as pilot:
        yield pilot


def _info(pilot: LocalManager) -> connection.ConnectionFile:
    return connection.read(pilot.connection_file)


def _port(address: str) -> tuple[str, int]:
    host, _, port = address.removeprefix("tcp://").rpartition(":")
    return host, int(port)


def _ask(address: str, frames: list[bytes], wait_ms: int, keys: connection.ConnectionFile | None = None) -> list[bytes]:
    """Send frames as a stranger; the reply's frames, or nothing."""
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    stranger = context.socket(zmq.DEALER)
    stranger.setsockopt(zmq.LINGER, 0)
    if keys is not None:
        public, secret = zmq.curve_keypair()
        stranger.curve_serverkey = keys.server_public_key.encode()
        stranger.curve_publickey, stranger.curve_secretkey = public, secret
    stranger.connect(address)
    stranger.send_multipart(frames)
    reply = stranger.recv_multipart() if stranger.poll(wait_ms) else []
    stranger.close()
    context.term()
    return reply


def test_folder_sockets_and_keys_are_for_the_owner_only(locked: LocalManager) -> None:
    aux = locked.connection_file.parent
    assert stat.S_IMODE(aux.stat().st_mode) == 0o700
    assert stat.S_IMODE(locked.connection_file.stat().st_mode) == 0o600
    assert stat.S_IMODE((aux / "env.log").stat().st_mode) == 0o600


@pytest.mark.parametrize("with_server_key", [False, True])
def test_a_client_without_the_key_gets_nothing_and_changes_nothing(locked: LocalManager, with_server_key: bool) -> None:
    info = _info(locked)
    request = json.dumps({"request": "submit", "jobs": [JOB]}).encode()
    keys = info if with_server_key else None
    assert _ask(info.request_addresses["curve"], [b"", request], 1500, keys) == []
    assert locked.list() == {}


@pytest.mark.parametrize("scheme", ["", "tcp://"])
def test_a_client_that_names_only_the_address_is_told_that_keys_are_wanted(locked: LocalManager, scheme: str) -> None:
    address = _info(locked).request_addresses["curve"].removeprefix("tcp://")
    with pytest.raises(ConnectionError, match="this endpoint wants keys; name the pilot's connection file"):
        Manager(scheme + address, {"request_timeout": PATIENCE_S, "log_file": "/dev/null"})


def test_a_client_with_the_key_gets_in_over_tcp(locked: LocalManager) -> None:
    info = _info(locked)
    copy = locked.connection_file.with_name("elsewhere.json")
    connection.write(copy, replace(info, host="another-host"))
    client = Manager(str(copy), {"log_file": "/dev/null"})
    assert client.resources()["total_cores"] == 1
    client.cleanup()


def test_plain_tcp_is_open_only_when_asked_for_and_only_on_this_host(plain: LocalManager) -> None:
    address = _info(plain).request_addresses["plain"]
    assert address.startswith("tcp://127.0.0.1:")
    assert (plain.connection_file.parent / "address").read_text() == address
    assert "runs commands as you" in (plain.connection_file.parent / "service.log").read_text()
    (_, reply) = _ask(address, [b"", b'{"request": "resourcesInfo"}'], PATIENCE_MS)
    assert json.loads(reply)["data"]["total_cores"] == 1


@pytest.mark.parametrize(
    "frames", [[b""], [b"", b""], [b"", b"\xff\xfe"], [b"", b"null"], [b"x", b"y"], [b"", b"{}", b"{}"], [b"["]]
)
def test_garbage_is_answered_with_an_error_and_the_service_goes_on(plain: LocalManager, frames: list[bytes]) -> None:
    reply = _ask(_info(plain).request_addresses["plain"], frames, PATIENCE_MS)
    assert json.loads(reply[-1])["code"] == 1
    assert plain.resources()["total_nodes"] == 1


def test_bytes_that_are_not_even_zeromq_do_not_matter(plain: LocalManager) -> None:
    with socket.create_connection(_port(_info(plain).request_addresses["plain"])) as stranger:
        stranger.sendall(os.urandom(100_000))
    assert plain.resources()["total_nodes"] == 1


def test_a_message_of_100_mb_is_cut_off(plain: LocalManager) -> None:
    service = psutil.Process(plain._process.pid)
    before = service.memory_info().rss
    assert _ask(_info(plain).request_addresses["plain"], [b"", bytes(100 << 20)], 3000) == []
    assert plain.resources()["total_nodes"] == 1
    assert service.memory_info().rss - before < MOST_GROWTH


def test_a_client_that_never_reads_its_replies_holds_up_nobody(plain: LocalManager) -> None:
    service = psutil.Process(plain._process.pid)
    before = service.memory_info().rss
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    deaf = context.socket(zmq.DEALER)
    deaf.setsockopt(zmq.LINGER, 0)
    deaf.setsockopt(zmq.RCVHWM, 1)
    deaf.setsockopt(zmq.RCVBUF, 4096)
    deaf.connect(_info(plain).request_addresses["plain"])
    for _ in range(20_000):
        try:
            deaf.send_multipart([b"", b'{"request": "status"}'], zmq.NOBLOCK)
        except zmq.Again:
            break
    assert plain.resources()["total_nodes"] == 1
    assert service.memory_info().rss - before < MOST_GROWTH
    deaf.close()
    context.term()


def test_ten_thousand_half_open_connections_do_not_stop_the_service(plain: LocalManager) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < STRANGERS + 500:
        pytest.skip(f"only {hard} descriptors can be open here")
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    service = psutil.Process(plain._process.pid)
    before = service.memory_info().rss
    target = _port(_info(plain).request_addresses["plain"])
    strangers = []
    try:
        for _ in range(STRANGERS):
            stranger = socket.socket()
            stranger.setblocking(False)
            stranger.connect_ex(target)
            strangers.append(stranger)
        assert plain.resources()["total_nodes"] == 1
        assert service.memory_info().rss - before < MOST_GROWTH
    finally:
        for stranger in strangers:
            stranger.close()
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert plain.resources()["total_nodes"] == 1
