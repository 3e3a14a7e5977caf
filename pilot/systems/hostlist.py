"""Compressed lists as batch systems write them: host lists `n[01-03,7]`, counts `4(x2),2`, ids `0-3,6`.

The libraries for this were looked at: ClusterShell sorts (counts of cores go by position), python-hostlist is under the GPL.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from itertools import groupby

from ..model.errors import SettingsError

MOST = 100_000
"""More hosts than any machine has: a list beyond that is a mistake."""
_ITEM = re.compile(r"(?:[^,\[\]]|\[[^\[\]]*\])+")
_GROUP = re.compile(r"\[([^\[\]]*)\]")
_RANGE = re.compile(r"(\d+)(?:-(\d+))?")
_COUNT = re.compile(r"(\d+)(?:\(x(\d+)\))?")


def hosts(text: str, where: str) -> list[str]:
    """The hosts of `a,b[2-3]-ib,r[1-2]n[08-10]` in order; leading zeros are kept. Raises SettingsError naming `where`."""
    found: list[str] = []
    rest = text.strip()
    while rest:
        item = _ITEM.match(rest)
        if item is None or (len(item[0]) < len(rest) and rest[item.end()] != ","):
            raise SettingsError(f'"{text}" is not a list of hosts', where=where)
        found += _expanded(item[0], text, where)
        if len(found) > MOST:
            raise SettingsError(f'"{text}" names more than {MOST} hosts', where=where)
        rest = rest[item.end() + 1 :]
    return found


def _expanded(item: str, text: str, where: str) -> list[str]:
    """One item with all its groups filled in, the last group running fastest."""
    names = [""]
    for place, part in enumerate(_GROUP.split(item)):
        values = list(_numbers(part, text, where)) if place % 2 else [part]
        if len(names) * len(values) > MOST:
            raise SettingsError(f'"{text}" names more than {MOST} hosts', where=where)
        names = [name + value for name in names for value in values]
    return names


def _numbers(group: str, text: str, where: str) -> Iterator[str]:
    for part in group.split(","):
        found = _RANGE.fullmatch(part.strip())
        if found is None or int(found[2] or found[1]) - int(found[1]) not in range(MOST):
            raise SettingsError(f'"{text}" is not a list of hosts: "{part}" is no range', where=where)
        width = len(found[1]) if found[1].startswith("0") else 0
        for number in range(int(found[1]), int(found[2] or found[1]) + 1):
            yield str(number).zfill(width)


def counts(text: str, where: str) -> list[int]:
    """`4(x2),2` is [4, 4, 2]. Raises SettingsError naming `where`."""
    found: list[int] = []
    for part in text.split(","):
        match = _COUNT.fullmatch(part.strip())
        if match is None or int(match[2] or 1) > MOST:
            raise SettingsError(f'"{text}" is not a list of counts', where=where, remedy="expected is e.g. 4(x2),2")
        found += [int(match[1])] * int(match[2] or 1)
    return found


def compressed_counts(counts: Sequence[int]) -> str:
    """The opposite of `counts`: [4, 4, 2] is `4(x2),2`."""
    runs = [(count, len(list(same))) for count, same in groupby(counts)]
    return ",".join(str(count) if times == 1 else f"{count}(x{times})" for count, times in runs)


def ids(text: str, where: str) -> list[int]:
    """`0-3,6` is [0, 1, 2, 3, 6]; an empty text is no id. Raises SettingsError naming `where`."""
    return [int(number) for number in _numbers(text, text, where)] if text.strip() else []


def compressed(ids: Sequence[str]) -> str:
    """The opposite of `ids`, for people: `0-3,6`; anything that is not a number stays as it is."""
    parts: list[list[str]] = []
    for text in ids:
        last = parts[-1][-1] if parts else ""
        if text.isdigit() and last.isdigit() and int(text) == int(last) + 1:
            parts[-1].append(text)
        else:
            parts.append([text])
    return ",".join(part[0] if len(part) == 1 else f"{part[0]}-{part[-1]}" for part in parts)
