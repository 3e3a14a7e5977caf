"""Fixtures for tests on real batch systems. Where root or a package is missing they skip; with CI=true that is a failure."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

import small_machine
from emulated import Hosts, Slurm, start_login_node
from grid_engine import PROGRAMS, GridEngine
from real import SLURM_PROGRAMS, require


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Clusters last for the session: their processes and sockets are taken along to its end, not closed by the test."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            for category in ("ResourceWarning", "pytest.PytestUnraisableExceptionWarning"):
                item.add_marker(pytest.mark.filterwarnings(f"ignore::{category}"))


@pytest.fixture(scope="session")
def virtual_machine() -> None:
    """small_machine.py can be used."""
    require(*small_machine.PROGRAMS)
    if not small_machine.KERNEL.exists():
        missing = f"no kernel in {small_machine.KERNEL}: run tests/cluster/get-kernel"
        pytest.fail(missing) if os.environ.get("CI") == "true" else pytest.skip(missing)


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


@pytest.fixture
def cluster(wd: Path) -> Iterator[Slurm]:
    """A Slurm whose `ctl` runs an sshd; the laptop's key is accepted there, its configuration names it `cluster`."""
    require("unshare", "nsenter", "ip", "sshd", "ssh-keygen", *SLURM_PROGRAMS)
    with Slurm(nodes=4, cpus=2, network=True) as slurm:
        kind, key = start_login_node(slurm, wd)
        (wd / "known_hosts").write_text(f"{slurm.hosts.ctl.address} {kind} {key}\n")
        (wd / "ssh_config").write_text(
            f"Host cluster\n HostName {slurm.hosts.ctl.address}\n User root\n IdentityFile {wd}/user\n"
            f" UserKnownHostsFile {wd}/known_hosts\n"
        )
        yield slurm
