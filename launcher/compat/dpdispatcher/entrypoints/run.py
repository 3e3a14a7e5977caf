"""`dpdisp run`."""

from __future__ import annotations

from pathlib import Path

from ..run import run_pep723


def run(*, filename: str, allow_ref: bool = False) -> None:
    """Run the tasks that a script describes, and wait for them. Raises what `run_pep723` does."""
    run_pep723(Path(filename).read_text(), allow_ref)
