"""`dpdisp submit`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ....description.submission import load_submission
from ....submission.machine import Machine
from ....submission.submission import Submission
from ..arginfo import submission_args as submission_args


def load_submission_from_json(json_path: str, allow_ref: bool = False) -> Submission:
    """The submission that a file describes; `allow_ref`: `$ref` may name other files. Raises DescriptionError."""
    found = load_submission(Path(json_path), allow_ref=allow_ref)
    description = found.machine
    machine = Machine(
        description.batch_type,
        description.context_type,
        description.local_root,
        description.remote_root,
        description.profile,
        description.retry_count,
    )
    return Submission(
        found.work_base,
        machine,
        found.resources,
        found.forward_common_files,
        found.backward_common_files,
        task_list=found.tasks,
        previous_submission_hash=found.previous_submission_hash,
        continue_on_failure=found.continue_on_failure,
        pilot=found.pilot,
    )


def submit(
    *,
    filename: str,
    dry_run: bool = False,
    exit_on_submit: bool = False,
    allow_ref: bool = False,
    continue_on_failure: bool | None = None,
    clean: bool | str = True,
) -> dict[str, Any]:
    """Run the submission that a file describes; what `run_submission` gives. Raises what that does."""
    return load_submission_from_json(filename, allow_ref).run_submission(
        dry_run=dry_run, exit_on_submit=exit_on_submit, clean=clean, continue_on_failure=continue_on_failure
    )
