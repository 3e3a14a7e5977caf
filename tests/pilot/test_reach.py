"""Whether the manager can be reached is found out in seconds, and what to do is said."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Iterator

import pytest

from pilotfish.pilot import reach
from pilotfish.pilot.model.errors import LostError
from pilotfish.pilot.wire.connection import ConnectionFile


def pilot(*endpoints: str, host: str = "elsewhere") -> ConnectionFile:
    nothing: dict[str, str] = {}
    return ConnectionFile(
        instance_id="x",
        pid=1,
        host=host,
        started_s=0.0,
        aux_dir="/nowhere",
        request_addresses=nothing,
        event_addresses=nothing,
        agent_addresses=nothing,
        agent_endpoints=endpoints,
    )


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server


def address(server: socket.socket) -> str:
    return f"tcp://localhost:{server.getsockname()[1]}"


def test_one_address_that_answers_is_enough(listener: socket.socket) -> None:
    told: list[str] = []
    info = pilot("tcp://no.such.host.invalid:1", address(listener))
    reach.check_reach(lambda: info, told.append)
    assert told == []


def test_a_host_without_a_way_is_said_at_once_with_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    """Loopback addresses of another host are none of ours, whoever listens here."""
    monkeypatch.setattr(reach, "_begin", lambda *ignored: errno.ENETUNREACH)
    with pytest.raises(LostError) as caught:
        reach.check_reach(lambda: pilot("tcp://10.0.0.1:4000", "tcp://127.0.0.1:4000"), pytest.fail)
    here = socket.gethostname()
    unreachable = os.strerror(errno.ENETUNREACH)
    assert caught.value.what == f"{here} cannot reach the manager on elsewhere: 10.0.0.1:4000: {unreachable}"
    for word in ("first allocation", "--net-port-min", "--agents-connect HOST:PORT"):
        assert word in caught.value.remedy


def test_where_it_is_only_refused_another_manager_may_be_about_to_come(listener: socket.socket) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # and does not listen
        refused, told, slept = pilot(address(taken)), [], []  # type: tuple[ConnectionFile, list[str], list[float]]
        infos = iter([refused, refused, pilot(address(listener))])
        reach.check_reach(lambda: next(infos), told.append, slept.append)
        assert len(slept) == 2
        assert len(told) == 1
        assert "trying again for 60 s" in told[0]
        with pytest.raises(LostError):
            reach.check_reach(lambda: refused, told.append, slept.append)
