"""Where secrets come from."""

from __future__ import annotations

import os
import pty
import select
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from patience import PATIENCE_S

from pilotfish.launcher.description.secrets import SecretError, is_reference, resolve


def test_a_secret_of_the_environment_of_a_file_or_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("from file\nsecond line\n")
    assert resolve("env:PW", "password", {"PW": "from env"}) == "from env"
    assert resolve(f"file:{tmp_path}/key", "password") == "from file"
    assert resolve("plain: text", "password") == "plain: text"


@pytest.mark.parametrize("value", ["env:PW", "file:~/.pw", "keyring:hpc/ann", "ask:", "ask:Your password"])
def test_what_says_where_a_secret_is(value: str) -> None:
    assert is_reference(value)


@pytest.mark.parametrize("value", ["", "env", "pa:ss", "ENV:PW", ":", None, 5])
def test_what_is_a_secret_itself(value: object) -> None:
    assert not is_reference(value)


def test_a_file_that_is_no_text_is_named_and_its_content_is_not(tmp_path: Path) -> None:
    (tmp_path / "key").write_bytes(b"12345678\xff")
    with pytest.raises(SecretError) as caught:
        resolve(f"file:{tmp_path}/key", "password")
    assert str(caught.value) == f"password: {str(tmp_path / 'key')!r} is not a text file"
    assert caught.value.__cause__ is None


ASK = """
from pilotfish.launcher.description.secrets import SecretError, resolve
try:
    print(len(resolve("ask:Password of ann", "remote_profile.password")), "letters")
except SecretError as error:
    print(error)
"""


def test_a_secret_is_asked_on_the_terminal_and_not_shown() -> None:
    terminal, theirs = pty.openpty()
    with subprocess.Popen(
        [sys.executable, "-c", ASK], stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True
    ) as asking:
        os.close(theirs)
        told = _until(terminal, b"Password of ann: ")
        os.write(terminal, b"hunter2\n")
        told += _until(terminal, b"letters")
        assert asking.wait(PATIENCE_S) == 0
    os.close(terminal)
    assert b"7 letters" in told
    assert b"hunter2" not in told


def _until(terminal: int, words: bytes) -> bytes:
    told = b""
    while words not in told:
        assert select.select([terminal], [], [], 30)[0], f"only {told!r}"
        told += os.read(terminal, 1000)
    return told


def test_without_a_terminal_there_is_nobody_to_ask() -> None:
    command = [sys.executable, "-c", ASK]
    done = subprocess.run(
        command, stdin=subprocess.DEVNULL, capture_output=True, text=True, start_new_session=True, check=True
    )
    assert "remote_profile.password: there is no terminal to ask on; use env:NAME" in done.stdout


@pytest.fixture
def keyring_of_its_own() -> Iterator[Any]:
    """The package keyring, with a keyring in memory."""
    keyring: Any = pytest.importorskip("keyring")
    held: dict[tuple[str, str], str] = {}

    class Backend(keyring.backend.KeyringBackend):  # type: ignore[misc]
        priority = 1

        def get_password(self, service: str, username: str) -> str | None:
            if service == "locked":
                raise keyring.errors.KeyringLocked("it is locked")
            return held.get((service, username))

        def set_password(self, service: str, username: str, password: str) -> None:
            held[service, username] = password

    before = keyring.get_keyring()
    keyring.set_keyring(Backend())
    yield keyring
    keyring.set_keyring(before)


def test_a_secret_of_the_keyring(keyring_of_its_own: Any) -> None:
    keyring_of_its_own.set_password("hpc", "ann", "from keyring")
    assert resolve("keyring:hpc/ann", "password") == "from keyring"
    with pytest.raises(SecretError, match="nothing found at 'keyring:hpc/bob'"):
        resolve("keyring:hpc/bob", "password")
    with pytest.raises(SecretError, match="the keyring does not answer: it is locked"):
        resolve("keyring:locked/ann", "password")


@pytest.mark.parametrize("reference", ["env:NOT_SET", "file:/nonexistent", "file:~nobody-here/x", "keyring:no-slash"])
def test_a_missing_secret_is_an_error_that_names_the_reference(reference: str) -> None:
    with pytest.raises(SecretError, match="password"):
        resolve(reference, "remote_profile.password", {})
