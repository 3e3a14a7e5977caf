"""One conversation with a service: time limits, late replies, nonsense; against a ROUTER that the test answers by hand."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import zmq
from patience import PATIENCE_MS, PATIENCE_S

from pilotfish.api.channel import Channel
from pilotfish.api.client import Client
from pilotfish.api.clientlog import ClientLog
from pilotfish.api.errors import ConnectionError, InternalError
from pilotfish.pilot.model.errors import LostError


class Endpoint:
    """A ROUTER socket; `serve` answers in a thread, one reply per request, until the test ends."""

    def __init__(self) -> None:
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._socket = self._context.socket(zmq.ROUTER)
        self._socket.setsockopt(zmq.LINGER, 0)
        self.address = f"tcp://127.0.0.1:{self._socket.bind_to_random_port('tcp://127.0.0.1')}"
        self._thread: threading.Thread | None = None

    def receive(self) -> tuple[bytes, dict[str, Any]]:
        assert self._socket.poll(PATIENCE_MS), "no request came"
        peer, empty, body = self._socket.recv_multipart()
        assert empty == b""
        return peer, json.loads(body)

    def reply(self, peer: bytes, body: bytes) -> None:
        self._socket.send_multipart([peer, b"", body])

    def serve(self, count: int, answer: Callable[[dict[str, Any]], bytes]) -> None:
        def run() -> None:
            for _ in range(count):
                peer, request = self.receive()
                self.reply(peer, answer(request))

        self._thread = threading.Thread(target=run)
        self._thread.start()

    def close(self) -> None:
        if self._thread is not None:
            self._thread.join()
        self._socket.close()
        self._context.term()


@pytest.fixture
def endpoint() -> Iterator[Endpoint]:
    endpoint = Endpoint()
    yield endpoint
    endpoint.close()


@pytest.fixture
def channel(endpoint: Endpoint) -> Iterator[Channel]:
    channel = Channel(endpoint.address, 5.0)
    yield channel
    channel.close()


def test_the_whole_reply_comes_back(endpoint: Endpoint, channel: Channel) -> None:
    endpoint.serve(1, lambda request: json.dumps({"code": 0, "data": request}).encode())
    assert json.loads(channel.request({"request": "x"})) == {"code": 0, "data": {"request": "x"}}


def test_silence_names_the_request_and_the_address(endpoint: Endpoint, channel: Channel) -> None:
    with pytest.raises(ConnectionError, match=r"no answer to 'status' in 0\.01 s") as caught:
        channel.request({"request": "status"}, 0.01)
    assert caught.value.where == endpoint.address
    assert isinstance(caught.value, LostError)


def test_a_late_reply_is_not_taken_for_the_next_one(endpoint: Endpoint, channel: Channel) -> None:
    with pytest.raises(ConnectionError):
        channel.request({"request": "first"}, 0.01)
    peer, _ = endpoint.receive()
    endpoint.reply(peer, b'{"code": 0, "data": "late"}')
    endpoint.serve(1, lambda request: json.dumps({"code": 0, "data": request["request"]}).encode())
    assert json.loads(channel.request({"request": "second"}))["data"] == "second"


@pytest.mark.parametrize("nonsense", [b"not json", b"[]", b"{}", b""])
def test_nonsense_is_an_invalid_reply(endpoint: Endpoint, channel: Channel, nonsense: bytes) -> None:
    endpoint.serve(1, lambda _: nonsense)
    with pytest.raises(InternalError, match="Invalid reply from the service"):
        Client(channel, ClientLog({"log_file": os.devnull})).send({"request": "x"})


def test_threads_share_a_channel_and_each_gets_its_own_reply(endpoint: Endpoint, channel: Channel) -> None:
    endpoint.serve(40, lambda request: json.dumps({"code": 0, "data": request["n"]}).encode())
    wrong: list[int] = []

    def ask(n: int) -> None:
        for k in range(10):
            if json.loads(channel.request({"request": "x", "n": n * 10 + k}))["data"] != n * 10 + k:
                wrong.append(n)

    threads = [threading.Thread(target=ask, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_a_forgotten_manager_does_not_stop_the_program() -> None:
    """Found by the garbage collector as part of a cycle, with a request that nobody takes."""
    code = """
import gc
from pilotfish.api.channel import Channel
from pilotfish.api.errors import ConnectionError
def forget():
    channel = Channel("tcp://127.0.0.1:1", 0.1)
    channel.events = channel.subscriber("tcp://127.0.0.1:1")
    channel.why_gone = lambda: "gone" if channel is None else ""
    try:
        channel.request({"request": "status"})
    except ConnectionError:
        channel._connect()
forget()
gc.collect()
print("done")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=PATIENCE_S, check=False)
    assert done.stdout == "done\n", done.stderr
