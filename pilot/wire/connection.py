"""The connection file: where a pilot is and the keys to its endpoints; and how a client finds it.

Whoever can read this file can run commands as its owner, so it is born with mode 0600, and a file that others can read
is refused instead of used: its keys must count as known to them.
"""

from __future__ import annotations

import base64
import os
import socket
import stat
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path

import msgspec

from .. import variable_names
from ..files import write_atomically
from ..model.errors import LostError, PilotfishError, RefusedError, UsageError
from . import codec, ownership

VERSION = 1
AUX_PREFIX = ".qcgpjm-service-"
FILE_NAME = "connection.json"

_LOOK_BACK = "`pilotfish show` tells what it did"
_GO_ON = "`pilotfish service --resume` or `pilotfish run --continue` goes on"
_REMEDY = "start one with `pilotfish service`, or name one with --connect"

# Best first: ipc is the fastest and needs no key, plain is there for clients that cannot do better.
TRANSPORTS = ("ipc", "curve", "plain")


class ConnectionFile(msgspec.Struct, frozen=True, kw_only=True):
    """How to reach one pilot.

    The `*_addresses` map a transport (`ipc`, `curve`, `plain`) to a ZeroMQ address; agents have no `plain` one. Keys are Z85
    text, all `""` when there is no CURVE endpoint. `host` is the manager's, as `socket.gethostname()` gives it there.
    `agent_endpoints` are all addresses of the agents' CURVE endpoint: this host's name, then its numbers, to be tried in turn.
    """

    version: int = VERSION
    instance_id: str
    pid: int
    host: str
    started_s: float
    aux_dir: str
    request_addresses: dict[str, str]
    event_addresses: dict[str, str]
    agent_addresses: dict[str, str]
    server_public_key: str = ""
    client_public_key: str = ""
    client_secret_key: str = ""
    agent_endpoints: tuple[str, ...] = ()
    ended: bool = False
    """The pilot has ended in good order: nobody is there any more, and there are no keys in it."""


class EndedError(LostError):
    """The pilot that is meant has ended. `folder` is its auxiliary folder."""

    def __init__(self, what: str, *, where: str, remedy: str, folder: Path) -> None:
        super().__init__(what, where=where, remedy=remedy)
        self.folder = folder


class _Versioned(msgspec.Struct):
    version: int


def write(path: Path, info: ConnectionFile) -> None:
    """Put the file in place in one step. Not synced: after a crash of the machine nobody is there any more. Raises OSError."""
    write_atomically(path, encode(info))


def encode(info: ConnectionFile) -> bytes:
    """What stands in the file; `decode` gives the same back."""
    return codec.dump(info, indent=2) + b"\n"


def retire(path: Path) -> None:
    """The pilot ends: its keys are of no use to anybody but a thief. What else the file says stays. Raises OSError."""
    try:
        info = msgspec.structs.replace(
            read(path), server_public_key="", client_public_key="", client_secret_key="", ended=True
        )
        write(path, info)
    except (PilotfishError, OSError):
        path.unlink(missing_ok=True)  # no room for a shorter one, or it is not ours any more


def read(path: Path) -> ConnectionFile:
    """The connection file at `path`.

    Raises:
        LostError: there is no such file.
        RefusedError: others can read it, or it belongs to somebody else.
        UsageError: it is not a connection file, or of a version this Pilotfish does not know.
    """
    try:
        with open(ownership.open_file(path, os.O_RDONLY, links=True), "rb") as file:
            _check_private(os.fstat(file.fileno()), path)
            text = file.read()
    except FileNotFoundError:
        remedy = "name the folder of a pilot that runs, or its connection file"
        raise LostError("there is no such connection file", where=str(path), remedy=remedy) from None
    except OSError as error:
        raise RefusedError(f"cannot be read: {error.strerror}", where=str(path)) from error
    return decode(text, str(path))


def decode(text: bytes, where: str) -> ConnectionFile:
    """What a connection file says. Raises UsageError, as `read`."""
    try:
        version = codec.load(text, _Versioned).version
        if version != VERSION:
            raise UsageError(
                f"the connection file has version {version}, this Pilotfish knows {VERSION}",
                where=where,
                remedy="use the Pilotfish that started the pilot",
            )
        return codec.load(text, ConnectionFile)
    except msgspec.DecodeError as error:  # ValidationError is one of these
        raise UsageError(f"this is not a connection file: {error}", where=where) from error


def _check_private(status: os.stat_result, path: Path) -> None:
    if stat.S_IMODE(status.st_mode) & 0o077:
        raise RefusedError(
            "others may have read the keys in this connection file",
            where=str(path),
            remedy=f"chmod 600 {path} if you are sure nobody did, else start the pilot anew",
        )


def is_alive(info: ConnectionFile) -> bool:
    """False when the manager's process is gone; True when that cannot be seen from this host."""
    if info.host != socket.gethostname():
        return True
    try:
        os.kill(info.pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return False  # the number was used again, by another user: our own manager would not refuse us
    return True


def through_tunnels(info: ConnectionFile, lead: Callable[[str], str], folder: Path) -> ConnectionFile:
    """The pilot as clients of this host reach it: `lead` gives for an address of its network the one to take instead.

    It counts as alive as long as this process, which has the tunnels, is. `folder`: where its connection file is here.
    """

    def led(addresses: Mapping[str, str]) -> dict[str, str]:
        return {transport: lead(address) for transport, address in addresses.items() if transport != "ipc"}

    return msgspec.structs.replace(
        info,
        pid=os.getpid(),
        host=socket.gethostname(),
        aux_dir=str(folder),
        request_addresses=led(info.request_addresses),
        event_addresses=led(info.event_addresses),
        agent_addresses={},
        agent_endpoints=(),
    )


def by_way_of(info: ConnectionFile, address: str) -> ConnectionFile:
    """The pilot as agents reach it at the end of a tunnel to their endpoint, HOST:PORT, and by no other way."""
    end = f"tcp://{address}"
    return msgspec.structs.replace(info, agent_addresses={"curve": end}, agent_endpoints=(end,))


def as_variable(info: ConnectionFile) -> str:
    """The value of PILOTFISH_CONNECT: never for a command line, it holds the keys."""
    return base64.b64encode(codec.dump(info)).decode()


def for_agent(path: Path, variable: str | None) -> ConnectionFile:
    """What an agent goes by: the connection file, which is true to the day, else what the variable says.

    Raises as `read`; UsageError too when the variable holds something else.
    """
    if variable is None or path.exists():
        return read(path)
    try:
        return codec.load(base64.b64decode(variable, validate=True), ConnectionFile)
    except ValueError as error:  # binascii.Error and msgspec.DecodeError are such
        raise UsageError("this is not what the manager gave", where=variable_names.CONNECT) from error


def agent_ways(info: ConnectionFile) -> list[tuple[str, str]]:
    """(transport, address) by which an agent on this host may reach the manager, best first.

    Raises LostError when there is none.
    """
    if info.ended:
        raise LostError(f"pilot {info.instance_id} has ended")
    ipc = info.agent_addresses.get("ipc")
    ways = [] if ipc is None or not _within_reach(ipc, info.host) else [("ipc", ipc)]
    ways += [("curve", address) for address in info.agent_endpoints]
    if not ways:
        raise _no_endpoint(info.host)
    return ways


def best_address(addresses: Mapping[str, str], host: str) -> tuple[str, str]:
    """(transport, address) to take for a pilot on `host`: ipc where its socket is within reach, else CURVE, else plain TCP.

    The host is compared because a folder shared between hosts shows the socket of another host too.
    """
    ipc = addresses.get("ipc")
    if ipc is not None and _within_reach(ipc, host):
        return "ipc", ipc
    for transport in TRANSPORTS[1:]:
        if transport in addresses:
            return transport, addresses[transport]
    raise _no_endpoint(host)


def _within_reach(ipc: str, host: str) -> bool:
    return host == socket.gethostname() and os.path.exists(ipc.removeprefix("ipc://"))


def _no_endpoint(host: str) -> LostError:
    return LostError(
        f"the pilot on {host} has no endpoint that {socket.gethostname()} can use",
        remedy="start it with --net, or go to that host",
    )


def discover(hint: str | None, environ: Mapping[str, str], cwd: Path) -> ConnectionFile | str:
    """Find the pilot to talk to; a `str` is a bare ZeroMQ address, spoken to without keys.

    Order: `hint` (connection file, auxiliary folder, a folder with some, or an address), then the variables
    PILOTFISH_CONNECTION and QCG_PM_ZMQ_ADDRESS, then the newest live pilot of folder `cwd`. The first that is set counts:
    a wrong hint is an error, never a reason to talk to another pilot.

    Raises:
        LostError: nothing there, or only pilots that have ended; the text says where it looked.
        RefusedError, UsageError: as `read`.
    """
    for place in (hint, environ.get(variable_names.CONNECTION), environ.get(variable_names.ADDRESS)):
        if place:
            return place if "://" in place else _pilot_at(cwd / place)
    return _newest_in(cwd, f"{variable_names.CONNECTION} and {variable_names.ADDRESS} are not set, and ")


def _pilot_at(path: Path) -> ConnectionFile:
    if path.is_dir():
        if not path.absolute().name.startswith(AUX_PREFIX) and not (path / FILE_NAME).exists():
            return _newest_in(path)
        path = path / FILE_NAME
    if path.parent.name.startswith(AUX_PREFIX):
        with suppress(OSError):  # reading the file fails likewise, and tells of it
            ownership.check_folder(path.parent)
    info = read(path)
    if info.ended:
        raise EndedError(f"pilot {info.instance_id} has ended", where=str(path), remedy=_LOOK_BACK, folder=path.parent)
    if not is_alive(info):
        what = f"pilot {info.instance_id} has ended: it was killed (no process {info.pid} on {info.host})"
        raise EndedError(what, where=str(path), remedy=f"{_LOOK_BACK}; {_GO_ON}", folder=path.parent)
    return info


def why_ended(pilot: ConnectionFile) -> str:
    """What the pilot's own folder says, where that can be seen from here; empty while it runs, and when it was killed: then
    somebody may be about to resume it.
    """
    try:
        now = read(Path(pilot.aux_dir) / FILE_NAME)
    except PilotfishError:  # of another machine, or being written
        return ""
    return "the pilot has ended" if now.ended and now.instance_id == pilot.instance_id else ""


def _newest_in(folder: Path, before: str = "") -> ConnectionFile:
    """Files that cannot be used are passed over, but named when nothing better is found, and when they are not ours."""
    files = sorted(folder.glob(f"{AUX_PREFIX}*/{FILE_NAME}"), key=_mtime, reverse=True)
    unusable: list[PilotfishError] = []
    for file in files:
        try:
            pilot = _pilot_at(file)
        except PilotfishError as error:
            unusable.append(error)
        else:
            ownership.tell_foreign(unusable)
            return pilot
    ended = [error for error in unusable if isinstance(error, EndedError)]
    found = [f"{error.where}: {error.what}" for error in unusable if error not in ended]
    if ended:
        found.append(f"{len(ended)} have ended, the latest: {ended[0].what}" if len(ended) > 1 else ended[0].what)
    what = f"no running pilot found: {before}{'; '.join(found) or f'there is no {AUX_PREFIX}*/{FILE_NAME} in it'}"
    if ended:
        raise EndedError(what, where=str(folder), remedy=ended[0].remedy, folder=ended[0].folder)
    raise LostError(what, where=str(folder), remedy=_REMEDY)


def _mtime(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:  # removed, or not ours to look at
        return 0.0
