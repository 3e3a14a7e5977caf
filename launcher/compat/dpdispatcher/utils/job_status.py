"""States of jobs, with DPDispatcher's numbers."""

from __future__ import annotations

from ....description.job_state import JobState as JobStatus

__all__ = ["JobStatus"]
