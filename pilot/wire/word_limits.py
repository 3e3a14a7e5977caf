"""How long the words may be that the kernel hands to a program: its arguments and its variables (execve(2)).

They are those of Linux with pages of 4 KiB, the smallest there are: MAX_ARG_STRLEN for a word, and for all together what no
`ulimit -s` goes beyond. Where larger pages would allow more, a file serves as well.
"""

from __future__ import annotations

from collections.abc import Iterable

MOST_WORD_BYTES = 131_071
MOST_ALL_BYTES = 6 << 20
_MOST_PER_CHARACTER = 4


def fits_word(text: str) -> bool:
    """Whether the kernel takes it as one argument."""
    return len(text) * _MOST_PER_CHARACTER <= MOST_WORD_BYTES or byte_count(text) <= MOST_WORD_BYTES


def byte_count(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode(errors="surrogateescape"))


def at_least(texts: Iterable[str]) -> int:
    """Bytes of them all, each with its end; characters beyond ASCII count as one."""
    return sum([len(text) + 1 for text in texts])
