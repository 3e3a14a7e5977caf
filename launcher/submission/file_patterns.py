"""One shell command for each file, or for each set of files that belong together: what stands in braces is filled in.

Three ways, told apart by what the command has:

* `{}`: once for each of the files, which are taken as they are given.
* `{0}`, `{1}` ...: each of the words is a pattern, and the files that they find go together in alphabetical order: as many for
  each; one that finds a single file gives the same for all.
* `{name}` in a pattern is a part of a path, which the command can have as well. Patterns that share one must agree in it.

More variables are made of these by `NEW:OLD:REGEX:TEXT` (`re.sub`). Whatever is filled in is one word for the shell. `{{` and
`}}` stand for braces; what is in braces and cannot be a name (`{print $1}`) is the shell's or a program's own.
"""

from __future__ import annotations

import glob
import os
import posixpath
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ...pilot.model.errors import UsageError
from ..contexts.shell import word
from ..description.schema import nearest

_HOLE = re.compile(r"\{\{|\}\}|(?<!\$)\{(\w*|\.|/|//|/\.|#)\}")
_NAME = re.compile(r"\{([A-Za-z_]\w*)\}")


@dataclass(frozen=True)
class Filled:
    """A command, and the files it was filled in with."""

    command: str
    files: tuple[str, ...] = ()


def fill(command: str, files: Sequence[str], more: Sequence[str] = ()) -> list[Filled]:
    """The commands, in the order of the files. Without files there is one, as it stands. Raises UsageError."""
    holes = {match[1] for match in _HOLE.finditer(command) if match[1] is not None}
    if not files:
        if more or holes & {"", "0"}:
            remedy = "write 'COMMAND {}' FILE..., or give --simple when the braces belong to the command"
            raise UsageError("has a place for files, and none are given", where="command", remedy=remedy)
        return [Filled(command)]
    if not holes:
        raise UsageError(
            "has no place for the files", where=f"command {command[:60]!r}", remedy="write {} where a file belongs"
        )
    by_place = any(hole.isdigit() for hole in holes)
    sets = _sets(files) if by_place or any(map(_NAME.search, files)) else [((file,), {}) for file in _single(files)]
    found = []
    for number, (together, parts) in enumerate(sets, 1):
        values = {**_of_files(together, number), **_derived(parts, together, more)}
        found.append(Filled(_HOLE.sub(lambda hole: _value(hole, values), command), together))  # noqa: B023
    return found


def _single(files: Sequence[str]) -> list[str]:
    """The files as they are; a single pattern may have been quoted."""
    quoted = len(files) == 1 and glob.has_magic(files[0]) and not os.path.lexists(files[0])
    return [file for file, _ in _matches(files[0])] if quoted else list(files)


def _value(hole: re.Match[str], values: Mapping[str, str]) -> str:
    name = hole[1]
    if name is None:
        return hole[0][0]
    if name not in values:
        remedy = nearest(name, [key for key in values if key.isidentifier()])
        remedy = remedy or f"name it in a file as {{{name}}}, or with --extra-vars"
        raise UsageError(
            f"{{{name}}} is not known", where="command", remedy=f"{remedy}; {{{{{name}}}}} stands for the text itself"
        )
    return word(values[name])


def _of_files(files: Sequence[str], number: int) -> dict[str, str]:
    """What the command can have of a set of files, also in GNU parallel's words."""
    first = files[0]
    base = posixpath.basename(first)
    return {
        "": first,
        **{str(place): file for place, file in enumerate(files)},
        ".": posixpath.splitext(first)[0],
        "/": base,
        "//": posixpath.dirname(first) or ".",
        "/.": posixpath.splitext(base)[0],
        "#": str(number),
    }


def _sets(patterns: Sequence[str]) -> list[tuple[tuple[str, ...], dict[str, str]]]:
    columns = [_matches(pattern) for pattern in patterns]
    count = max(map(len, columns))
    for pattern, column in zip(patterns, columns, strict=True):
        if len(column) not in (1, count):
            what = f"finds {len(column)} files, and another pattern {count}"
            raise UsageError(what, where=pattern, remedy="files that belong together must be as many for each pattern")
    found = []
    for place in range(count):
        row = [column[place if len(column) > 1 else 0] for column in columns]
        parts: dict[str, str] = {}
        for pattern, (file, own) in zip(patterns, row, strict=True):
            other = next((name for name in own if parts.get(name, own[name]) != own[name]), None)
            if other is not None:
                what = f"{{{other}}} is {own[other]!r} in {file}, and {parts[other]!r} in {row[0][0]}"
                raise UsageError(what, where=pattern, remedy="each pattern must find a file for the same values")
            parts |= own
        found.append((tuple(file for file, _ in row), parts))
    return found


def _matches(pattern: str) -> list[tuple[str, dict[str, str]]]:
    """The files that a pattern finds, sorted, each with the parts that are named in it."""
    looked_for = _NAME.sub("*", pattern)
    if not glob.has_magic(looked_for):
        return [(pattern, {})]
    shape = re.compile(_as_regex(pattern), re.DOTALL)
    found = [(file, match.groupdict()) for file in sorted(glob.glob(looked_for)) if (match := shape.fullmatch(file))]
    if not found:
        raise UsageError(
            "no file is called so", where=pattern, remedy="look with `ls`; quote the pattern for the shell"
        )
    return found


def _as_regex(pattern: str) -> str:
    """Of a pattern as `glob` takes it; the same name twice is the same text."""
    known: set[str] = set()
    parts = []
    for token in re.findall(r"\{[A-Za-z_]\w*\}|\*|\?|\[[^\]]+\]|.", pattern, re.DOTALL):
        name = token[1:-1] if len(token) > 2 and token[0] == "{" else ""
        if name:
            parts.append(f"(?P={name})" if name in known else f"(?P<{name}>[^/]*)")
            known.add(name)
        elif token in ("*", "?"):
            parts.append(f"[^/]{token if token == '*' else ''}")
        elif len(token) > 1:
            parts.append(token.replace("[!", "[^", 1))
        else:
            parts.append(re.escape(token))
    return "".join(parts)


def _derived(parts: Mapping[str, str], files: Sequence[str], more: Sequence[str]) -> dict[str, str]:
    """These parts with what is made of them. `OLD` may also be the number of a file; `NEW:TEXT` is the same for all."""
    values = {"file": files[0], **{str(place): file for place, file in enumerate(files)}, **parts}
    made: dict[str, str] = {}
    for each in more:
        fields = each.split(":")
        if len(fields) not in (2, 4) or not fields[0].isidentifier():
            raise UsageError("must be NEW:OLD:REGEX:TEXT or NEW:TEXT", where=f"--extra-vars {each}")
        if len(fields) == 2:
            made[fields[0]] = fields[1]
            continue
        new, old, regex, text = fields
        if old not in {**values, **made}:
            remedy = nearest(old, values) or f"known are {', '.join(values)}"
            raise UsageError(f"there is no {old!r}", where=f"--extra-vars {each}", remedy=remedy)
        try:
            made[new] = re.sub(regex, text, {**values, **made}[old])
        except (re.error, IndexError) as error:
            raise UsageError(f"is no regular expression: {error}", where=f"--extra-vars {each}") from None
    return {**parts, **made}
