"""Decoding in slices gives what decoding at once gives, in steps of bounded size, and refuses the same."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pilotfish.pilot.model.steps import Steps, finish
from pilotfish.pilot.wire import json_steps
from pilotfish.pilot.wire.codec import decode
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
    assert in_small_pieces(body) == decode(body)


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


def test_a_text_that_is_longer_than_a_piece_is_put_together_from_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """No step takes in more than one, wherever escapes and pairs of them are cut."""
    monkeypatch.setattr(json_steps, "PIECE_BYTES", 1000)
    text = "".join(filler + "x" * n for n in range(60) for filler in ("\\", "\\\\", '"', "\n", "\U0001f600", "ä", "€"))
    body = json.dumps({"script": text}).encode()
    values: list[object] = []

    def steps() -> Steps[None]:
        values.append((yield from decode_in_steps(body)))

    count = sum(1 for _ in steps())
    assert values == [{"script": text}]
    assert count >= len(body) // 1000


def test_a_text_that_is_too_long_is_refused_with_its_place(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(json_steps, "_LONGEST_TEXT", 1000)
    job = {"name": "a", "execution": {"script": "x" * 1000}}
    long = {"name": "b", "execution": {"script": "x" * 1001}}
    assert finish(decode_in_steps(json.dumps([job]).encode())) == [job]
    with pytest.raises(FormError) as caught:
        finish(decode_in_steps(json.dumps({"request": "submit", "jobs": [job, long]}).encode()))
    assert str(caught.value) == (
        "jobs[1].execution.script: this text has more than 1000 characters; put it into a file"
    )


def test_an_object_with_too_many_members_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(json_steps, "_MOST_MEMBERS", 10)
    value = {"jobs": [{"env": {f"V{n}": "" for n in range(12)}}]}
    with pytest.raises(FormError, match=r"^jobs\[0\]\.env: this object has more than 10 members"):
        finish(decode_in_steps(json.dumps(value).encode()))


@pytest.mark.parametrize("text", ["caf\\udce9", "caf\\uDCE9", "caf\\udbff\\udfe9", "caf\U0010ffe9"])
def test_bytes_that_are_not_text_are_what_they_are_in_a_small_request(text: str) -> None:
    body = f'["before", "{text}", ["{"x" * 40}", "{text}"]]'.encode()
    assert in_small_pieces(body) == decode(body)


def test_a_number_has_no_end_that_would_have_to_be_looked_for() -> None:
    with pytest.raises(FormError, match="expecting a value"):
        finish(decode_in_steps(b"[1." + b"0" * 200_000 + b"]"))
