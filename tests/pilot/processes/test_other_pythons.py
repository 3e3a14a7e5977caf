"""Pythons that were built for older systems, as those of Miniforge and uv, lack what newer kernels could do."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from patience import PATIENCE_S
from real_pilot import Pilot

from pilotfish import Jobs, LocalManager

OLDER = """
import os, signal

for module, name in ((os, "memfd_create"), (os, "pidfd_open"), (signal, "pidfd_send_signal")):
    if hasattr(module, name):
        delattr(module, name)

spawn = os.posix_spawn

def posix_spawn(*args, setsid=False, **options):
    if setsid:
        raise NotImplementedError("posix_spawn: setsid unavailable on this platform")
    return spawn(*args, **options)

os.posix_spawn = posix_spawn
"""


@pytest.fixture
def older(wd: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """This process and all Pythons that are started lack what came with Linux 5.3 and glibc 2.26 and 2.27."""
    (wd / "older").mkdir()
    (wd / "older" / "sitecustomize.py").write_text(OLDER)
    monkeypatch.setenv("PYTHONPATH", str(wd / "older"))
    monkeypatch.delattr(os, "memfd_create", raising=False)


@pytest.mark.usefixtures("older")
def test_tasks_run_each_as_the_leader_of_a_session(wd: Path) -> None:
    program = "import os; print(os.getsid(0) == os.getpid(), hasattr(os, 'pidfd_open'))"
    with LocalManager(["--wd", wd, "--nodes", "1"], {"log_file": "/dev/null"}) as pilot:
        pilot.submit(Jobs().add(name="a", exec=sys.executable, args=["-c", program], stdout="out"))
        assert pilot.wait4("a", PATIENCE_S) == {"a": "SUCCEED"}
    assert (wd / "out").read_text() == "True False\n"


@pytest.mark.usefixtures("older")
def test_why_a_service_cannot_start_is_told(wd: Path) -> None:
    with pytest.raises(Exception, match="--nodes") as caught:
        LocalManager(["--wd", wd, "--nodes", "nonsense"], {"log_file": "/dev/null"})
    assert "nonsense" in str(caught.value)


@pytest.mark.usefixtures("older")
def test_a_killed_agent_is_missed_and_an_agent_that_outlived_its_manager_is_watched(
    wd: Path, wait_until: Callable[..., None]
) -> None:
    """The agent is killed once as a child of its manager and once as one that was adopted."""
    pilot = Pilot(wd, "--nodes", "1")
    client = pilot.client()
    client.submit(Jobs().add(name="a", script="echo x >> began; until [ -e go ]; do sleep 0.02; done"))
    client.close()

    def has_begun(times: int) -> Callable[[], bool]:
        return lambda: (wd / "began").exists() and len((wd / "began").read_text().split()) == times

    wait_until(has_begun(1), "it runs")
    pilot.agents()[0].kill()
    wait_until(has_begun(2), "it runs again")
    pilot.kill()
    pilot.resume()
    pilot.agents()[0].kill()
    wait_until(has_begun(3), "it runs once more")
    (wd / "go").touch()
    client = pilot.client()
    assert client.wait4("a", PATIENCE_S) == {"a": "SUCCEED"}
    client.close()
    assert pilot.finish() == 0
