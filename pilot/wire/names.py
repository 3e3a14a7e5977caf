"""Whether a host's name can be looked up: many machines, fresh ones above all, do not know even their own."""

from __future__ import annotations

import queue
import socket
import threading

_PATIENCE_S = 5.0
"""A name server that is out of reach may take half a minute to be given up."""


def why_unknown(name: str) -> str:
    """Why a host name (or number) cannot be looked up here; `""` when it can. A name server that is silent counts as a no."""
    answer: queue.SimpleQueue[str] = queue.SimpleQueue()

    def look_up() -> None:
        try:
            socket.getaddrinfo(name, None, socket.AF_INET)
        except (OSError, UnicodeError) as error:
            answer.put(getattr(error, "strerror", None) or str(error))
        else:
            answer.put("")

    threading.Thread(target=look_up, name=f"look up {name}", daemon=True).start()
    try:
        return answer.get(timeout=_PATIENCE_S)
    except queue.Empty:
        return f"no name server answers within {_PATIENCE_S:g} s"
