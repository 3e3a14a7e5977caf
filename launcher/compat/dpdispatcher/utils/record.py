"""Submissions of this user, by their hashes. `pilotfish submissions` shows them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ....submission import store


class Record:
    """What is kept of submissions here."""

    def get_submissions(self) -> list[str]:
        """Their hashes."""
        return sorted(store.names())

    def write(self, submission: Any) -> Path:
        """The folder of its record, which every submission writes by itself as it is placed."""
        return self.get_submission(submission.submission_hash, not_exist_ok=True)

    def get_submission(self, hash: str, not_exist_ok: bool = False) -> Path:
        """The file that describes it. Raises FileNotFoundError."""
        path = store.home() / hash / "submission.json"
        if not not_exist_ok and not path.exists():
            raise FileNotFoundError(f"there is no submission {hash}: {path}")
        return path

    def remove(self, hash: str) -> None:
        """Forget it here; what is on its machine stays."""
        if hash in store.names():
            store.forget(store.load(hash))


record = Record()
