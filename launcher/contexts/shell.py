"""Shell text: the one place in which it is made, and how it comes to run on a machine.

Whatever runs on a machine, here or there, is a `Text`, and only the functions of this module make one. `sh` fills in a
template; what it fills in has said what it is: a `word` (quoted), a `place` (an absolute path), a `relative` one (below the
folder in which the command runs), or text again. So nothing that a user or a machine has named is ever read by a shell, no `~`
is left in quotes, and no name that begins with a dash is taken for an option. `users` marks what people have written for a
shell.

Rejected: f-strings with `shlex.quote`, which work until the one that lacks it; lists of words (as for `exec`), because most of
what is done there needs a pipe, a test or a loop, in one round trip.

sshd gives a command to the user's login shell, which reads start files first. Those may print, and the shell may be one of
another kind (csh, fish), in any locale. So a command goes as one line of ASCII in quotes that all of them read alike, to a
POSIX shell, and what that prints stands between two marks. The second has the exit code: an answer without it was cut off. Text
that is too long for a command line goes ahead of the input.
"""

from __future__ import annotations

import os
import re
import secrets
import shlex
from collections.abc import Callable, Iterable

from .paths import what_is_wrong

VARIABLE = re.compile(r"(?<![^/])\$(\w+|\{\w+\})(?![^/])")
"""A whole part of a path, as in `$SCRATCH/work`; in the middle of a name a `$` is a sign like others."""
_HOLE = re.compile(r"(?<!\$)\{([a-z_]+)\}")
_NOT_ALIKE = re.compile(rb"[\x00-\x1f\\'!\x7f-\xff]")
"""In single quotes csh acts on `!` and line breaks, fish on backslashes before a quote or another one; beyond ASCII the locale
decides what is one character."""
LONGEST_LINE = 60_000
"""Of a command line: a kernel takes 131,072 bytes in one argument, and what is encoded has up to five for one."""
_MOST_NOISE = 1 << 16
_LONGEST_END = 32


class Text(str):
    """Finished shell text, to be run as it is. Made by the functions of this module only; an f-string of it is none."""


def sh(template: str, /, **values: Text | float) -> Text:
    """Shell text with a value for each `{name}` in it; `${name}`, `{ ...; }` and `{}` are the shell's own.

    The template is a literal. Raises ValueError when holes and values are not the same, TypeError for a plain string.
    """
    holes = set(_HOLE.findall(template))
    if holes != values.keys():
        raise ValueError(f"expected values for {sorted(holes)}, got {sorted(values)}: {template[:80]!r}")
    filled = {hole: _filling(hole, value) for hole, value in values.items()}
    return Text(_HOLE.sub(lambda hole: filled[hole[1]], template))


def _filling(hole: str, value: Text | float) -> str:
    if isinstance(value, Text):
        return value
    if isinstance(value, int | float) and not isinstance(value, bool):
        return f"{value:g}" if isinstance(value, float) else str(value)
    raise TypeError(
        f"{hole!r} must be made by word(), place(), relative() ..., or be a number, not {type(value).__name__}"
    )


def word(text: str) -> Text:
    """One word, quoted. Raises ValueError for one with a NUL, which no command line takes."""
    if "\0" in text:
        raise ValueError(f"{text!a} has a NUL")
    return Text(shlex.quote(text))


def words(texts: Iterable[str]) -> Text:
    return Text(" ".join(word(text) for text in texts))


def place(path: str) -> Text:
    """An absolute path. Raises ValueError for another: `Context.absolute` makes it so."""
    if not path.startswith("/"):
        raise ValueError(f"{path!a} is no path from the root folder")
    return word(path)


def places(paths: Iterable[str]) -> Text:
    return Text(" ".join(place(path) for path in paths))


def relative(path: str) -> Text:
    """A file below the folder in which the command runs. Raises ValueError for a path that leads out of it."""
    if wrong := what_is_wrong(path):
        raise ValueError(f"{path!a} {wrong}")
    return word(f"./{path}")


def relatives(paths: Iterable[str]) -> Text:
    return Text(" ".join(relative(path) for path in paths))


def patterns(globs: Iterable[str]) -> Text:
    """Patterns of files below the folder in which the command runs: `*`, `?` and `[...]` mean something, nothing else does."""
    return Text(" ".join("./" + re.sub(r"[^\w./*?\[\]^-]", r"\\\g<0>", glob.replace("\n", "?")) for glob in globs))


def lines(parts: Iterable[Text]) -> Text:
    return Text("\n".join(parts))


def joined(parts: Iterable[Text]) -> Text:
    return Text("".join(parts))


def users(text: str) -> Text:
    """What people have written to be run by a shell. Nothing of ours or of a machine belongs into it."""
    return Text(text)


def expanded(folder: str) -> Text:
    """Of a folder in which `~`, `~somebody` and variables mean something, and nothing else does; it is relative to the home."""
    tilde = re.match(r"~([\w.-]*)/?", folder)
    if tilde is not None:
        begin, at = (tilde[0], tilde.end()) if tilde[1] else ('"$HOME"', 1)
    else:
        begin, at = ("" if folder.startswith(("/", "$")) else '"$HOME"/'), 0
    parts = [begin]
    for match in VARIABLE.finditer(folder, at):
        variable = match[1].strip("{}")
        parts += [word(folder[at : match.start()]), f'"${{{variable}:?is not set there}}"']
        at = match.end()
    return Text("".join([*parts, word(folder[at:])]))


def from_home(path: str) -> Text:
    """A path in a script that may be looked at before the machine is asked where that is."""
    return place(path) if path.startswith("/") else expanded(path)


# --- how it comes to run --------------------------------------------------------------------------------------------------


def ahead(text: str) -> tuple[Text, bytes]:
    """(text that runs this one, which it takes from the beginning of its input; those bytes): for what is too long."""
    head = os.fsencode(text)
    return sh('eval "$(head -c {count})"', count=len(head)), head


class Marks:
    """Two marks that nothing else prints. They stand in the command in halves: a shell may be told to print its commands."""

    def __init__(self) -> None:
        self._halves = f"@{secrets.token_hex(8)}", f"{secrets.token_hex(8)}@"
        self.begin = "".join([*self._halves, "\n"]).encode()
        self.end = "".join(["\n", *self._halves]).encode()

    def command(self, text: str, *, ends: bool = True) -> tuple[str, bytes]:
        """(what to give to the login shell so that `text` runs in a POSIX shell, what goes ahead of the input).

        Without `ends` only its beginning is marked.
        """
        encoded, head = _encoded(text), b""
        if len(encoded) > LONGEST_LINE:
            text, head = ahead(text)
            encoded = _encoded(text)
        halves = '"{}" "{}"'.format(*self._halves)
        run = 'eval "$(printf %b "$1")"'
        begin = f'printf "%s%s\\n" {halves}; printf "%s%s\\n" {halves} >&2'
        end = f'code=$?; printf "\\n%s%s%d\\n" {halves} $code; exit $code'
        line = f"{begin}; ( {run} ); {end}" if ends else f"{begin}; {run}"
        return f"exec sh -c '{line}' sh '{encoded}'", head

    def without_noise(self, err: bytes) -> bytes:
        """What was printed to the other stream after the beginning."""
        return err.partition(self.begin)[2] if self.begin in err else err


def _encoded(text: str) -> str:
    """For `printf %b`, in single quotes: ASCII that any shell takes as it is."""
    return _NOT_ALIKE.sub(lambda sign: b"\\0%03o" % sign[0][0], os.fsencode(text)).decode("ascii")


class Answer:
    """Gives what stands between the marks to `take`, as it comes.

    Attributes:
        begun: the first mark has come, so the command runs.
        code: the exit code; None until the second mark has come.
        noise: what came before the first.
    """

    def __init__(self, marks: Marks, take: Callable[[bytes], object]) -> None:
        self.begun, self.code, self.noise = False, None, b""  # type: tuple[bool, int | None, bytes]
        self._marks, self._take = marks, take
        self._held = b""
        self._end = re.compile(re.escape(marks.end) + rb"(\d+)\n")

    def feed(self, block: bytes) -> None:
        if self.code is not None:
            return
        self._held += block
        if not self.begun and not self._begins():
            return
        if match := self._end.search(self._held):
            self.code = int(match[1])
            self._give(match.start())
            self._held = b""
            return
        self._give(max(0, len(self._held) - len(self._marks.end) - _LONGEST_END))

    def _begins(self) -> bool:
        noise, mark, rest = self._held.partition(self._marks.begin)
        if not mark:
            self._held = self._held[-_MOST_NOISE:]
            return False
        self.begun, self.noise, self._held = True, noise, rest
        return True

    def _give(self, count: int) -> None:
        if count:
            self._take(self._held[:count])
            self._held = self._held[count:]

    def finish(self) -> None:
        """Nothing more comes."""
        if not self.begun:
            self.noise = self._held
        elif self.code is None:
            self._give(len(self._held))
        self._held = b""


class Reader:
    """What stands between the marks, to be read like a file. `receive` gives the next block, empty at the end."""

    def __init__(self, marks: Marks, receive: Callable[[], bytes]) -> None:
        self._blocks: list[bytes] = []
        self.answer = Answer(marks, self._blocks.append)
        self._receive = receive
        self._rest = b""
        self._over = False

    def read(self, size: int = -1, /) -> bytes:
        while not self._over and (size < 0 or len(self._rest) < size):
            block = self._receive()
            if block:
                self.answer.feed(block)
            else:
                self.answer.finish()
                self._over = True
            self._rest += b"".join(self._blocks)
            self._blocks.clear()
        size = len(self._rest) if size < 0 else size
        found, self._rest = self._rest[:size], self._rest[size:]
        return found
