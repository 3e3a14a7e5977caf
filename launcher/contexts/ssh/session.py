"""One SSH connection to a machine, over whichever transport: opened when it is first used, and again when it was lost.

A transport is one login: it starts commands and connects to ports until it breaks, and never comes back; the session makes the
next one. Which program speaks SSH is no business of this file: `choice.py` decides it, `paramiko_transport.py` and `openssh.py`
do it.

Patience is for passing trouble only. A first connection that fails is the user's business at once (a wrong name, no VPN); one
that was there and broke is tried again for `reconnect_for` seconds. A login or a host key that was refused is refused again:
LoginError and HostKeyError are never retried.
"""

from __future__ import annotations

import errno
import os
import socket
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from typing import Any, ClassVar, Protocol, TypeVar

from ....pilot.model.errors import RefusedError, UsageError
from ..base import ContextLostError

_PAUSES_S = (1.0, 2.0, 4.0, 8.0, 15.0)
"""Between two tries to connect; the last one again and again."""
_FIRST_PATIENCE_S = 2.5
"""For a first connection: one more try after a refusal, none after a timeout."""
_HOUR_S = 3600.0
_Result = TypeVar("_Result")


class HostKeyError(RefusedError):
    """The host's key is unknown, revoked, or not the one it had before."""

    code = "host-key"


class LoginError(UsageError):
    """No way to log in was accepted; trying again gives the same."""

    code = "login"


class BrokenError(Exception):
    """The connection broke while it was used; what was under way may or may not have happened."""


class Channel(Protocol):
    """The streams of one command on the machine, or one connection from it to a port.

    Methods raise OSError when the connection broke, TimeoutError when nothing moved for the time that was set.
    """

    def sendall(self, data: bytes, /) -> None: ...

    def shutdown_write(self) -> None:
        """Nothing more will be sent."""

    def recv(self, size: int, /) -> bytes:
        """The next bytes of the output; empty at its end."""

    def recv_stderr(self, size: int, /) -> bytes:
        """The next bytes of the error output; to be read when the output has ended."""

    def recv_exit_status(self) -> int:
        """The exit code; -1 when none came."""

    def close(self) -> None:
        """Safe to call twice, and from another thread than the one that reads."""


class Transport(ABC):
    """A connection that is logged in. Threads may share it."""

    name: ClassVar[str]

    @abstractmethod
    def start(self, command: bytes, timeout_s: float) -> Channel:
        """Run a command. `timeout_s` is for each step on its streams.

        Raises OSError when it was not started, BrokenError when it may have been, RefusedError when the host does not want to.
        """

    @abstractmethod
    def connect_to(self, host: str, port: int) -> Channel:
        """A connection from the machine to that port. Raises RefusedError with the reason, OSError."""

    @abstractmethod
    def is_alive(self) -> bool: ...

    @abstractmethod
    def close(self) -> None: ...

    @abstractmethod
    def leave_to_parent(self) -> None:
        """In a forked child: nothing that the child does may disturb the parent's connection."""


class Session:
    """A connection that is opened when it is first used, and again when it was lost. Several threads may ask for channels; a
    process that is forked has a connection of its own.

    Args:
        profile: `remote_profile` of the machine.
        connect: makes a transport; its argument says whether there was one before. Raises OSError for trouble that may pass.
        tell: called with a line when the host is away and waited for.
        clock, sleep: for the pauses between tries.
    """

    def __init__(
        self,
        profile: Mapping[str, Any],
        connect: Callable[[bool], Transport],
        tell: Callable[[str], None] = lambda text: None,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._profile = profile
        self._connect = connect
        self._tell = tell
        self._clock = clock
        self._sleep = sleep
        self._transport: Transport | None = None
        self._was_there = False
        self._lock = threading.RLock()
        self._process = os.getpid()

    def start(self, command: bytes, timeout_s: float) -> Channel:
        """A command that runs now. Raises ContextLostError when the host stays away, BrokenError."""
        return self._with_transport(lambda transport: transport.start(command, timeout_s))

    def connect_to(self, host: str, port: int) -> Channel:
        """A connection from the machine to that port. Raises RefusedError when there is none, ContextLostError."""
        return self._with_transport(lambda transport: transport.connect_to(host, port))

    def is_alive(self) -> bool:
        return self._transport is not None and self._transport.is_alive()

    def close(self) -> None:
        self._leave_to_parent()
        if self._transport is not None:
            self._transport.close()
        self._transport = None

    def _leave_to_parent(self) -> None:
        """In a forked child: the connection is the parent's, and so is the lock that one of its threads may hold."""
        if self._process != os.getpid():
            if self._transport is not None:
                self._transport.leave_to_parent()
            self._transport = None
            self._lock = threading.RLock()
            self._process = os.getpid()

    def _with_transport(self, use: Callable[[Transport], _Result]) -> _Result:
        self._leave_to_parent()
        with self._lock:
            return self._tried(use)

    def _tried(self, use: Callable[[Transport], _Result]) -> _Result:
        host, told, began = str(self._profile["hostname"]), False, self._clock()
        for pause in _pauses():
            try:
                return use(self._connected())
            except OSError as error:
                self.close()
                what = f"cannot be reached: {error.strerror or error or type(error).__name__}"
                patience_s = self._patience_s(error)
                if self._clock() + pause > began + patience_s:
                    away = "jobs there go on; the same command later goes on from here"
                    remedy = away if self._was_there else _remedy(error, host)
                    raise ContextLostError(what, where=host, remedy=remedy) from error
                if self._was_there and not told:
                    safe = "Ctrl-C is safe: jobs there go on"
                    self._tell(f"{host} {what}; trying again for {patience_s:g} s (`reconnect_for`). {safe}")
                    told = True
                self._sleep(pause)
        raise AssertionError("pauses do not end")

    def _patience_s(self, error: OSError) -> float:
        """How long to try in all."""
        patience_s = float(self._profile.get("reconnect_for", 600))
        if self._was_there:
            return patience_s
        return 0.0 if _is_unknown(error) else min(patience_s, _FIRST_PATIENCE_S)

    def _connected(self) -> Transport:
        if self._transport is None or not self._transport.is_alive():
            self.close()
            self._transport = self._connect(self._was_there)
            self._was_there = True
            command = self._profile.get("execute_command")
            if command:
                self._run_to_its_end(self._transport, command)
        return self._transport

    def _run_to_its_end(self, transport: Transport, command: str) -> None:
        try:
            channel = transport.start(os.fsencode(command), _HOUR_S)
        except BrokenError as error:  # there is nobody yet for whom it might have run twice
            raise OSError(str(error)) from error
        try:
            channel.shutdown_write()
            while channel.recv(1 << 16):
                pass  # unread it would wait
            channel.recv_exit_status()
        finally:
            channel.close()


def _pauses() -> Iterator[float]:
    yield from _PAUSES_S
    while True:
        yield _PAUSES_S[-1]


def _is_unknown(error: OSError) -> bool:
    """Whether there is no host of that name; a name server that does not answer says nothing about it."""
    return isinstance(error, socket.gaierror) and error.errno == socket.EAI_NONAME


def _remedy(error: OSError, host: str) -> str:
    """What to look at when a host could not be reached at all."""
    if isinstance(error, socket.gaierror):
        known = "is the name right, here or in ~/.ssh/config?"
        return (
            known if _is_unknown(error) else "the name server does not answer: is this machine connected to a network?"
        )
    if isinstance(error, ConnectionRefusedError):
        return "the host answers, its SSH server does not: are hostname and port right?"
    if isinstance(error, TimeoutError) or error.errno in (errno.EHOSTUNREACH, errno.ENETUNREACH):
        return "is it up, and is this machine in a network (or VPN) from which it can be reached?"
    return f"`ssh -v {host}` shows where it stops"
