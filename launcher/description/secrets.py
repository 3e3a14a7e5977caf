"""Passwords and other secrets: not in files, but where they are kept."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ...pilot.model.errors import UsageError

_KINDS = "env:NAME, file:PATH, keyring:SERVICE/USER or ask:"


class SecretError(UsageError):
    """A secret is not where its reference says; the reference is named, never the secret."""

    code = "secret"


def is_reference(value: object) -> bool:
    """Whether a secret says where it is, instead of being there."""
    kind, colon, _ = value.partition(":") if isinstance(value, str) else ("", "", "")
    return bool(colon) and kind in _SOURCES


def without_secrets(value: Any) -> Any:
    """What of a key with secrets may stand in a record: references; of answers to a host also the choices of a menu."""
    if isinstance(value, Mapping):
        return {name: each for name, each in value.items() if _is_menu_choice(each) or is_reference(each)}
    return value if not value or is_reference(value) else None


def _is_menu_choice(answer: str) -> bool:
    return answer in ("push", "phone", "sms") or (answer.isdigit() and len(answer) <= 2)


def resolve(value: str, where: str, environ: Mapping[str, str] = os.environ) -> str:
    """The secret itself: `env:NAME`, `file:PATH` (first line), `keyring:SERVICE/USER`, `ask:` (from the terminal).

    Any other text is the secret. Raises SecretError.
    """
    if not is_reference(value):
        return value
    kind, _, rest = value.partition(":")
    found = environ.get(rest) if kind == "env" else _SOURCES[kind](rest, where)
    if not found:
        raise SecretError(f"nothing found at {value!r}", where=where, remedy=f"a secret may be {_KINDS}")
    return found


def _from_file(path: str, where: str) -> str:
    try:
        return (Path(path).expanduser().read_text().splitlines() or [""])[0]
    except OSError as error:
        raise SecretError(f"cannot read {path!r}: {error.strerror}", where=where) from error
    except UnicodeDecodeError:  # its words and its traceback have the content
        raise SecretError(f"{path!r} is not a text file", where=where) from None
    except RuntimeError as error:  # ~ of an unknown user
        raise SecretError(f"cannot read {path!r}: {error}", where=where) from error


def _from_keyring(entry: str, where: str) -> str | None:
    service, slash, user = entry.partition("/")
    if not slash:
        raise SecretError(f"{entry!r} is not SERVICE/USER", where=where)
    try:
        import keyring
        import keyring.errors
    except ImportError:
        raise SecretError("the package keyring is not installed", where=where, remedy="pip install keyring") from None
    try:
        found: str | None = keyring.get_password(service, user)
    except keyring.errors.KeyringError as error:
        raise SecretError(f"the keyring does not answer: {error}", where=where) from error
    return found


def _ask(prompt: str, where: str) -> str:
    import getpass

    try:
        return getpass.getpass(f"{prompt or where}: ")
    except EOFError:
        raise SecretError("there is no terminal to ask on", where=where, remedy=f"use {_KINDS}") from None


_SOURCES = {"env": lambda name, where: None, "file": _from_file, "keyring": _from_keyring, "ask": _ask}
