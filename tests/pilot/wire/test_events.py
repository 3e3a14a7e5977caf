"""Event frames: the old system's byte for byte in content, our own both ways."""

from __future__ import annotations

import json

import msgspec
import pytest

from pilotfish.pilot.model.states import State
from pilotfish.pilot.wire import events
from pilotfish.pilot.wire.events import Event, decode_event, encode_event, encode_no_jobs, encode_state


def test_a_job_state_has_three_members() -> None:
    frame = encode_state(events.JOB_STATE, "m", "j", None, State.SUCCEED)
    assert frame == b'JST {"manager":"m","job":"j","state":"SUCCEED"}'


def test_an_iteration_state_has_its_index_also_when_it_is_0() -> None:
    frame = encode_state(events.TASK_FINISHED, "m", "j", 0, State.FAILED)
    assert frame == b'IFI {"manager":"m","job":"j","state":"FAILED","it":0}'


def test_no_jobs_names_the_manager() -> None:
    assert encode_no_jobs('a"b') == b'NOJ {"manager":"a\\"b"}'


def test_members_without_a_value_are_left_out_of_our_event() -> None:
    topic, payload = encode_event(Event(1, 2.5, "m", "QUEUED", "j")).split(b" ", 1)
    assert topic == b"EVT"
    assert json.loads(payload) == {"seq": 1, "time": 2.5, "manager": "m", "state": "QUEUED", "job": "j"}


def test_our_event_comes_back_as_it_was() -> None:
    event = Event(3, 4.5, "m", "FAILED", "j", 0, 0, "why: a b")
    assert decode_event(encode_event(event)) == event


@pytest.mark.parametrize("frame", [b"", b"EVT", b"EVT {}", b"JST {}", b"\xff\x00"])
def test_anything_else_is_a_decode_error(frame: bytes) -> None:
    with pytest.raises(msgspec.DecodeError):
        decode_event(frame)
