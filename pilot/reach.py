"""Whether this host reaches the manager of a pilot at all: found out in seconds, before its nodes are started to no avail.

ZeroMQ goes on trying without a word, which is right for a link that comes back and wrong for one that can never be. So plain
connections are tried first, to all addresses of the agents' endpoint at once. Where an address only refuses, the manager may
have been killed and be about to follow itself, so that is said at once and tried again for a while; where nothing comes back,
or no way leads there, waiting would not help.
"""

from __future__ import annotations

import errno
import os
import selectors
import socket
import time
from collections.abc import Callable, Iterable
from contextlib import ExitStack

from .model.errors import LostError
from .wire import connection

_ANSWER_S = 5.0
_REFUSED_S, _AGAIN_S = 60.0, 2.0
_REMEDY = (
    "start the manager where these nodes reach it, such as in a first allocation of its own; or let it listen where they may "
    "connect (--net-interface, and a range of open ports: --net-port-min, --net-port-max); or lead a tunnel to it and say "
    "where that ends (`pilotfish alloc add --agents-connect HOST:PORT`)"
)


def check_reach(
    read: Callable[[], connection.ConnectionFile],
    tell: Callable[[str], None],
    sleep: Callable[[float], None] = time.sleep,
) -> None:
    """Return when one of the ways leads to the manager of the connection file that `read` gives; it may change meanwhile.

    Raises LostError with what became of each address, and what to do.
    """
    told, tried_s = False, 0.0
    while True:
        info = read()
        ways = connection.agent_ways(info)
        if ways[0][0] == "ipc":
            return
        troubles = _tried([address for _, address in ways], info.host)
        if troubles is None:
            return
        words = "; ".join(f"{address}: {os.strerror(number)}" for address, number in troubles.items())
        what = f"{socket.gethostname()} cannot reach the manager on {info.host}: {words}"
        if errno.ECONNREFUSED not in troubles.values() or tried_s >= _REFUSED_S:
            raise LostError(what, remedy=_REMEDY)
        if not told:
            told = True
            tell(f"{what}; trying again for {_REFUSED_S:.0f} s, should the manager come back")
        sleep(_AGAIN_S)
        tried_s += _AGAIN_S


def _tried(addresses: Iterable[str], host: str) -> dict[str, int] | None:
    """None when somebody answers at one of them; else what is wrong with each, by HOST:PORT."""
    troubles: dict[str, int] = {}
    with ExitStack() as stack:
        selector = stack.enter_context(selectors.DefaultSelector())
        for address in addresses:
            name, _, port = address.removeprefix("tcp://").rpartition(":")
            if name.startswith("127.") and host != socket.gethostname():
                continue  # that is this host, where somebody else may listen
            number = _begin(stack, selector, name.strip("[]"), int(port))
            if number == 0:
                return None
            if number != errno.EINPROGRESS:
                troubles[f"{name}:{port}"] = number
        until_s = time.monotonic() + _ANSWER_S
        while selector.get_map() and (left_s := until_s - time.monotonic()) > 0:
            for key, _ in selector.select(left_s):
                number = key.fileobj.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)  # type: ignore[union-attr]
                if number == 0:
                    return None
                troubles[key.data] = number
                selector.unregister(key.fileobj)
        troubles |= {key.data: errno.ETIMEDOUT for key in selector.get_map().values()}
    return troubles


def _begin(stack: ExitStack, selector: selectors.BaseSelector, name: str, port: int) -> int:
    """Begin to connect; the number of the error, EINPROGRESS when it is not known yet."""
    try:
        family, kind, _, _, target = socket.getaddrinfo(name, port, type=socket.SOCK_STREAM)[0]
    except OSError:
        return errno.EHOSTUNREACH
    trial = stack.enter_context(socket.socket(family, kind))
    trial.setblocking(False)
    number = trial.connect_ex(target)
    if number == errno.EINPROGRESS:
        selector.register(trial, selectors.EVENT_WRITE, f"{name}:{port}")
    return number
