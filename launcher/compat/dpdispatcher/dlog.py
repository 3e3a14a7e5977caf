"""DPDispatcher's logger, for programs that write to it, or set levels and handlers on it.

No file is written, and no handler is set up: `logging.basicConfig(level=logging.INFO)` shows what is said there, and what we
say of submissions (`pilotfish.launcher.submission.submission`).
"""

from __future__ import annotations

import logging

__all__ = ["dlog"]

dlog = logging.getLogger("dpdispatcher")
