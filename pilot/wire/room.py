"""Whether there is room for sockets. libzmq does not ask: it aborts the process when it gets no descriptor or no thread."""

from __future__ import annotations

import errno
import os
import threading

_THREADS = 3
"""Of one context: one for input and output, one that reaps sockets; and room for one more, for what is loaded after this."""


def check_room_for_sockets(descriptors: int, own_threads: int = 0) -> None:
    """Whether so many more descriptors, the threads of a context, and some of our own can be had now.

    Raises OSError: EMFILE, EAGAIN.
    """
    held = []
    try:
        for _ in range(descriptors):
            held.append(os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC))
    except OSError as error:
        error.filename = None  # which file it was says nothing
        raise
    finally:
        for descriptor in held:
            os.close(descriptor)
    enough = threading.Event()
    threads = [threading.Thread(target=enough.wait, daemon=True) for _ in range(_THREADS + own_threads)]
    try:
        for thread in threads:
            thread.start()
    except RuntimeError as error:
        raise OSError(errno.EAGAIN, os.strerror(errno.EAGAIN)) from error
    finally:
        enough.set()
        for thread in threads:
            if thread.ident is not None:
                thread.join()
