"""Events out: who gets what, and catching up."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
import zmq
from patience import PATIENCE_MS

from pilotfish.pilot.manager.publisher import RING_EVENTS, Publisher
from pilotfish.pilot.model.decisions import Change, Lent, Succeeded
from pilotfish.pilot.model.ids import JobNo
from pilotfish.pilot.model.job_spec import Execution, Iteration, JobSpec
from pilotfish.pilot.model.jobs import Job
from pilotfish.pilot.model.results import Successes
from pilotfish.pilot.model.states import State
from pilotfish.pilot.model.tasks import Places

Socket = zmq.Socket[bytes]
JOB = Job(JobNo(1), JobSpec("j", Execution(exec="true"), iteration=Iteration(0, 100_000)), 0.0, Places())


class Stage:
    """A publisher with two endpoints over inproc, so that nothing is in flight when a call returns."""

    def __init__(self, context: zmq.Context[Socket]) -> None:
        self.context = context
        self.endpoints = [context.socket(zmq.XPUB), context.socket(zmq.XPUB)]
        for number, endpoint in enumerate(self.endpoints):
            endpoint.bind(f"inproc://endpoint{number}")
        self.publisher = Publisher(self.endpoints, "m")
        self.subscribers: list[Socket] = []

    def subscriber(self, *topics: bytes, endpoint: int = 0) -> Socket:
        socket = self.context.socket(zmq.SUB)
        self.subscribers.append(socket)
        socket.connect(f"inproc://endpoint{endpoint}")
        for topic in topics:
            socket.subscribe(topic)
        assert self.endpoints[endpoint].poll(PATIENCE_MS)
        self.publisher.read_subscriptions()
        return socket


@pytest.fixture
def stage() -> Iterator[Stage]:
    context: zmq.Context[Socket] = zmq.Context()
    yield Stage(context)
    context.destroy(linger=0)


def changed(
    publisher: Publisher, pos: int | None, state: State, time_s: float, exit_code: int | None = None, message: str = ""
) -> None:
    publisher.changed([Change(JOB, pos, state, time_s, exit_code, message)])


def received(socket: Socket) -> list[tuple[str, dict[str, Any]]]:
    frames = []
    while socket.poll(0):
        topic, _, payload = socket.recv().partition(b" ")
        frames.append((topic.decode(), json.loads(payload)))
    return frames


def test_a_plain_job_is_announced_by_its_states_and_its_end(stage: Stage) -> None:
    subscriber = stage.subscriber(b"J")
    for state in (State.QUEUED, State.SCHEDULED, State.SUCCEED):
        changed(stage.publisher, None, state, 1.0)
    common = {"manager": "m", "job": "j"}
    assert received(subscriber) == [
        ("JST", {**common, "state": "SCHEDULED"}),
        ("JST", {**common, "state": "SUCCEED"}),
        ("JFI", {**common, "state": "SUCCEED"}),
    ]


def test_a_subscriber_of_job_ends_sees_nothing_of_iterations(stage: Stage) -> None:
    subscriber = stage.subscriber(b"JFI")
    changed(stage.publisher, 0, State.SUCCEED, 1.0, 0)
    changed(stage.publisher, None, State.FAILED, 2.0)
    assert received(subscriber) == [("JFI", {"manager": "m", "job": "j", "state": "FAILED"})]


def test_our_events_have_everything_and_no_gap(stage: Stage) -> None:
    subscriber = stage.subscriber(b"EVT")
    changed(stage.publisher, 4, State.QUEUED, 1.0)
    changed(stage.publisher, 4, State.FAILED, 2.0, -9, "killed")
    stage.publisher.all_done(3.0)
    assert received(subscriber) == [
        ("EVT", {"seq": 1, "time": 1.0, "manager": "m", "job": "j", "it": 4, "state": "QUEUED"}),
        (
            "EVT",
            {
                "seq": 2,
                "time": 2.0,
                "manager": "m",
                "job": "j",
                "it": 4,
                "state": "FAILED",
                "exit_code": -9,
                "message": "killed",
            },
        ),
        ("EVT", {"seq": 3, "time": 3.0, "manager": "m", "state": "IDLE"}),
    ]


def test_subscribers_of_both_doors_get_what_they_asked_for(stage: Stage) -> None:
    everything, idle = stage.subscriber(b"", endpoint=0), stage.subscriber(b"NOJ", endpoint=1)
    changed(stage.publisher, 0, State.SUCCEED, 1.0)
    stage.publisher.all_done(2.0)
    assert [topic for topic, _ in received(everything)] == ["IST", "IFI", "EVT", "NOJ", "EVT"]
    assert received(idle) == [("NOJ", {"manager": "m"})]


def test_when_the_last_subscriber_leaves_nothing_is_wanted(stage: Stage) -> None:
    subscriber = stage.subscriber(b"", b"EVT")
    subscriber.close()
    while stage.publisher._wanted:
        assert stage.endpoints[0].poll(PATIENCE_MS)
        stage.publisher.read_subscriptions()


def test_since_gives_what_came_after(stage: Stage) -> None:
    for number in range(3):
        changed(stage.publisher, number, State.SUCCEED, float(number), 0)
    caught_up = stage.publisher.since(1)
    assert [(event.seq, event.it) for event in caught_up.events] == [(2, 1), (3, 2)]
    assert (caught_up.last, caught_up.missed) == (3, False)
    assert stage.publisher.since(3) == ([], 3, False)


def test_a_number_of_the_future_or_of_an_earlier_life_is_a_miss(stage: Stage) -> None:
    publisher = Publisher(stage.endpoints, "m", last_seq=1000)
    changed(publisher, None, State.SUCCEED, 1.0)
    assert [publisher.since(after).missed for after in (999, 1000, 1001, 1002)] == [True, False, False, True]
    assert [event.seq for event in publisher.since(5).events] == [1001]


def test_the_ring_keeps_the_newest(stage: Stage) -> None:
    for number in range(RING_EVENTS + 2):
        changed(stage.publisher, number, State.SUCCEED, 1.0)
    assert stage.publisher.since(1).missed
    whole = stage.publisher.since(2)
    assert not whole.missed
    assert [whole.events[0].seq, whole.events[-1].seq, len(whole.events)] == [3, RING_EVENTS + 2, RING_EVENTS]


def test_what_has_changed_together_is_counted_and_told_one_by_one(stage: Stage) -> None:
    subscriber = stage.subscriber(b"EVT")
    times = [1.0, 2.0], [3.0, 4.0]
    ends = Successes(JOB.no, 1, 0.5, [()], [8, 5], [0, 0], [7, 7], *times, [0.0, 0.0], [9, 9])
    stage.publisher.changed([Lent(JOB, range(5, 7), 0.5), Succeeded(JOB, ends, [0], unannounced=True)])
    stage.publisher.changed([Succeeded(JOB, ends._replace(pos=[1, 2]), [0], unannounced=False)])
    whole = stage.publisher.since(0).events
    assert [(event.seq, event.it, event.state, event.time, event.exit_code) for event in whole] == [
        (1, 5, "SCHEDULED", 0.5, None),
        (2, 6, "SCHEDULED", 0.5, None),
        (3, 8, "EXECUTING", 1.0, None),
        (4, 8, "SUCCEED", 3.0, 0),
        (5, 5, "EXECUTING", 2.0, None),
        (6, 5, "SUCCEED", 4.0, 0),
        (7, 1, "SUCCEED", 3.0, 0),
        (8, 2, "SUCCEED", 4.0, 0),
    ]
    assert [payload["seq"] for _, payload in received(subscriber)] == [*range(1, 9)]
    for after in range(9):
        assert stage.publisher.since(after) == (whole[after:], 8, False)
        assert stage.publisher.since(after, 2).events == whole[after : after + 2]


def test_the_ring_forgets_what_has_changed_together_as_one(stage: Stage) -> None:
    """It has as many events as it should, and what else the oldest has that it needs."""
    stage.publisher.changed([Lent(JOB, range(10), 1.0)] * (RING_EVENTS // 10 + 2))
    first_kept = 11
    assert [stage.publisher.since(after).missed for after in (first_kept - 2, first_kept - 1)] == [True, False]
    assert stage.publisher.since(first_kept, 1).events[0].seq == first_kept + 1


def test_a_subscriber_that_does_not_read_holds_up_nobody(stage: Stage) -> None:
    stage.subscriber(b"")
    for number in range(5000):
        changed(stage.publisher, number, State.SUCCEED, 1.0)
    assert stage.publisher.last_seq == 5000
