"""What the tests here need of the machine."""

from __future__ import annotations

import os
import shutil

import pytest

SLURM_PROGRAMS = ("slurmctld", "slurmd", "sbatch", "srun", "munged")


def require(*programs: str) -> None:
    """Skip (in CI: fail) unless we are root and all of these programs are there."""
    missing = [name for name in programs if shutil.which(name) is None]
    reason = f"not installed: {', '.join(missing)}" if missing else "" if os.geteuid() == 0 else "needs root"
    if reason and os.environ.get("CI") == "true":
        pytest.fail(reason)
    if reason:
        pytest.skip(reason)
