"""How long tests wait for what must happen, and how much they try.

They wait long, because a wait that is over costs nothing and machines may be busy. They try little in `make test`, which
people wait for, and a lot in `.ci/run`, which sets CI=true.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Callable
from typing import Any, NoReturn

import pytest

THOROUGH = os.environ.get("CI") == "true"
"""Whether this is `.ci/run`. What shows more the longer it runs (kills at random moments) then runs longer."""

only_when_thorough = pytest.mark.skipif(not THOROUGH, reason="takes long; .ci/run and CI=true make test run it")
"""For tests that take many seconds by nature, such as links that are cut again and again."""

PATIENCE_S = 200.0
PATIENCE_MS = int(1000 * PATIENCE_S)


def give_up(reason: str) -> NoReturn:
    """What a test needs is missing here: it is skipped, in `.ci/run` it fails."""
    if THOROUGH:
        pytest.fail(reason)
    pytest.skip(reason)


def need(*programs: str) -> None:
    """Give up unless all these are installed."""
    if absent := [name for name in programs if shutil.which(name) is None]:
        give_up(f"not installed: {', '.join(absent)}")


def wait_until(
    condition: Callable[[], object],
    what: str | Callable[[], str],
    timeout_s: float = PATIENCE_S,
    of: subprocess.Popen[Any] | None = None,
) -> None:
    """Return when `condition()` is true; fail with `what` when it stays false, at once when the process `of` has ended."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        ended = of is not None and of.poll() is not None
        if ended and condition():
            return
        if ended or time.monotonic() > deadline:
            why = (
                f"the process has ended with {of.returncode}" if of is not None and ended else f"not in {timeout_s:g} s"
            )
            raise AssertionError(f"{why}: {what if isinstance(what, str) else what()}")
        time.sleep(0.005)
