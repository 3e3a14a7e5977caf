"""Fixtures for tests on real batch systems. Where root or a package is missing they skip; with CI=true that is a failure."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from emulated import Hosts, Slurm
from grid_engine import PROGRAMS, GridEngine

SLURM_PROGRAMS = ("slurmctld", "slurmd", "sbatch", "srun", "munged")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Batch systems try things again after minutes; a test that does not end is still ended."""
    for item in items:
        if Path(__file__).parent in item.path.parents and item.get_closest_marker("timeout") is None:
            item.add_marker(pytest.mark.timeout(420))


def require(*programs: str) -> None:
    """Skip (in CI: fail) unless we are root and all of these programs are there."""
    missing = [name for name in programs if shutil.which(name) is None]
    reason = f"not installed: {', '.join(missing)}" if missing else "" if os.geteuid() == 0 else "needs root"
    if reason and os.environ.get("CI") == "true":
        pytest.fail(reason)
    if reason:
        pytest.skip(reason)


@pytest.fixture(scope="session")
def slurm() -> Iterator[Slurm]:
    """A real Slurm of 4 nodes with 2 cores each, on loopback; shared by all tests, so leave it as it was."""
    require("unshare", "nsenter", *SLURM_PROGRAMS)
    with Slurm(nodes=4, cpus=2) as cluster:
        yield cluster


@pytest.fixture
def networked_slurm() -> Iterator[Slurm]:
    """A real Slurm of 3 nodes with 2 cores, each with a network of its own: `hosts.cut(NAME)` pulls a cable."""
    require("unshare", "nsenter", "ip", *SLURM_PROGRAMS)
    with Slurm(nodes=3, cpus=2, network=True) as cluster:
        yield cluster


@pytest.fixture(scope="session")
def sge() -> Iterator[GridEngine]:
    """A real Grid Engine of 3 nodes with 2 slots each; shared by all tests, so leave it as it was."""
    require("unshare", "nsenter", "ip", str(PROGRAMS / "sge_qmaster"))
    with GridEngine(nodes=3, slots=2) as cluster:
        yield cluster


@pytest.fixture
def hosts(wd: Path) -> Iterator[Hosts]:
    """Three hosts `node1` to `node3` and `ctl` with networks of their own, without a batch system."""
    require("unshare", "nsenter", "ip")
    made = Hosts(["node1", "node2", "node3"], wd, network=True)
    yield made
    made.close()
