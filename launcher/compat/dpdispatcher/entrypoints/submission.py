"""`dpdisp submission`; `pilotfish submissions` does the same and more."""

from __future__ import annotations

from ....submission import store
from ....submission.placement import Placement


def handle_submission(
    *,
    submission_hash: str,
    download_terminated_log: bool = False,
    download_finished_task: bool = False,
    clean: bool = False,
    reset_fail_count: bool = False,
) -> None:
    """Work on a submission that an earlier program has begun.

    Args:
        download_terminated_log, download_finished_task: bring home what there is, logs of failed tasks too.
        clean: remove its folder on the machine, and its record here.
        reset_fail_count: place jobs again that have failed for good, and wait for them.

    Raises ValueError when nothing is asked for, UnknownSubmissionError.
    """
    if not (download_terminated_log or download_finished_task or clean or reset_fail_count):
        raise ValueError("At least one action should be specified.")
    placement = Placement.of(store.find(submission_hash))
    if reset_fail_count:
        placement.run(retry_failed=True, only_watch=True, clean=False)
    with placement.opened() as opened:
        opened.runner.look()
        if download_terminated_log or download_finished_task:
            opened.runner.fetching.now({job.hash: job.tasks for job in opened.progress.jobs.values()}, marks=False)
        if clean:
            opened.runner.clean()
            opened.forget()
