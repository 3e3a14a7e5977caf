"""Other packages' ways to an executor, each imported only when it is asked for."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .executor import Executor


def register_joblib() -> None:
    """Let joblib know the backend "pilotfish": `with joblib.parallel_config(backend="pilotfish")`. May be called again.

    Settings of the backend are `executor`, one that is there already, or those of Executor.

    Raises ImportError without joblib.
    """
    from joblib import register_parallel_backend

    from .joblib_backend import PilotfishBackend

    register_parallel_backend("pilotfish", PilotfishBackend)


def dask_scheduler(executor: Executor, *, progress: bool = False) -> Callable[..., Any]:
    """A scheduler for dask: `collection.compute(scheduler=dask_scheduler(executor))`, or by `dask.config.set(scheduler=...)`.

    Each task of dask is a call, with what `executor.options(...)` says; values stay in the pilot until they are asked for.
    `progress`: show how many have ended. When one fails its exception is raised, and the others are stopped.

    Raises ImportError without dask (2024.12 or newer).
    """
    from .dask_graph import scheduler_of

    return scheduler_of(executor, progress)
