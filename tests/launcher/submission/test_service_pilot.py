"""A pilot without tasks: it serves clients in the folder of its submission until one of them says `finish`."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from patience import PATIENCE_S, wait_until

from pilotfish.api.jobs import Jobs
from pilotfish.launcher.description.schema import InconsistentError
from pilotfish.launcher.submission.batch_job import Phase
from pilotfish.launcher.submission.placement import Placement
from pilotfish.launcher.submission.runner import SubmissionFailedError
from pilotfish.launcher.submission.tunnel import remote_manager
from pilotfish.pilot.model.errors import LostError

Make = Callable[..., Placement]
PILOT = {"service": True, "options": ["--nodes", "2"]}


def test_it_serves_until_it_is_told_to_finish(submission: Make, wd: Path) -> None:
    placed = submission(pilot=PILOT)
    placed.run(detach=True)
    with placed.opened() as opened:
        wait_until(lambda: _has_begun(placed), "the pilot")
        with remote_manager(placed) as pilot:
            assert pilot.resources()["total_cores"] == 2
            pilot.submit(Jobs().add(name="a", exec="/bin/true"))
            assert pilot.wait4(["a"], timeout=PATIENCE_S) == {"a": "SUCCEED"}
            pilot.client.finish()
        opened.runner.run(check_interval_s=0.5)
        assert [job.phase for job in opened.progress.jobs.values()] == [Phase.DONE]


def test_its_next_allocation_goes_on_from_its_journal(submission: Make, wd: Path) -> None:
    """One that was killed has failed; placed again it knows what was submitted to it."""
    placed = submission(pilot=PILOT)
    placed.run(detach=True)
    wait_until(lambda: _has_begun(placed), "the pilot")
    with remote_manager(placed) as pilot:
        pilot.submit(Jobs().add(name="a", exec="/bin/true"))
        pilot.wait4(["a"], timeout=PATIENCE_S)
    (job,) = placed.peek().jobs.values()
    os.killpg(int(job.id.partition(":")[0]), signal.SIGKILL)
    with pytest.raises(SubmissionFailedError):
        placed.run(check_interval_s=0.5)
    placed.run(retry_failed=True, detach=True)
    wait_until(lambda: _has_begun(placed), "the next pilot")
    with remote_manager(placed) as pilot:
        assert pilot.status(["a"])["jobs"]["a"]["data"]["status"] == "SUCCEED"
        pilot.client.finish()
    assert placed.run(check_interval_s=0.5).over
    assert not list((wd / "there").iterdir())


def test_it_has_no_tasks_of_its_own(submission: Make) -> None:
    with pytest.raises(InconsistentError, match="task_list"):
        submission({"command": "true", "task_work_path": "a"}, pilot=PILOT)


def _has_begun(placed: Placement) -> bool:
    try:
        with remote_manager(placed, connect_timeout_s=1.0):
            return True
    except LostError:
        return False
