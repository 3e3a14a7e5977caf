"""What a host asks at a login, and who answers: the profile where it knows the question, else whoever sits at the terminal.

A secret answers only the question it is for. A question that is not understood is never answered by a guess: the password
would go where a token was asked for, and after a few of those the account is locked. For the same reason a question that comes
again after it was answered from the profile ends the login.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

from ...description.secrets import resolve
from .session import LoginError
from .totp import one_time_password

_ONE_TIME = re.compile(r"verification|one.?time|passcode|\b(otp|totp|token|code|authenticator)\b")
_PASSWORD = re.compile(
    r"\b(password|passwd|passwort|kennwort|mot de passe|contraseña|senha|wachtwoord)\b|密码|パスワード"
)
_USER = re.compile(r"\b(user ?name|login)\s*:")
_OTHER = re.compile(r"\bpin\b|password.*(\+|followed by|\band\b.*(token|code|otp))|\bnew\b|retype|again")
"""Two things in one line, another secret, or a password that has run out and is to be changed."""


class Prompts:
    """The answers of one profile.

    Args:
        interactive: whoever sits at the terminal may be asked.
        ask: shows text on the terminal and reads a line; None when there is none.
    """

    def __init__(
        self,
        profile: Mapping[str, Any],
        *,
        interactive: bool = True,
        ask: Callable[[str, bool], str | None] | None = None,
    ) -> None:
        self._profile = profile
        self._ask = (ask or ask_on_terminal) if interactive else (lambda text, shown: None)
        self._secrets: dict[str, str | None] = {}
        self._answered: set[str] = set()

    def new_login(self) -> None:
        self._answered.clear()

    def secret(self, name: str) -> str | None:
        """A key of the profile, from where it is kept; it is looked for once."""
        if name not in self._secrets:
            given = self._profile.get(name)
            self._secrets[name] = None if given is None else resolve(given, f"remote_profile.{name}")
        return self._secrets[name]

    def answer(self, prompt: str, user: str, *, instructions: str = "", shown: bool = False) -> str:
        """The answer to a question. Raises LoginError when there is none.

        Args:
            instructions: what the host says before it, e.g. a menu.
            shown: what is typed may be seen.
        """
        known = self.known_answer(prompt, user)
        if known is not None:
            if prompt in self._answered:
                what = f"the host does not take the answer to {_short(prompt)} that is in the profile"
                raise LoginError(what, remedy="mend password, totp_secret or answers in remote_profile")
            self._answered.add(prompt)
            return known
        typed = self.ask(f"{instructions.strip()}\n{prompt}".lstrip("\n"), shown=shown)
        if typed is None:
            what = f"the host asks {_short(prompt)}, and there is no terminal to ask on"
            remedy = (
                f'run it in a terminal, or add "answers": {{{_short(_key_of(prompt))}: "env:NAME"}} to remote_profile'
            )
            raise LoginError(what, remedy=remedy)
        return typed

    def ask(self, text: str, *, shown: bool = False) -> str | None:
        """What somebody types at the terminal; None when there is none."""
        return self._ask(text, shown)

    def known_answer(self, prompt: str, user: str) -> str | None:
        """What the profile has for that question; None when it is not understood, or nothing is there."""
        asked = _without_prefix(prompt).lower()
        for part, answer in (self._profile.get("answers") or {}).items():
            if part.lower() in prompt.lower():
                return resolve(str(answer), f"remote_profile.answers.{part}")
        if _USER.search(asked):
            return user
        if _OTHER.search(asked):
            return None
        if _ONE_TIME.search(asked):
            totp = self.secret("totp_secret")
            return None if totp is None else one_time_password(totp, time.time())
        return self.secret("password") if _PASSWORD.search(asked) else None


def _without_prefix(prompt: str) -> str:
    """`(ann@login.example) ` is put before a host's words by ssh; a name in it says nothing about the question."""
    return re.sub(r"^\([^)]*\) |^\S+@\S+'s ", "", prompt.strip())


def _key_of(prompt: str) -> str:
    return _without_prefix(prompt).strip().splitlines()[-1].rstrip(": ") if prompt.strip() else ""


def _short(text: str) -> str:
    plain = " ".join(text.split())
    return '"' + (plain if len(plain) <= 80 else f"...{plain[-77:]}") + '"'


def ask_on_terminal(text: str, shown: bool) -> str | None:
    """A line typed by whoever sits there, as `ssh` would ask for it, wherever our own input and output lead."""
    import getpass

    try:
        terminal = open("/dev/tty", "r+b", buffering=0)
    except OSError:
        return None
    with terminal, suppress(EOFError):
        if not shown:
            return getpass.getpass(text)
        terminal.write(text.encode())
        return terminal.readline().decode(errors="replace").rstrip("\r\n")
    return None


def tell_on_terminal(text: str) -> None:
    """Something to do for whoever sits there (touch a key)."""
    with suppress(OSError), open("/dev/tty", "wb", buffering=0) as terminal:
        terminal.write(f"{text}\n".encode())
