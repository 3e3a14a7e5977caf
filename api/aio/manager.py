"""`AsyncManager`: a Manager whose requests are awaited."""

from __future__ import annotations

import asyncio
import builtins
import math
import os
import threading
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeVar

from ..errors import ConnectionError, TimeoutElapsed
from ..follow import last_counts, next_events
from ..forking import renew_in_children
from ..jobinfo import JobInfo
from ..jobs import Jobs
from ..manager import Manager
from ..plain import as_seconds
from .threads import in_thread

if TYPE_CHECKING:
    from ..runs import Run

T = TypeVar("T")

_SLICE_S = 0.5
"""How long a thread waits that nobody may be waiting for any more."""
_EVENT_PAUSE_S = 0.1


class AsyncManager:
    """A pilot that runs already, for asyncio: `async with AsyncManager() as manager`. It connects with the first request.

    May be used by the event loops of several threads, and in a child after a fork. All methods are those of Manager, awaited.

    Args:
        pilot: where it is, as the address of Manager; or a Manager, as LocalManager, which is left open at the end.
        cfg: as that of Manager.
    """

    def __init__(
        self, pilot: str | os.PathLike[str] | Manager | None = None, cfg: Mapping[str, Any] | None = None
    ) -> None:
        self._manager = pilot if isinstance(pilot, Manager) else None
        self._where = None if isinstance(pilot, Manager) else pilot
        self._is_lent = self._manager is not None
        self._cfg = cfg
        self._lock = threading.Lock()
        renew_in_children(self)

    def after_fork(self) -> None:
        self._lock = threading.Lock()

    async def __aenter__(self) -> AsyncManager:
        await in_thread(self._connected)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    def _connected(self) -> Manager:
        with self._lock:
            if self._manager is None:
                self._manager = Manager(self._where, self._cfg)
            return self._manager

    async def _ask(self, method: Callable[..., T], *args: Any, **kwargs: Any) -> T:
        return await in_thread(lambda: method(self._connected(), *args, **kwargs))

    async def send_request(self, request: Mapping[str, Any]) -> dict[str, Any]:
        return await self._ask(Manager.send_request, request)

    async def resources(self) -> dict[str, Any]:
        return await self._ask(Manager.resources)

    async def submit(self, jobs: Jobs) -> builtins.list[str]:
        return await self._ask(Manager.submit, jobs)

    async def run(self, jobs: Jobs | None = None, *, timeout: float | None = None, **attributes: Any) -> Run:
        names, run = await self._ask(Manager.submit_run, jobs, attributes)
        await self.wait4(names, timeout)
        return run

    async def list(self) -> dict[str, Any]:
        return await self._ask(Manager.list)

    async def status(self, names: str | Iterable[str]) -> dict[str, Any]:
        return await self._ask(Manager.status, names)

    async def info(self, names: str | Iterable[str], **params: Any) -> dict[str, Any]:
        return await self._ask(Manager.info, names, **params)

    async def info_parsed(self, names: str | Iterable[str], **params: Any) -> dict[str, JobInfo]:
        return await self._ask(Manager.info_parsed, names, **params)

    async def remove(self, names: str | Iterable[str]) -> None:
        await self._ask(Manager.remove, names)

    async def cancel(self, names: str | Iterable[str]) -> None:
        await self._ask(Manager.cancel, names)

    async def system_status(self) -> dict[str, Any]:
        return await self._ask(Manager.system_status)

    async def finish(self) -> None:
        await self._ask(lambda manager: manager.finish())

    async def close(self) -> None:
        """Close the connection; the pilot goes on. May be called again."""
        if self._manager is not None and not self._is_lent:
            await in_thread(self._manager.close)

    # --- waiting --------------------------------------------------------------------------------------------------------

    async def wait4(self, names: str | Iterable[str], timeout: float | None = None) -> dict[str, str]:
        wanted = [names] if isinstance(names, str) else [*names]
        return await self._wait(lambda manager, limit_s: manager.wait4(wanted, limit_s), timeout)

    async def wait4all(self, timeout_secs: float | None = None) -> None:
        await self._wait(Manager.wait4all, timeout_secs)

    async def wait4_any_job_finish(self, timeout_secs: float | None = None) -> tuple[str, str]:
        return await self._wait(Manager.wait4_any_job_finish, timeout_secs)

    async def _wait(self, wait: Callable[[Manager, float], T], timeout_s: float | None) -> T:
        """In slices, so that nothing goes on for long when the task that waits is cancelled."""
        loop = asyncio.get_running_loop()
        until = None if timeout_s is None else loop.time() + as_seconds(timeout_s, "timeout")
        while True:
            left_s = math.inf if until is None else max(0.0, until - loop.time())
            slice_s = min(left_s, _SLICE_S)
            try:
                return await self._ask(wait, slice_s)
            except TimeoutElapsed:
                if slice_s == left_s:
                    raise

    async def events(self, after: int | None = None) -> AsyncIterator[dict[str, Any]]:
        """What happens in the pilot, as `pilotfish watch --json` writes it, until the pilot has ended.

        `after`: the number of an event, 0 for all that the pilot still has; None: from now on.

        Raises ConnectionError when the pilot is lost.
        """
        if after is None:
            after = await self._ask(lambda manager: manager.client.events(0).last)
        while True:
            try:
                events, after, _ = await self._ask(next_events, after)
            except ConnectionError:
                if await self._ask(last_counts) is None:
                    raise
                return
            for event in events:
                yield event
            if not events:
                await asyncio.sleep(_EVENT_PAUSE_S)
