"""The requests of a file: read in slices when it is long, refused as a whole when it is wrong, served in order."""

from __future__ import annotations

import codecs
import json
import logging
import os
import threading
from pathlib import Path
from typing import Any

import pytest

from pilotfish.pilot.loop import Loop
from pilotfish.pilot.manager import request_file
from pilotfish.pilot.manager.request_file import RequestFile
from pilotfish.pilot.manager.request_server import Reply
from pilotfish.pilot.model.errors import InvalidRequestError, SettingsError
from pilotfish.pilot.model.steps import Pause, Steps
from pilotfish.pilot.wire.json_steps import PIECE_BYTES

LONG = [{"request": "submit", "jobs": [{"name": f"job{n}"} for n in range(20_000)]}, {"request": "status"}]
"""More than ten pieces."""


class Served:
    """A file that is served by a loop whose clock goes on by a millisecond each time it is asked."""

    def __init__(self, path: Path) -> None:
        self.asked: list[Any] = []
        self.refused: list[str] = []
        self.ended = False
        self.turns = 0
        self._now = 0.0
        self.loop = Loop(self._clock)
        self.file = RequestFile(request_file.read(path), self.loop, self._answer, self._end, self._refuse)

    def _clock(self) -> float:
        self._now += 0.001
        return self._now

    def _answer(self, request: object) -> Steps[Reply]:
        self.asked.append(request)
        yield Pause.MORE
        if request == "wrong":
            raise InvalidRequestError("this is no request")
        return Reply(b"done")

    def _end(self) -> None:
        self.ended = True

    def _refuse(self, error: SettingsError) -> None:
        self.refused.append(str(error))

    def turn(self) -> None:
        self.turns += 1
        self.loop.turn(lambda: None)

    def run(self) -> Served:
        self.loop.call_after(0, self.file.serve)
        while not (self.ended or self.refused):
            self.turn()
        self.loop.close()
        return self


def written(folder: Path, data: bytes) -> Path:
    path = folder / "requests.json"
    path.write_bytes(data)
    return path


def test_a_long_file_is_read_a_few_pieces_a_turn_and_then_served(tmp_path: Path) -> None:
    body = json.dumps(LONG).encode()
    served = Served(written(tmp_path, body))
    assert (served.turns, served.asked) == (0, []), "nothing is read before the loop turns"
    served.run()
    assert served.asked == LONG
    assert served.turns >= len(body) / PIECE_BYTES / 5, "5 ms are 5 steps of this clock"


def test_nothing_of_a_long_file_that_is_cut_off_is_served(tmp_path: Path) -> None:
    path = written(tmp_path, json.dumps(LONG).encode()[:-1])
    served = Served(path).run()
    assert (served.asked, served.ended) == ([], False)
    assert served.refused == [
        f"{path}: Wrong job description: this JSON cannot be read: expecting ',' or ']': character {path.stat().st_size}"
    ]


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b'[{"request":', "Wrong job description: this JSON cannot be read: expecting a value"),
        (b"\xff\xfe[", "Wrong job description: 'utf-16-le' codec can't decode"),
        (b'{"request": "status"}', "Not an array of requests in json file"),
    ],
)
def test_what_is_wrong_with_a_short_file_is_said_before_anything_starts(
    data: bytes, reason: str, tmp_path: Path
) -> None:
    with pytest.raises(SettingsError) as caught:
        Served(written(tmp_path, data))
    assert str(caught.value).startswith(f"{tmp_path / 'requests.json'}: {reason}")


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"nothing\.json: cannot be read: No such file"):
        request_file.read(tmp_path / "nothing.json")


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32-be"])
@pytest.mark.parametrize("length", [1, PIECE_BYTES], ids=["short", "long"])
def test_each_encoding_of_json_is_read(encoding: str, length: int, tmp_path: Path) -> None:
    requests = [{"request": "status", "filling": "ä" * length}]
    served = Served(written(tmp_path, json.dumps(requests, ensure_ascii=False).encode(encoding))).run()
    assert served.asked == requests


def test_bytes_that_are_not_text_reach_the_jobs(tmp_path: Path) -> None:
    """As the escapes with which Python writes them (codec.py)."""
    served = Served(written(tmp_path, b'["caf\\udce9", "' + b"x" * PIECE_BYTES + b'", "caf\\udce9"]')).run()
    assert [served.asked[place] for place in (0, 2)] == ["caf\U0010ffe9"] * 2


def test_a_pipe_is_read_before_the_loop_turns(tmp_path: Path) -> None:
    """It may come from a program that is still at work, for which the loop must not wait."""
    path = tmp_path / "pipe"
    os.mkfifo(path)
    writer = threading.Thread(target=path.write_bytes, args=(codecs.BOM_UTF8 + json.dumps(LONG).encode(),))
    writer.start()
    served = Served(path)
    writer.join()
    assert served.run().asked == LONG


def test_a_wrong_request_costs_itself_and_a_null_ends_the_file(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        served = Served(written(tmp_path, b'[1, "wrong", 2, null, 3]')).run()
    assert served.asked == [1, "wrong", 2]
    replies = [record.args[0] for record in caplog.records if isinstance(record.args, tuple) and record.args]
    assert replies == ["done", "this is no request", "done"]
