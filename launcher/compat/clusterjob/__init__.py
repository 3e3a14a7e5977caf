"""clusterjob's names in one place: job scripts and results over ours. What differs: docs/coming-from/clusterjob.md."""

from __future__ import annotations

from ....pilot.version import VERSION as __version__
from .async_result import AsyncResult
from .jobscript import JobScript

__all__ = ["AsyncResult", "JobScript", "__version__"]
