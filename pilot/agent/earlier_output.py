"""What an earlier attempt of a task has printed stays beside the output of the next: `NAME.1` beside `NAME`.

The name without a number is always that of the latest attempt, so whoever reads output need not know how often a task was
started. Only plain files are renamed: a pipe, a device or a link to one is a place to write to, not something written. A
file `NAME.1` that is there already, be it a user's own, is never replaced: the next name that is free is taken, `NAME.1-2`.

Rejected: appending (programs that read the output would find two of them), and numbers for all attempts (nearly all tasks
have one).
"""

from __future__ import annotations

import errno
import os
import stat
from contextlib import suppress
from itertools import count

from ..execmodels.base import LaunchError
from ..model.job_spec import Execution

_NO_LINKS = frozenset({errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK, errno.EXDEV})
"""How file systems say that they have no hard links."""


def keep(execution: Execution, attempt: int) -> None:
    """Rename the output files of that attempt, in the current folder. Raises LaunchError when one would be lost."""
    for path in dict.fromkeys((execution.stdout, execution.stderr)):
        if path is not None and _is_plain(path):
            try:
                _rename(path, f"{path}.{attempt}")
            except OSError as error:
                what = f"cannot keep '{path}' of attempt {attempt} as '{path}.{attempt}': {error.strerror}"
                raise LaunchError(what) from error


def _is_plain(path: str) -> bool:
    with suppress(OSError):
        return stat.S_ISREG(os.lstat(path).st_mode)
    return False


def _rename(path: str, new: str) -> None:
    """To `new` or the next free name after it."""
    free = new
    for number in count(2):
        try:
            _rename_without_replacing(path, free)
        except FileExistsError:
            free = f"{new}-{number}"
        except FileNotFoundError:  # another task that prints to the same file was faster
            return
        else:
            return


def _rename_without_replacing(path: str, new: str) -> None:
    """rename(2) would replace; a second link does not, whoever else makes one at the same time."""
    try:
        os.link(path, new, follow_symlinks=False)
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        if os.path.lexists(new):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), new) from error
        os.rename(path, new)
    else:
        os.unlink(path)
