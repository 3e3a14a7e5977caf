"""Asks the kernel to let the agent run soon after it wakes, although its own tasks keep every core busy.

With as many tasks as cores the agent always shares a core with one of them. When it has to wait for that task's time slice,
the cores it should refill stand idle: 15 % of the no-op throughput in about half of all starts (docs/performance.md). A
process that asks for short slices may interrupt one with longer ones; it gets no more CPU time for it, and needs no
privilege. Linux 6.12 and newer; older kernels take the request and do nothing. Tasks start with the default again.
"""

from __future__ import annotations

import ctypes
import os
import platform
import struct

_SLICE_NS = 200_000
_RESET_ON_FORK = 1
_SYSCALLS = {"x86_64": 314, "aarch64": 274, "riscv64": 274, "ppc64le": 355, "s390x": 345}
"""Number of sched_setattr, for which the C library had no function before glibc 2.41."""
_ATTRIBUTES = struct.Struct("IIQiIQQQII")
"""struct sched_attr, see sched_setattr(2); `sched_runtime` is the slice that an ordinary process asks for."""


def ask_for_short_slices() -> bool:
    """For the calling thread; False when this system does not know how. Never fails: it is a wish."""
    number = _SYSCALLS.get(platform.machine())
    nice = os.getpriority(os.PRIO_PROCESS, 0)
    # Tasks would lose a raised priority or another policy with the reset, so an agent that was given one keeps it as it is.
    if number is None or nice < 0 or os.sched_getscheduler(0) != os.SCHED_OTHER:
        return False
    request = _ATTRIBUTES.pack(_ATTRIBUTES.size, os.SCHED_OTHER, _RESET_ON_FORK, nice, 0, _SLICE_NS, 0, 0, 0, 0)
    return bool(ctypes.CDLL(None).syscall(number, 0, request, 0) == 0)
