"""Commands for any login shell, and answers in which the words of others are told from ours.

sshd gives a command to the user's login shell, which reads start files first. Those may print, and the shell may be one of
another kind (csh, fish). So a command goes as one line in quotes that all of them read alike, to a POSIX shell, and what that
prints stands between two marks. The second has the exit code: an answer without it was cut off.
"""

from __future__ import annotations

import re
import secrets
import shlex
from collections.abc import Callable

_ENCODED = {"\\": r"\0134", "'": r"\0047", "!": r"\0041", "\n": r"\n", "\r": r"\r"}
"""In single quotes csh acts on `!` and line breaks, fish on backslashes before a quote or another one; for `printf %b`."""
VARIABLE = re.compile(r"(?<![^/])\$(\w+|\{\w+\})(?![^/])")
"""A whole part of a path, as in `$SCRATCH/work`; in the middle of a name a `$` is a sign like others."""
_MOST_NOISE = 1 << 16
_LONGEST_END = 32


class Marks:
    """Two marks that nothing else prints. They stand in the command in halves: a shell may be told to print its commands."""

    def __init__(self) -> None:
        self._halves = f"@{secrets.token_hex(8)}", f"{secrets.token_hex(8)}@"
        self.begin = "".join([*self._halves, "\n"]).encode()
        self.end = "".join(["\n", *self._halves]).encode()

    def command(self, text: str, *, ends: bool = True) -> str:
        """What to give to the login shell so that `text` runs in a POSIX shell; without `ends` only its beginning is marked."""
        words = '"{}" "{}"'.format(*self._halves)
        run = 'eval "$(printf %b "$1")"'
        begin = f'printf "%s%s\\n" {words}; printf "%s%s\\n" {words} >&2'
        end = f'code=$?; printf "\\n%s%s%d\\n" {words} $code; exit $code'
        line = f"{begin}; ( {run} ); {end}" if ends else f"{begin}; {run}"
        encoded = "".join(_ENCODED.get(sign, sign) for sign in text)
        return f"exec sh -c '{line}' sh '{encoded}'"

    def without_noise(self, err: bytes) -> bytes:
        """What was printed to the other stream after the beginning."""
        return err.partition(self.begin)[2] if self.begin in err else err


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


def in_login_shell(text: str) -> str:
    """Run in a shell as a job's script has it: `bash -l` reads the profile, where `module` comes from.

    What the profile says is lost.
    """
    return f"exec bash -lc {shlex.quote(f'exec >&3 3>&-; {text}')} 3>&1 >/dev/null"


def shell_path(path: str) -> str:
    """Quoted; of one that is not from the root folder the home folder is found by the shell."""
    if path.startswith("/"):
        return shlex.quote(path)
    return f"~/{shlex.quote(path[2:] if path.startswith('~/') else path)}" if path != "~" else "~"
