"""Decoding in slices gives what decoding at once gives, in steps of bounded size, and refuses the same."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pilotfish.pilot.model.steps import finish
from pilotfish.pilot.wire import json_steps
from pilotfish.pilot.wire.json_steps import decode_in_steps
from pilotfish.pilot.wire.legacy import FormError

texts = st.text(st.characters(exclude_categories=["Cs"]))
values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63) | st.floats(allow_nan=False) | texts,
    lambda inner: st.lists(inner) | st.dictionaries(texts, inner),
    max_leaves=60,
)


@pytest.fixture(autouse=True)
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that everything is larger than a piece."""
    monkeypatch.setattr(json_steps, "PIECE_BYTES", 16)


def in_small_pieces(body: bytes) -> object:
    text_of = json_steps._Text
    more = text_of.more
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(text_of, "more", lambda self, count=16: more(self, count))
        return finish(decode_in_steps(body))


@settings(max_examples=200, deadline=None)
@given(values, st.sampled_from([None, 1]), st.booleans())
def test_any_value_is_what_it_is_at_once(value: object, indent: int | None, ascii_only: bool) -> None:
    """Whatever is at the border of two pieces: numbers, escapes, characters of several bytes, white space."""
    body = json.dumps(value, indent=indent, ensure_ascii=ascii_only).encode()
    assert in_small_pieces(body) == json.loads(body)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b'{"request": "submit", "jobs": [1, 2, 3, 4, 5, 6, 7', r"expecting ',' or '\]'"),
        (b'{"request": "submit", "jobs": [1, 2, 3, 4, 5, 6, 7]} and more', "more behind the end: character 53"),
        (b'{"request": "submit", "jobs" [1, 2, 3, 4, 5, 6, 7]}', "expecting ':'"),
        (b'{"request": "submit", jobs: [1, 2, 3, 4, 5, 6, 7]}', "a name in double quotes"),
        (b'{"request": "submit", "jobs": [1, 2, 3, 4, , 5, 6, 7]}', "expecting a value: character 43"),
        (b'{"request": "submit", "jobs": ["a text without an end', "expecting a value"),
        (b'{"request": "submit", "jobs": ["' + b"x" * 40 + b"\xff" + b'"]}', "byte 72 is not UTF-8"),
        (b'{"request": "submit", "jobs": ["' + b"x" * 40 + b'\xe4"]}', "byte 72 is not UTF-8"),
        (b'{"request": "submit", "jobs": ["' + b"x" * 40 + b'\\ud800"]}', "lone surrogate"),
        (b'{"request": "submit", "jobs": [1, 2, 3, 4, 5, 100000000000000000000]}', "more than 64 bits"),
        (b'{"request": "submit", "jobs": [' + b"1" * 5000 + b"]}", "Exceeds the limit"),
        (b"[" * 100_000, "nested too deeply"),
        (b'{"a":' * 50_000, "nested too deeply"),
        (b"", "expecting a value: character 0"),
    ],
)
def test_what_cannot_be_read_is_refused_with_its_place(body: bytes, message: str) -> None:
    with pytest.raises(FormError, match=message):
        in_small_pieces(body)


def test_no_step_looks_at_more_than_a_piece(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a million numbers each step adds at most those that have room in the text it has read."""
    monkeypatch.setattr(json_steps, "PIECE_BYTES", 64 << 10)
    steps = decode_in_steps(b"[" + b",".join([b"7"] * 1_000_000) + b"]")
    count = sum(1 for _ in steps)
    assert count >= 2_000_000 // (64 << 10)
