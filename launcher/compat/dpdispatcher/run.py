"""Python scripts that say in their first comment where they run (PEP 723); `pilotfish script` does the same."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ...description import pep723
from ...submission.submission import Submission
from .arginfo import submission_args


def read_pep723(script: str) -> dict[str, Any] | None:
    """All that a script's comment block says; None without one. Raises DescriptionError."""
    return pep723.metadata(script, "script")


def pep723_args() -> Any:
    """The keys of such a table, as a tree of dargs."""
    return submission_args()


def create_submission(metadata: Mapping[str, Any], script_hash: str, allow_ref: bool = False) -> Submission:
    """The submission that such a table describes, for a script that lies in its folder as `script_<hash>.py`.

    Raises DescriptionError.
    """
    found = pep723.described(metadata, script_hash, Path("script.py"), allow_ref=allow_ref).submission
    return Submission.deserialize({**found, "belonging_tasks": found.pop("task_list")})


def run_pep723(script: str, allow_ref: bool = False) -> None:
    """Run the tasks of a script, given as text, and wait for them. Raises DescriptionError, SubmissionFailedError."""
    name = hashlib.sha1(script.encode(), usedforsecurity=False).hexdigest()
    path = Path(f"script_{name}.py")
    path.write_text(script)
    found = pep723.read_script(path, allow_ref=allow_ref).submission
    Submission.deserialize({**found, "belonging_tasks": found.pop("task_list")}).run_submission()
