"""Submissions in folders of their own, and a real sshd."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from liar import Liar
from sshd import SSHD, Sshd

from pilotfish.launcher.description.submission import parse_submission
from pilotfish.launcher.submission.placement import Placement


@pytest.fixture(autouse=True)
def own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Records of tests do not get among those of the user."""
    monkeypatch.setenv("PILOTFISH_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))


def needs_sshd() -> None:
    if not Path(SSHD).exists() or shutil.which("ssh-keygen") is None or os.geteuid():
        reason = "needs sshd, ssh-keygen and root"
        (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)(reason)


@pytest.fixture(params=["paramiko", "openssh"])
def transport(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Runs a test once with each way to speak SSH."""
    if request.param == "openssh" and shutil.which("ssh") is None:
        (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)("needs ssh")
    monkeypatch.setattr(Sshd, "transport", request.param)
    return str(request.param)


@pytest.fixture
def sshd(wd: Path) -> Iterator[Sshd]:
    """An sshd that takes this user's key. Skips (in CI: fails) where there is none or we are not root."""
    needs_sshd()
    with Sshd(wd / "sshd") as server:
        yield server


@pytest.fixture(scope="session")
def liar(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Liar]:
    """A machine that says what a test wants it to say."""
    needs_sshd()
    with Liar(tmp_path_factory.mktemp("liar")) as server:
        yield server


@pytest.fixture
def submission(wd: Path) -> Callable[..., Placement]:
    """`submission(task, ..., key=value)`: a Placement on this machine; each call is a new launcher.

    `tools` are what a Placement takes besides its description.
    """

    def make(*tasks: dict[str, Any], tools: Mapping[str, Any] = MappingProxyType({}), **given: Any) -> Placement:
        machine = {
            "batch_type": "Shell",
            "context_type": "Local",
            "local_root": str(wd / "here"),
            "remote_root": str(wd / "there"),
            "retry_count": 0,
        }
        found = {
            "work_base": "w",
            "machine": machine | given.pop("machine", {}),
            "resources": {"group_size": 1} | given.pop("resources", {}),
            "task_list": list(tasks),
            **given,
        }
        (wd / "here/w").mkdir(parents=True, exist_ok=True)
        return Placement(parse_submission(found), **tools)

    return make


@pytest.fixture
def user() -> str:
    """A test user with the password `secret`."""
    name = "pilotfish-test"
    if subprocess.run(["id", name], capture_output=True, check=False).returncode:
        subprocess.run(["useradd", "-m", "-s", "/bin/sh", name], check=True)
    hashed = subprocess.run(
        ["openssl", "passwd", "-6", "secret"], capture_output=True, text=True, check=True
    ).stdout.strip()
    subprocess.run(["usermod", "-p", hashed, name], check=True)
    return name
