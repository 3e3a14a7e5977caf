"""A host whose name nobody can look up, as on a machine just installed: what works goes on working, what cannot says so."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from pilotfish.api.channel import Channel
from pilotfish.api.errors import ConnectionError
from pilotfish.pilot.manager.config import Settings
from pilotfish.pilot.manager.endpoints import Endpoints, open_endpoints
from pilotfish.pilot.wire import names

NAME = "just-installed.invalid"


def unknown(name: str) -> None:
    raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")


@pytest.fixture
def name_server(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[str], object]], None]:
    """`name_server(answer)`: what happens to those who ask for NAME, which is the name of this host."""
    true_one = socket.getaddrinfo

    def install(answer: Callable[[str], object]) -> None:
        monkeypatch.setattr(socket, "gethostname", lambda: NAME)
        monkeypatch.setattr(
            socket, "getaddrinfo", lambda name, *more: answer(name) if name == NAME else true_one(name, *more)
        )

    return install


def opened(folder: Path) -> Endpoints:
    return open_endpoints(Settings(net=True), folder, folder / "kept", agents_elsewhere=True)


def reached(address: str) -> bool:
    host, _, port = address.removeprefix("tcp://").rpartition(":")
    with socket.create_connection((host, int(port))):
        return True


def test_a_host_that_cannot_look_up_its_own_name_gives_out_numbers(
    wd: Path, name_server: Callable[..., None], caplog: pytest.LogCaptureFixture
) -> None:
    """The name comes last for agents: other hosts may know it."""
    name_server(unknown)
    endpoints = opened(wd)
    assert reached(endpoints.request_addresses["curve"])
    assert reached(endpoints.event_addresses["curve"])
    assert reached(endpoints.agent_addresses["curve"])
    assert [NAME in endpoint for endpoint in endpoints.agent_endpoints] == [False] * (
        len(endpoints.agent_endpoints) - 1
    ) + [True]
    record = next(record for record in caplog.records if record.message == "host.unknown")
    assert vars(record)["host"] == NAME
    assert vars(record)["reason"] == "it cannot look up its own name: Temporary failure in name resolution"
    endpoints.close()


def test_a_name_server_that_never_answers_is_not_waited_for(
    wd: Path, name_server: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(names, "_PATIENCE_S", 0.01)
    the_end = threading.Event()
    name_server(lambda name: the_end.wait())
    endpoints = opened(wd)
    assert NAME not in endpoints.request_addresses["curve"]
    endpoints.close()
    the_end.set()


def test_a_host_whose_name_is_known_gives_it_out(wd: Path, name_server: Callable[..., None]) -> None:
    name_server(lambda name: [])
    endpoints = opened(wd)
    assert endpoints.request_addresses["curve"].startswith(f"tcp://{NAME}:")
    assert endpoints.agent_endpoints[0].startswith(f"tcp://{NAME}:")
    endpoints.close()


def test_a_client_says_at_once_that_it_cannot_look_up_the_pilots_host(name_server: Callable[..., None]) -> None:
    name_server(unknown)
    channel = Channel(f"tcp://{NAME}:5555", timeout_s=1)
    with pytest.raises(
        ConnectionError, match=f"host name '{NAME}' cannot be looked up here: Temporary failure"
    ) as caught:
        channel.request({"request": "status"})
    assert "--net-interface" in caught.value.remedy
    channel.close()
