"""How journals of the launcher are written: a line for each event, of which one that is torn or changed is recognised.

A line is the CRC-32 of its text in hex, a blank, and JSON. Whoever dies while writing leaves a torn last line, which is cut off
by the next writer; a broken line before others is an error, because what followed from it is not known.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from ...pilot.model.errors import JournalError

_Event = TypeVar("_Event")


def encode(found: Mapping[str, object]) -> bytes:
    text = json.dumps(found).encode()
    return b"%08x %s\n" % (zlib.crc32(text), text)


def decode(
    content: bytes, parse: Callable[[dict[str, Any]], _Event], where: str, remedy: str, start: int = 0
) -> tuple[list[_Event], int]:
    """(events, length of the whole lines). `parse` raises KeyError, TypeError or ValueError for what is no event.

    `start`: where in the file the content begins. Raises JournalError for a broken line that is not the last.
    """
    found: list[_Event] = []
    position = 0
    for line in content.splitlines(keepends=True):
        text = line[9:-1]
        try:
            if not line.endswith(b"\n") or int(line[:8], 16) != zlib.crc32(text):
                raise ValueError
            found.append(parse(json.loads(text)))
        except (ValueError, KeyError, TypeError):
            if position + len(line) < len(content):
                what = f"line {len(found) + 1} is broken"
                raise JournalError(what, where=f"{where}, byte {start + position}", remedy=remedy) from None
            break
        position += len(line)
    return found, position
