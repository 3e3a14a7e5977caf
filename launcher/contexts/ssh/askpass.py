"""What ssh starts when it has a question: hands it to the Pilotfish that started ssh, and prints the answer.

A program of its own, of the standard library only: `python -IS askpass.py QUESTION`. The answer begins with a `+`; without one
there is none, and ssh goes on as if somebody had closed the window.
"""

from __future__ import annotations

import os
import signal
import socket
import sys


def main() -> int:
    kind = os.environ.get("SSH_ASKPASS_PROMPT", "")
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(os.environ["PILOTFISH_ASKPASS"])
        connection.sendall(kind.encode() + b"\0" + os.fsencode(" ".join(sys.argv[1:])))
        connection.shutdown(socket.SHUT_WR)
        reply = b"".join(iter(lambda: connection.recv(4096), b""))
    if not reply.startswith(b"+"):
        return 1
    if kind == "none":
        signal.pause()  # a notice, to be shown until ssh ends us: the key was touched
    sys.stdout.buffer.write(reply[1:] + b"\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
