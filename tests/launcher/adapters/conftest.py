"""A pilot that answers to Slurm's commands, for all tests of a module."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from slurm_pilot import Cluster


@pytest.fixture(scope="module")
def slurm() -> Iterator[Cluster]:
    with tempfile.TemporaryDirectory(prefix="pf-") as folder:
        cluster = Cluster(Path(folder))
        yield cluster
        assert cluster.close() == 7
