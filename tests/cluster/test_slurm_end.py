"""The batch script of the documentation that submits itself again, on a real Slurm."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from emulated import Slurm
from patience import wait_until

EXAMPLE = Path(__file__).parents[2] / "docs" / "examples" / "resubmit.sh"
SHORT_END = "--export=ALL,PILOTFISH_KILL_GRACE=1,PILOTFISH_END_MARGIN=20"


@pytest.fixture
def emptied(slurm: Slurm) -> Iterator[Slurm]:
    """A job that goes wrong submits another one: none of them is left to other tests."""
    yield slurm
    slurm.run("scancel", "--user=root", "--state=PENDING")
    slurm.run("scancel", "--user=root")
    slurm.wait_until_empty()


def test_a_script_that_submits_itself_again_gets_through_in_two_jobs(emptied: Slurm, wd: Path) -> None:
    """The first job is warned while a task runs that holds out; Slurm starts the second one by itself.

    Its limit is far away: on a busy machine the pilot may take longer to start than a short one leaves for tasks. Then the
    second job would be the first to run the task, and nobody would tell it to go.
    """
    shutil.copy(EXAMPLE, wd / "resubmit.sh")
    (wd / "tasks.txt").write_text(
        "echo 1 >> ran-1\n"
        "[ -e go ] || { trap '' TERM; touch runs; while [ ! -e never ]; do sleep 0.1; done; }; echo 2 >> ran-2\n"
        "echo 3 >> ran-3\n"
    )
    options = [f"--chdir={wd}", "--ntasks=1", "--time=30", SHORT_END]
    job = emptied.run("sbatch", "--parsable", *options, str(wd / "resubmit.sh")).strip()
    wait_until((wd / "runs").exists, "the second task runs")
    (wd / "go").touch()
    emptied.run("scancel", "--signal=USR1", "--batch", job)
    assert emptied.wait_for_end(job) == "FAILED"
    # Slurm looks at what waits for other jobs once a minute, and may just have done so.
    wait_until((wd / "ran-3").exists, "the second job has done the rest")
    emptied.wait_until_empty()
    assert [(wd / name).read_text() for name in ("ran-1", "ran-2", "ran-3")] == ["1\n", "2\n", "3\n"]
