"""`--export`: what a job, or a step, has of the environment of the program that starts it."""

from __future__ import annotations

import shlex
from collections.abc import Mapping


def exported(text: str | None, environ: Mapping[str, str]) -> dict[str, str]:
    """What `--export` leaves of the environment of the program that submits: ALL, NONE, NIL, or names and NAME=VALUE."""
    words = _split(text or "ALL")
    kept = dict(environ) if any(word.upper() == "ALL" for word in words) else {}
    for word in words:
        name, mark, value = word.partition("=")
        if mark:
            kept[name] = value
        elif word.upper() not in ("ALL", "NONE", "NIL") and word in environ:
            kept[word] = environ[word]
    if not any(word.upper() in ("ALL", "NIL") for word in words):
        usual = ("HOME", "USER", "LOGNAME", "SHELL", "PATH", "TMPDIR", "LANG")
        kept = {**{name: environ[name] for name in usual if name in environ}, **kept}
    return kept


def _split(text: str) -> list[str]:
    """At commas that are not in quotes."""
    lexer = shlex.shlex(text, posix=True)
    lexer.whitespace, lexer.whitespace_split, lexer.commenters = ",", True, ""
    try:
        return list(lexer)
    except ValueError:
        return text.split(",")
