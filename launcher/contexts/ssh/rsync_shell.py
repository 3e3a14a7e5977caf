"""What our rsync starts instead of ssh: FD HOST COMMAND...: joins its standard input and output with the socket FD.

A program of its own, of the standard library only: `python -IS rsync_shell.py`. At first it writes the words of COMMAND to the
socket, each with a NUL behind it, and one more NUL. It ends when the other side closes the socket.
"""

from __future__ import annotations

import os
import select
import socket
import sys

_BLOCK = 1 << 17


def main() -> None:
    connection = socket.socket(fileno=int(sys.argv[1]))
    connection.sendall(b"".join(os.fsencode(word) + b"\0" for word in [*sys.argv[3:], ""]))
    sources: list[int | socket.socket] = [0, connection]
    while True:
        ready, _, _ = select.select(sources, [], [])
        if connection in ready:
            data = connection.recv(_BLOCK)
            if not data:
                return
            _write(data)
        if 0 in ready:
            data = os.read(0, _BLOCK)
            if data:
                connection.sendall(data)
            else:
                sources.remove(0)


def _write(data: bytes) -> None:
    """rsync may have made the pipe one that does not wait."""
    while data:
        try:
            data = data[os.write(1, data) :]
        except BlockingIOError:
            select.select([], [1], [])


if __name__ == "__main__":
    try:
        main()
    except (BrokenPipeError, ConnectionResetError):
        sys.exit(255)
