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
import time
from typing import Any

SOCKET = "PILOTFISH_SLURM_SOCKET"
JOB = "PILOTFISH_SLURM_JOB"
RELAY = "PILOTFISH_SLURM_RELAY"
"""HOST:FOLDER of the controller: where its socket is not, requests are files there."""
PYTHON = "PILOTFISH_SLURM_PYTHON"
"""For srun: the program that has Pilotfish, as words in JSON."""
_WITH_ENVIRONMENT = ("sbatch", "srun")
_RELAY_LOOK_S = 0.1
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
            return _ask_by_relay(name, words)
        send(connection, _request(name, words))
        while True:
            try:
                reply = receive(connection)
            except KeyboardInterrupt:
                return 130
            if reply is None:
                return _lost(name)
            if "need" in reply:
                send(connection, {"stdin": _stdin()})
                continue
            _print(reply)
            if not reply.get("more"):
                return int(reply.get("code", 0))


def _request(name: str, words: list[str]) -> dict[str, Any]:
    environ = dict(os.environ)
    if name not in _WITH_ENVIRONMENT:
        environ = {key: value for key, value in environ.items() if key.startswith(("S", "PILOTFISH_"))}
    return {"command": name, "words": words, "cwd": os.getcwd(), "environ": environ}


def _stdin() -> str:
    with os.fdopen(0, "rb", closefd=False) as stdin:
        return stdin.read().decode(errors="surrogateescape")


def _print(reply: dict[str, Any]) -> None:
    _write(1, reply.get("out", ""))
    _write(2, reply.get("err", ""))


def _ask_by_relay(name: str, words: list[str]) -> int:
    """On a node where the socket is not. Answers take up to a second."""
    host, _, folder = os.environ.get(RELAY, "").partition(":")
    if host == socket.gethostname() or not os.path.isdir(folder):
        return _lost(name)
    me = f"{socket.gethostname()}-{os.getpid()}-{time.time_ns()}"
    answer = os.path.join(folder, f"{me}.answer")
    with open(answer, "x", encoding="utf-8"):
        pass
    message, number, read = _request(name, words), 1, 0
    while True:
        draft = os.path.join(folder, f"{me}.{number}.draft")
        with open(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
            json.dump(message, file)
        os.rename(draft, os.path.join(folder, f"{me}.{number}.request"))
        while True:
            if not os.path.isdir(folder):
                return _lost(name)
            with open(answer, encoding="utf-8") as file:
                lines = file.read().split("\n")[:-1]
            replies, read = [json.loads(line) for line in lines[read:]], len(lines)
            for reply in replies:
                _print(reply)
            if replies and "need" in replies[-1]:
                message, number = {"stdin": _stdin()}, number + 1
                break
            if replies and not replies[-1].get("more"):
                os.unlink(answer)
                return int(replies[-1].get("code", 0))
            time.sleep(_RELAY_LOOK_S)


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
