"""Replies carry no number of their own: a client that sends several requests takes them in the order of its requests."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator
from itertools import count, product
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import zmq

from pilotfish.api.local import LocalManager
from pilotfish.pilot.wire import connection

Reply = dict[str, Any]
_NAMES = count()


class Question(NamedTuple):
    """A request, and how to know its reply among others."""

    frames: list[bytes]
    fits: Callable[[Reply], bool]


def _json(request: str, **members: Any) -> list[bytes]:
    return [json.dumps({"request": request, **members}).encode()]


def _submit(name: str) -> Question:
    job = {"name": name, "execution": {"exec": "true"}}
    return Question(_json("submit", jobs=[job]), lambda reply: reply.get("data", {}).get("jobs") == [name])


def _submit_wrong(name: str) -> Question:
    job = {"name": name, "execution": {"exec": "true", "args": name}}
    return Question(_json("submit", jobs=[job]), lambda reply: "must be an array" in reply["message"])


def _cancel(name: str) -> Question:
    """Of a job that this same client has submitted just before; durable, unless the job has ended already."""
    return Question(
        _json("cancelJob", jobNames=[name, f"no-{name}"]),
        lambda reply: f"no-{name}" in reply.get("data", {}).get("errors", {}) and "canceled" in reply["data"],
    )


def _remove(name: str) -> Question:
    return Question(
        _json("removeJob", jobNames=[f"gone-{name}"]),
        lambda reply: f"gone-{name}" in reply.get("data", {}).get("errors", {}) and "removed" in reply["data"],
    )


def _status_of(name: str) -> Question:
    return Question(_json("jobStatus", jobNames=[f"who-{name}"]), lambda reply: f"'who-{name}'" in reply["message"])


def _info_of(name: str) -> Question:
    return Question(_json("jobInfo", jobNames=[f"what-{name}"]), lambda reply: f"'what-{name}'" in reply["message"])


def _malformed(name: str) -> Question:
    return Question([f'{{"request": {name}'.encode()], lambda reply: "JSON cannot be read" in reply["message"])


def _unknown(name: str) -> Question:
    return Question(
        _json(f"do-{name}"), lambda reply: reply.get("message") == f"Invalid request: Unknown request name: do-{name}"
    )


def _two_frames(name: str) -> Question:
    return Question([b"{}", name.encode()], lambda reply: "one frame" in reply["message"])


KINDS: dict[str, Callable[[str], Question]] = {
    "submit": _submit,
    "refused submit": _submit_wrong,
    "cancelJob": _cancel,
    "removeJob": _remove,
    "jobStatus": _status_of,
    "jobInfo": _info_of,
    "resourcesInfo": lambda _: Question(_json("resourcesInfo"), lambda reply: "free_cores" in reply.get("data", {})),
    "status": lambda _: Question(_json("status"), lambda reply: "System" in reply.get("data", {})),
    "listJobs": lambda _: Question(_json("listJobs"), lambda reply: "length" in reply.get("data", {})),
    "events": lambda _: Question(_json("events", after=0), lambda reply: "missed" in reply.get("data", {})),
    "control": lambda _: Question(_json("control", command="no"), lambda reply: "unknown command" in reply["message"]),
    "finish": lambda _: Question(_json("finish", options=[1]), lambda reply: "options" in reply["message"]),
    "register": lambda _: Question(_json("register"), lambda reply: "register request" in reply["message"]),
    "malformed": _malformed,
    "unknown": _unknown,
    "two frames": _two_frames,
}


class Dispatcher:
    """A pipelining client: any number of requests out, then the replies in; with `envelope` in the manner of a REQ socket."""

    def __init__(self, context: zmq.Context[zmq.Socket[bytes]], address: str, envelope: bool) -> None:
        self._envelope = [b""] if envelope else []
        self._socket = context.socket(zmq.DEALER)
        self._socket.setsockopt(zmq.LINGER, 0)
        self._socket.setsockopt(zmq.RCVTIMEO, 60_000)
        self._socket.connect(address)
        self.asked: list[tuple[str, Question]] = []

    def ask(self, kind: str) -> None:
        name = f"j{next(_NAMES)}"
        if kind == "cancelJob":
            self._send("submit", _submit(name))
        self._send(kind, KINDS[kind](name))

    def _send(self, kind: str, question: Question) -> None:
        self._socket.send_multipart([*self._envelope, *question.frames])
        self.asked.append((kind, question))

    def check(self) -> None:
        """Each reply is the one to the request whose turn it is."""
        kinds = [kind for kind, _ in self.asked]
        for place, (kind, question) in enumerate(self.asked):
            reply = json.loads(self._socket.recv_multipart()[-1])
            assert question.fits({"message": "", **reply}), f"reply {place} of {kinds}, to {kind}: {reply}"
        self.asked.clear()

    def close(self) -> None:
        self._socket.close()


@pytest.fixture(params=["ipc", "plain"])
def dealers(request: pytest.FixtureRequest, wd: Path) -> Iterator[Callable[[], Dispatcher]]:
    """New clients of one pilot, at the endpoint that is named."""
    made: list[Dispatcher] = []
    with LocalManager(["--wd", str(wd), "--net-plain", "--nodes", "1"], {"log_file": "/dev/null"}) as pilot:
        address = connection.read(pilot.connection_file).request_addresses[request.param]
        context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()

        def connect() -> Dispatcher:
            made.append(Dispatcher(context, address, envelope=len(made) % 2 == 0))
            return made[-1]

        yield connect
        for dispatcher in made:
            dispatcher.close()
        context.term()


def test_the_replies_to_any_two_kinds_of_requests_come_in_their_order(dealers: Callable[[], Dispatcher]) -> None:
    """Whether one, both or none of them waits for the disk."""
    client = dealers()
    for pair in product(KINDS, repeat=2):
        for kind in pair:
            client.ask(kind)
        client.check()


@pytest.mark.parametrize("seed", range(2))
def test_random_sequences_of_several_clients_are_each_answered_in_order(
    dealers: Callable[[], Dispatcher], seed: int
) -> None:
    chance = random.Random(seed)
    clients = [dealers() for _ in range(4)]
    for _ in range(10):
        for _ in range(chance.randint(1, 60)):
            chance.choice(clients).ask(chance.choice(list(KINDS)))
        for client in clients:
            client.check()


def test_the_end_is_answered_in_its_turn(dealers: Callable[[], Dispatcher]) -> None:
    """`finish` with `kill` waits for the disk, what is asked before and after it does not."""
    client = dealers()
    for kind in ("status", "submit", "listJobs"):
        client.ask(kind)
    options = {"kill": True, "delay": 1}
    client._send("finish", Question(_json("finish", options=options), lambda reply: "when" in reply.get("data", {})))
    for kind in ("resourcesInfo", "jobStatus", "malformed"):
        client.ask(kind)
    client.check()


def reply_to(client: zmq.Socket[bytes]) -> dict[str, Any]:
    reply: dict[str, Any] = json.loads(client.recv())
    return reply


def test_the_id_of_a_request_is_in_its_reply(wd: Path) -> None:
    """Any JSON value, also when the request is refused; not one that lies deeper."""
    with LocalManager(["--wd", str(wd), "--nodes", "1"], {"log_file": "/dev/null"}) as pilot:
        address = connection.read(pilot.connection_file).request_addresses["ipc"]
        context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        client = context.socket(zmq.REQ)
        client.setsockopt(zmq.RCVTIMEO, 60_000)
        client.connect(address)
        numbers: list[object] = [7, "seven", [1, {"a": None}], 0, None, "ä"]
        for request, number in product(("resourcesInfo", "nonsense"), numbers):
            client.send_json({"request": request, "id": number})
            assert reply_to(client)["id"] == number
        client.send_json({"request": "resourcesInfo", "attributes": {"id": 1}})
        assert "id" not in reply_to(client)
        client.close()
        context.term()
