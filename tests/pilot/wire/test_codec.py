"""JSON that others send and get, and the byte marks that stand for bytes which are not text."""

from __future__ import annotations

import json
import os

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilotfish.pilot.model.ids import JobNo
from pilotfish.pilot.model.job_spec import Execution
from pilotfish.pilot.wire import codec, frames, reply_bytes
from pilotfish.pilot.wire.legacy import FormError

OS_TEXT = st.binary().map(os.fsdecode)
"""All that a file may be called, as Python has it."""
MARKED = st.text(alphabet="\U0010ff80\U0010ffe9\U0010ffff\U0010ff7fa\\ud")


@given(OS_TEXT | MARKED)
def test_bytes_come_back_as_they_were(text: str) -> None:
    inside = codec.to_text(text)
    inside.encode()
    assert os.fsencode(codec.to_os(inside)) == os.fsencode(text)


@given(st.recursive(OS_TEXT | MARKED | st.integers(0, 9), lambda some: st.lists(some) | st.dictionaries(OS_TEXT, some)))
def test_json_of_a_client_is_kept_and_answered_in_its_own_words(value: object) -> None:
    """A client in Python writes a byte that is not text as the escape of a lone surrogate, and is answered so."""
    inside = codec.decode(json.dumps(value).encode())
    codec.check_storable(inside)
    assert _in_bytes(json.loads(codec.encode(inside))) == _in_bytes(value)
    codec.encode(inside).decode()


def _in_bytes(value: object) -> object:
    if isinstance(value, str):
        return os.fsencode(value)
    if isinstance(value, list):
        return [_in_bytes(element) for element in value]
    if isinstance(value, dict):
        return sorted((os.fsencode(name), repr(_in_bytes(element))) for name, element in value.items())
    return value


def test_usual_text_is_not_touched() -> None:
    for text in ("a", "\u00e9", "\U0001f40b"):
        assert codec.to_text(text) == codec.to_os(text) == text
        assert codec.decode(json.dumps(text).encode()) == text
        assert codec.encode(text) == json.dumps(text, ensure_ascii=False).encode()


@pytest.mark.parametrize("body", [b'"\\ud800"', b'["\\udbff x"]', b'{"\\udc7f": 1}'])
def test_half_of_a_surrogate_pair_is_no_byte(body: bytes) -> None:
    with pytest.raises(FormError, match="lone surrogate"):
        codec.check_storable(codec.decode(body))


def test_frames_carry_odd_bytes_and_workers_get_them_as_the_system_takes_them() -> None:
    job = frames.JobDef(JobNo(1), "a", Execution(exec="cat", args=("caf\U0010ffe9", "\u00e9")), None, False)
    frame = frames.encode([frames.Work([job], [], {})])
    assert frames.decode_to_agent(frame) == [frames.Work([job], [], {})]
    (work,) = frames.decode_for_start(frame)
    assert isinstance(work, frames.Work)
    assert work.jobs[0].execution.args == ("caf\udce9", "\u00e9")
    assert frames.encode([work]) == frame


def test_a_message_with_a_path_of_odd_bytes_reaches_the_manager() -> None:
    (bye,) = frames.decode_to_manager(frames.encode([frames.Bye("no 'caf\udce9'")]))
    assert bye == frames.Bye("no 'caf\U0010ffe9'")


def test_a_request_with_odd_bytes_has_its_id_echoed() -> None:
    reply = reply_bytes.with_id(
        reply_bytes.ok(), b'{"request": "jobStatus", "jobNames": ["caf\\udce9"], "id": [7, "x"]}'
    )
    assert json.loads(reply) == {"code": 0, "id": [7, "x"]}


class Paths(msgspec.Struct):
    wd: str


def test_files_of_ours_hold_paths_of_odd_bytes() -> None:
    for wd in ("caf\udce9", "\u00e9", "\U0010ffe9"):
        assert (
            codec.load(codec.dump(Paths(wd)), Paths) == codec.load(codec.dump(Paths(wd), indent=2), Paths) == Paths(wd)
        )
    with pytest.raises(msgspec.ValidationError):
        codec.load(b'{"wd": ["\\udce9"]}', Paths)
    with pytest.raises(msgspec.DecodeError):
        codec.load(b'{"wd": "\\udce9', Paths)
