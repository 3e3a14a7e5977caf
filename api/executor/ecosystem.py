"""Other packages' ways to an executor, each imported only when it is asked for."""

from __future__ import annotations


def register_joblib() -> None:
    """Let joblib know the backend "pilotfish": `with joblib.parallel_config(backend="pilotfish")`. May be called again.

    Settings of the backend are `executor`, one that is there already, or those of Executor.

    Raises ImportError without joblib.
    """
    from joblib import register_parallel_backend

    from .joblib_backend import PilotfishBackend

    register_parallel_backend("pilotfish", PilotfishBackend)
