"""What a host asks at a login is answered by the profile where the question is understood, else by whoever sits there."""

from __future__ import annotations

import os
import pty
import select
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from asking import Asking
from patience import PATIENCE_S
from sshd import TOTP_SECRET

from pilotfish.launcher.contexts.shell import users
from pilotfish.launcher.contexts.ssh import prompts
from pilotfish.launcher.contexts.ssh.context import SSHContext
from pilotfish.launcher.contexts.ssh.prompts import Prompts
from pilotfish.launcher.contexts.ssh.session import LoginError

SECRETS = {"password": "hunter2", "totp_secret": TOTP_SECRET}
DUO = (
    "Duo two-factor login for ann\n\nEnter a passcode or select one of the following options:\n\n"
    " 1. Duo Push to XXX-XXX-1234\n\nPasscode or option (1-1): "
)


def answered(prompt: str, profile: dict[str, Any]) -> str | None:
    """`password`, `code` or what else the profile answers; None: it is not understood."""
    answer = Prompts(profile).known_answer(prompt, "ann")
    if answer is not None and answer.isdigit() and len(answer) == 6:
        return "code"
    return "password" if answer == "hunter2" else answer


@pytest.mark.parametrize(
    ("prompt", "answer"),
    [
        ("Password: ", "password"),
        ("(ann@login.example.org) Password: ", "password"),
        ("ann@login.example.org's password: ", "password"),
        ("Passwort: ", "password"),
        ("Mot de passe : ", "password"),
        ("密码: ", "password"),
        ("Verification code: ", "code"),
        ("One-time password (OATH) for `ann': ", "code"),
        ("Your OTP: ", "code"),
        ("Enter PASSCODE: ", "code"),
        ("Token: ", "code"),
        ("(token@login.example.org) Password: ", "password"),
        ("Username: ", "ann"),
        ("Yubikey for ann: ", None),
        ("Yubikey for `ann': ", None),
        ("Second Factor (optional): ", None),
        ("PIN+Token: ", None),
        ("Password + verification code: ", None),
        ("Enter your password followed by the token: ", None),
        ("Enter PIN for 'PIV': ", None),
        ("New password: ", None),
        ("Retype new UNIX password: ", None),
        ("(current) UNIX password: ", "password"),
        ("Challenge: 1234 Response: ", None),
        ("What is your favourite colour? ", None),
        ("", None),
    ],
)
def test_a_secret_answers_only_the_question_it_is_for(prompt: str, answer: str | None) -> None:
    assert answered(prompt, SECRETS) == answer


@pytest.mark.parametrize("prompt", ["Verification code: ", DUO, "Your OTP: ", "One-time password: "])
def test_the_password_is_never_sent_where_a_code_is_asked_for(prompt: str) -> None:
    assert answered(prompt, {"password": "hunter2"}) is None


def test_an_answer_of_the_profile_is_for_each_question_that_has_its_words(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("YUBIKEY", "cccc")
    profile = SECRETS | {"answers": {"option (": "1", "yubikey for": "env:YUBIKEY"}}
    assert answered(DUO, profile) == "1"
    assert answered("Yubikey for ann: ", profile) == "cccc"
    assert answered("Password: ", profile) == "password"


def test_without_a_terminal_the_error_says_what_is_asked_and_what_to_write() -> None:
    with pytest.raises(LoginError) as caught:
        Prompts({}, ask=lambda text, shown: None).answer(DUO, "ann")
    assert 'Passcode or option (1-1):"' in caught.value.what
    assert '"answers": {"Passcode or option (1-1)": "env:NAME"}' in caught.value.remedy


def test_an_answer_that_was_not_taken_is_not_given_again() -> None:
    made = Prompts({"password": "hunter2"})
    assert made.answer("Password: ", "ann") == "hunter2"
    with pytest.raises(LoginError, match="does not take the answer"):
        made.answer("Password: ", "ann")
    made.new_login()
    assert made.answer("Password: ", "ann") == "hunter2"


# --- a host that asks -----------------------------------------------------------------------------------------------------

QUESTIONS = [("", "Password: ", False), ("Touch it.", "Yubikey for ann: ", True)]
Typed = Callable[..., list[str]]


@pytest.fixture
def typed(monkeypatch: pytest.MonkeyPatch) -> Typed:
    """`typed(answer, ...)`: somebody sits at the terminal and types that; what was shown is in the list."""

    def given(*answers: str | None) -> list[str]:
        shown: list[str] = []
        left = list(answers)

        def ask(text: str, visible: bool) -> str | None:
            shown.append(text)
            return left.pop(0) if left else None

        monkeypatch.setattr(prompts, "ask_on_terminal", ask)
        return shown

    return given


@pytest.mark.usefixtures("transport")
def test_what_the_profile_does_not_know_is_asked_on_the_terminal(wd: Path, transport: str, typed: Typed) -> None:
    shown = typed("cccccc")
    with Asking(wd, QUESTIONS, ["hunter2", "cccccc"]) as server:
        profile = {**server.profile, "password": "hunter2", "transport": transport}
        with SSHContext(wd, str(wd), profile) as there:
            assert there.run(users("echo in")).out == "in\n"
        assert server.answered == ["hunter2", "cccccc"]
    assert len(shown) == 1
    assert shown[0].endswith("Yubikey for ann: ")


@pytest.mark.usefixtures("transport")
def test_answers_of_the_profile_log_in_without_anybody(wd: Path, transport: str, typed: Typed) -> None:
    shown = typed()
    with Asking(wd, QUESTIONS, ["hunter2", "cccccc"]) as server:
        secrets = {"password": "hunter2", "answers": {"Yubikey": "cccccc"}, "transport": transport}
        with SSHContext(wd, str(wd), server.profile | secrets) as there:
            assert there.run(users("echo in")).out == "in\n"
    assert shown == []


@pytest.mark.usefixtures("transport")
def test_where_nobody_can_answer_nothing_is_sent_and_one_error_says_so(wd: Path, transport: str, typed: Typed) -> None:
    typed(None)
    with Asking(wd, QUESTIONS[1:], ["cccccc"]) as server:
        profile = {**server.profile, "password": "hunter2", "transport": transport}
        with pytest.raises(LoginError) as caught, SSHContext(wd, str(wd), profile) as there:
            there.run(users("true"))
        assert server.answered == []
    assert str(caught.value).count("there is no terminal to ask on") == 1
    assert '"answers": {"Yubikey for ann": "env:NAME"}' in caught.value.remedy
    assert "hunter2" not in str(caught.value)


@pytest.mark.usefixtures("transport")
def test_a_password_that_is_wrong_is_sent_once(wd: Path, transport: str, typed: Typed) -> None:
    typed()
    with Asking(wd, QUESTIONS[:1], ["right"]) as server:
        profile = {**server.profile, "password": "wrong", "transport": transport}
        with pytest.raises(LoginError), SSHContext(wd, str(wd), profile) as there:
            there.run(users("true"))
        assert server.answered == ["wrong"]


PROGRAM = """
import sys
from pathlib import Path
from pilotfish.launcher.contexts.ssh.context import SSHContext
with SSHContext(Path("."), ".", {profile!r}) as there:
    print(there.run("echo all is well").out, file=sys.stderr)
"""


@pytest.mark.usefixtures("transport")
def test_a_real_terminal_is_asked_and_shows_only_what_may_be_seen(wd: Path, transport: str) -> None:
    with Asking(wd, [("", "Token 1: ", False), ("", "Token 2: ", True)], ["hidden", "seen"]) as server:
        program = PROGRAM.format(profile={**server.profile, "transport": transport})
        pid, terminal = pty.fork()
        if pid == 0:
            os.execv(sys.executable, [sys.executable, "-c", program])
        shown = until(terminal, b"Token 1: ")
        os.write(terminal, b"hidden\n")
        shown += until(terminal, b"Token 2: ")
        os.write(terminal, b"seen\n")
        shown += until(terminal, b"all is well")
        assert os.waitpid(pid, 0)[1] == 0
        os.close(terminal)
    assert b"hidden" not in shown


def until(terminal: int, words: bytes) -> bytes:
    read = b""
    while words not in read:
        assert select.select([terminal], [], [], PATIENCE_S)[0], f"only {read!r}"
        read += os.read(terminal, 1000)
    return read
