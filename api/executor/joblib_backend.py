"""joblib's backend "pilotfish". Imported by who registers it (`register_joblib`), as it needs joblib.

A batch of joblib is one call; how many calls are in a batch joblib finds out by
their duration, as with its own backends.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

from joblib import parallel
from joblib._parallel_backends import AutoBatchingMixin, ParallelBackendBase

from .executor import Executor
from .future import Future


class PilotfishBackend(AutoBatchingMixin, ParallelBackendBase):  # type: ignore[misc]
    """What `parallel_config(backend="pilotfish", ...)` makes.

    It keeps its executor from one `Parallel` to the next; that ends when nobody has the backend any more.

    Args:
        executor: use this one, and leave it open; `executor.options(...)` says what each call asks for.
        settings: those of Executor, for one of its own.
    """

    supports_retrieve_callback = True
    supports_inner_max_num_threads = True
    default_n_jobs = -1

    def __init__(
        self,
        executor: Executor | None = None,
        nesting_level: int | None = None,
        inner_max_num_threads: int | None = None,
        **settings: Any,
    ) -> None:
        super().__init__(nesting_level=nesting_level, inner_max_num_threads=inner_max_num_threads)
        self._executor = Executor(**settings) if executor is None else executor
        self._futures: weakref.WeakSet[Future[Any]] = weakref.WeakSet()

    def effective_n_jobs(self, n_jobs: int | None) -> int:
        """Of the cores of the pilot; -1 is all of them."""
        if n_jobs == 0:
            raise ValueError("n_jobs == 0 in Parallel has no meaning")
        if n_jobs is None:
            return 1
        if n_jobs > 0:
            return n_jobs
        cores: int = self._executor.pilot.resources()["total_cores"]
        return max(1, cores + 1 + n_jobs)

    def configure(self, n_jobs: int = 1, parallel: Any = None, **others: Any) -> int:
        count: int = super().configure(n_jobs, parallel)
        self.reset_batch_stats()
        return count

    def submit(self, func: Any, callback: Callable[[Any], object] | None = None) -> Future[Any]:
        executor = self._executor
        if self.inner_max_num_threads is not None:
            executor = executor.options(env=dict.fromkeys(self.MAX_NUM_THREADS_VARS, str(self.inner_max_num_threads)))
        future: Future[Any] = executor.submit(parallel.BatchedCalls.__call__, func)
        self._futures.add(future)
        if callback is not None:
            future.add_done_callback(callback)
        return future

    def retrieve_result_callback(self, out: Future[Any]) -> Any:
        return out.result()

    def abort_everything(self, ensure_ready: bool = True) -> None:
        """A call has failed, or the program was interrupted: nobody wants the others."""
        for future in list(self._futures):
            self._executor.interrupt(future)
