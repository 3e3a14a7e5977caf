"""`sbatch`, `squeue` and the others, as programs: ask the controller, print its answer.

A program of the standard library alone, started as `python -I -S client.py NAME WORDS`. Inside a job `srun` needs no controller
and becomes job_step.py.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import struct
import sys
from typing import Any

SOCKET = "PILOTFISH_SLURM_SOCKET"
JOB = "PILOTFISH_SLURM_JOB"
PYTHON = "PILOTFISH_SLURM_PYTHON"
"""For srun: the program that has Pilotfish, as words in JSON."""
_WITH_ENVIRONMENT = ("sbatch", "srun")
_LENGTH = struct.Struct(">Q")
UNREACHABLE = "Unable to contact slurm controller (connect failure)"


def send(connection: socket.socket, message: Any) -> None:
    data = json.dumps(message).encode()
    connection.sendall(_LENGTH.pack(len(data)) + data)


def receive(connection: socket.socket) -> Any:
    """None when the other side has closed."""
    head = _exactly(connection, _LENGTH.size)
    if head is None:
        return None
    body = _exactly(connection, _LENGTH.unpack(head)[0])
    return None if body is None else json.loads(body)


def _exactly(connection: socket.socket, size: int) -> bytes | None:
    parts = b""
    while len(parts) < size:
        part = connection.recv(min(1 << 20, size - len(parts)))
        if not part:
            return None
        parts += part
    return parts


def _write(descriptor: int, text: str) -> None:
    data = text.encode(errors="surrogateescape")
    while data:
        data = data[os.write(descriptor, data) :]


def _lost(name: str) -> int:
    _write(2, f"{name}: error: {UNREACHABLE}\n")
    return 1


def ask(name: str, words: list[str]) -> int:
    path = os.environ.get(SOCKET, "")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        try:
            connection.connect(path)
        except OSError:
            return _lost(name)
        request: dict[str, Any] = {"command": name, "words": words, "cwd": os.getcwd(), "pid": os.getpid()}
        wanted = dict(os.environ)
        request["environ"] = (
            wanted
            if name in _WITH_ENVIRONMENT
            else {n: v for n, v in wanted.items() if n.startswith(("S", "PILOTFISH_"))}
        )
        send(connection, request)
        code = 0
        while True:
            try:
                reply = receive(connection)
            except KeyboardInterrupt:
                return 130
            if reply is None:
                return _lost(name)
            if "need" in reply:
                with os.fdopen(0, "rb", closefd=False) as stdin:
                    send(connection, {"stdin": stdin.read().decode(errors="surrogateescape")})
                continue
            _write(1, reply.get("out", ""))
            _write(2, reply.get("err", ""))
            code = reply.get("code", code)
            if not reply.get("more"):
                return int(code)


def fill_closed_streams() -> None:
    """What is opened next must not take the place of a stream that the caller has closed (`2>&-`)."""
    for descriptor in (0, 1, 2):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)


def main() -> int:
    fill_closed_streams()
    name, words = sys.argv[1], sys.argv[2:]
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    if name == "srun" and JOB in os.environ:
        program = json.loads(os.environ[PYTHON])
        os.execv(program[0], [*program, *words])
    return ask(name, words)


if __name__ == "__main__":
    sys.exit(main())
