"""The names of QCG-PilotJob, DPDispatcher, clusterjob and fyrd in this process: `from pilotfish import dropin`."""

from __future__ import annotations

from .launcher.compat.dropin import enable

__all__ = ["enable"]
