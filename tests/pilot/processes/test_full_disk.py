"""A full disk is told, and loses nothing that was acknowledged."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from patience import PATIENCE_S

from pilotfish.api.errors import ConnectionError
from pilotfish.api.jobs import Jobs
from pilotfish.api.local import LocalManager


@pytest.fixture
def small_disk(wd: Path) -> Iterator[Path]:
    """A file system of 2 MiB; needs root, as CI has."""
    if os.geteuid() != 0:
        pytest.skip("mounting a small file system needs root")
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(wd)], check=True)
    yield wd
    subprocess.run(["umount", str(wd)], check=True)


def test_a_full_disk_stops_new_work_and_nothing_else(small_disk: Path, wait_until: Callable[..., None]) -> None:
    with LocalManager(["--wd", str(small_disk), "--nodes", "2"], {"log_file": "/dev/null"}) as pilot:
        log = pilot.connection_file.parent / "service.log"
        pilot.submit(Jobs().add(name="held", script="while [ ! -e go ]; do sleep 0.05; done"))
        wait_until(lambda: pilot.resources()["used_cores"] == 1, "the task runs")
        ballast = small_disk / "ballast"
        with open(ballast, "wb", buffering=0) as file:
            try:
                while file.write(bytes(1024)) == 1024:
                    pass
            except OSError:
                pass
        args = ["x" * 100_000]
        with pytest.raises(ConnectionError, match="the journal cannot be written: No space left on device"):
            pilot.submit(Jobs().add(name="refused", exec="true", args=args))
        assert list(pilot.list()) == ["held"]
        ballast.unlink()
        (small_disk / "go").touch()
        assert pilot.wait4("held", PATIENCE_S) == {"held": "SUCCEED"}
        pilot.submit(Jobs().add(name="refused", exec="true"))
        assert pilot.wait4("refused", PATIENCE_S) == {"refused": "SUCCEED"}
        assert log.exists()
