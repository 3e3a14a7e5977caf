"""Where secrets come from."""

from __future__ import annotations

from pathlib import Path

import pytest

from pilotfish.launcher.secrets import SecretError, resolve


def test_a_secret_of_the_environment_of_a_file_or_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("from file\nsecond line\n")
    assert resolve("env:PW", "password", {"PW": "from env"}) == "from env"
    assert resolve(f"file:{tmp_path}/key", "password") == "from file"
    assert resolve("plain: text", "password") == "plain: text"


@pytest.mark.parametrize("reference", ["env:NOT_SET", "file:/nonexistent", "keyring:no-slash"])
def test_a_missing_secret_is_an_error_that_names_the_reference(reference: str) -> None:
    with pytest.raises(SecretError, match="password"):
        resolve(reference, "remote_profile.password", {})
