"""Notices the end of a process, whether it is our child or was adopted from an earlier manager.

A pidfd tells at once, and signals sent by it never reach another process. Linux has it since 5.3; a Python that was built for
older systems, as those of Miniforge and uv are, lacks the functions for it on any kernel, and a sandbox may refuse them. Then
the process is looked at twenty times a second.
"""

from __future__ import annotations

import errno
import os
import signal
from contextlib import suppress

from ..loop import Handler, Loop, Timer

_LOOK_S = 0.05


class ProcessWatch:
    """Calls `on_end` when the process has ended, again in each turn (or look) until `forget`.

    Raises ProcessLookupError when there is no such process.
    """

    def __init__(self, loop: Loop, pid: int, on_end: Handler) -> None:
        self._loop = loop
        self._pid = pid
        self._on_end = on_end
        self._pidfd = _open(pid)
        self._next: Timer | None = None
        self._is_over = False
        if self._pidfd is None:
            self._next = loop.call_after(_LOOK_S, self._look)
        else:
            loop.on_readable(self._pidfd, on_end)

    def _look(self) -> None:
        if _has_ended(self._pid):
            self._on_end()
        if not self._is_over:
            self._next = self._loop.call_after(_LOOK_S, self._look)

    def kill(self) -> None:
        """SIGKILL, if it has not ended."""
        if self._is_over:
            return
        with suppress(ProcessLookupError):
            if self._pidfd is None:
                os.kill(self._pid, signal.SIGKILL)
            else:
                signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)

    def forget(self) -> None:
        """Its end has been taken note of."""
        self._is_over = True
        if self._next is not None:
            self._next.cancel()
        if self._pidfd is not None:
            self._loop.forget(self._pidfd)
            os.close(self._pidfd)


def _open(pid: int) -> int | None:
    try:
        return os.pidfd_open(pid)
    except (AttributeError, PermissionError):
        pass
    except OSError as error:
        if error.errno != errno.ENOSYS:
            raise
    os.kill(pid, 0)
    return None


def _has_ended(pid: int) -> bool:
    """Of a child that it is a zombie; of an adopted process, which others reap, that it is gone."""
    with suppress(ChildProcessError):
        return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False
