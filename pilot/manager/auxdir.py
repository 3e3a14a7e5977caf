"""The auxiliary folder `<wd>/.qcgpjm-service-<id>`: names of what is in it, making one, finding old ones."""

from __future__ import annotations

import errno
import hashlib
import os
import secrets
import socket
import stat
import tempfile
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from ..console import echo
from ..files import open_private, write_atomically
from ..model.errors import JournalError, LostError, RefusedError, SettingsError
from ..wire import connection, journal, ownership
from ..wire.codec import is_text
from ..wire.connection import AUX_PREFIX
from . import original_run

MAX_SOCKET_PATH_BYTES = 100
"""Room in a Unix socket address is 107 bytes; the rest is for temporary names."""

_FILES_OF_A_START, _BYTES_OF_A_START = 14, 32 << 10
_LOOK_FOR_ROOM_S = 1.0
_FEWEST_DIGITS = 4
_SOCKETS = ("requests.ipc", "events.ipc", "agents.ipc")


@dataclass(frozen=True, slots=True)
class AuxDir:
    """Names inside one auxiliary folder; `path` is absolute."""

    path: Path

    @property
    def instance_id(self) -> str:
        return self.path.name.removeprefix(AUX_PREFIX)

    @property
    def connection(self) -> Path:
        return self.path / connection.FILE_NAME

    @property
    def address(self) -> Path:
        return self.path / "address"

    @property
    def log(self) -> Path:
        return self.path / "service.log"

    @property
    def report(self) -> Path:
        return self.path / "jobs.report"

    @property
    def final_status(self) -> Path:
        return self.path / "final_status.json"

    @property
    def journal(self) -> Path:
        return self.path / journal.FILE_NAME

    @property
    def agent_keys(self) -> Path:
        """Keys and port of the agents' TCP endpoint, for a resumed manager."""
        return self.path / "agents.json"

    @property
    def env_log(self) -> Path:
        return self.path / "env.log"

    def agent_log(self, node: str) -> Path:
        return self.path / f"agent-{node}.log"

    def write_address(self, address: str) -> None:
        """The request address, without newline, as post-processing scripts read it."""
        write_atomically(self.address, address.encode())

    def write_env(self, environ: Mapping[str, str], *, with_values: bool) -> None:
        """The environment of the service, for questions afterwards. Values may be secrets, and the file stays for good."""
        lines = (f"{name}={value}\n" if with_values else f"{name}\n" for name, value in sorted(environ.items()))
        write_atomically(self.env_log, "".join(lines).encode("utf-8", "surrogateescape"))

    def forget_keys(self) -> None:
        """After an orderly end nobody needs them; a resumed manager makes new ones."""
        with suppress(OSError):
            self.agent_keys.unlink(missing_ok=True)
        with suppress(OSError):
            if self.connection.exists():
                connection.retire(self.connection)

    @property
    def is_begun(self) -> bool:
        """Its journal is there. Else its manager was killed before it could accept anything, and it may be begun anew."""
        return self.journal.exists()

    def check_resumable(self) -> None:
        """Changes nothing. A pilot says where it is only when its journal has begun: without a record it has been emptied.

        Raises JournalError.
        """
        if not self.connection.exists():
            return
        try:
            status = self.journal.lstat()
        except FileNotFoundError:
            what = "the journal is gone"
        else:
            if not stat.S_ISREG(status.st_mode) or journal.has_record(self.journal):
                return  # what else it may be is refused when it is opened
            what = "the journal is empty"
        raise JournalError(
            f"{what}: what was in it is lost",
            where=str(self.journal),
            remedy="restore it from a copy, or start a new pilot without --resume",
        )


def create(wd: Path, instance_id: str) -> AuxDir:
    """A new auxiliary folder of mode 0700 (and `wd`, if need be), or one that a killed manager has not begun.

    Raises RefusedError when it cannot be made, or is in use.
    """
    path = wd.absolute() / f"{AUX_PREFIX}{instance_id}"
    aux = AuxDir(path)
    try:
        wd.mkdir(parents=True, exist_ok=True)
        path.mkdir(mode=0o700)
    except FileExistsError as error:
        if path.is_dir() and not (aux.is_begun or original_run.is_original(path) or aux.connection.exists()):
            ownership.check_folder(path)
            return aux
        remedy = f"continue it: --resume {path}; or choose another --id" if aux.is_begun else "choose another --id"
        raise RefusedError(
            f"the auxiliary folder cannot be made: {error.strerror}", where=str(path), remedy=remedy
        ) from error
    except OSError as error:
        raise RefusedError(f"the auxiliary folder cannot be made: {error.strerror}", where=str(path)) from error
    return aux


def create_unused(wd: Path, host: str) -> AuxDir:
    """The same under a name that is not taken, `HOST.NUMBER`. Raises RefusedError when it cannot be made."""
    digits = _FEWEST_DIGITS
    while True:
        aux = AuxDir(wd.absolute() / f"{AUX_PREFIX}{host}.{secrets.randbelow(10**digits)}")
        if not aux.path.exists():
            try:
                return create(wd, aux.instance_id)
            except RefusedError as error:
                if not isinstance(error.__cause__, FileExistsError):
                    raise  # otherwise somebody else has just taken it
        digits += 1


def find_all(folder: Path) -> list[AuxDir]:
    """Auxiliary folders of ours in `folder`, newest last."""
    return [AuxDir(path) for path in ownership.own_folders(folder, AUX_PREFIX)]


def find_latest(folder: Path) -> AuxDir:
    """The newest that has a journal, else the newest. Raises LostError when there is none, RefusedError when others can write
    to it.
    """
    found = find_all(folder)
    if not found:
        raise LostError("there is no auxiliary folder of yours", where=str(folder))
    latest = [aux for aux in found if aux.is_begun][-1:] or found[-1:]
    ownership.check_folder(latest[0].path)
    return latest[0]


def resume_folder(path: Path) -> AuxDir:
    """What `--resume PATH` means: an auxiliary folder, or the latest one of ours in a folder.

    Raises RefusedError for one that is not ours alone, and SettingsError, in the old system's words, where there is none.
    """
    with suppress(LostError):
        if path.is_dir():
            absolute = path.resolve()
            if not absolute.name.startswith(AUX_PREFIX):
                return find_latest(absolute)
            ownership.check_folder(path)  # and not `absolute`: it may be a link that somebody else has made
            return AuxDir(absolute)
    raise SettingsError(f"Resume directory {path} not exists or is not valid QCG-PilotJob auxiliary directory")


def socket_folder(aux: AuxDir, temporary: Path | None = None) -> Path:
    """A folder of mode 0700 for the ipc sockets: the auxiliary one, unless its path is too long for a socket, or not UTF-8, or
    its file system takes no sockets.

    The replacement's name follows from the auxiliary folder's, so a resumed manager has the addresses its agents know.
    `temporary` None: the system's folder for temporary files.
    """
    longest = max(len(os.fsencode(aux.path / name)) for name in _SOCKETS)
    fits = longest <= MAX_SOCKET_PATH_BYTES and is_text(str(aux.path))  # ZeroMQ's addresses are text
    if fits and _takes_sockets(aux.path):
        return aux.path
    digest = hashlib.sha256(os.fsencode(aux.path)).hexdigest()[:8]
    folder = (temporary or Path(tempfile.gettempdir())) / f"pilotfish-{os.geteuid()}-{digest}"
    with suppress(FileExistsError):
        folder.mkdir(mode=0o700)
    _check_ours(folder)
    return folder


def _takes_sockets(folder: Path) -> bool:
    """Some file systems of clusters have none (CIFS, sshfs, FAT). Any other trouble shows when the sockets are made."""
    probe = folder / ".socket"
    try:
        with socket.socket(socket.AF_UNIX) as one:
            one.bind(str(probe))
    except OSError as error:
        return error.errno not in (errno.EPERM, errno.ENOTSUP, errno.EINVAL, errno.ENOSYS)
    finally:
        with suppress(OSError):
            probe.unlink()
    return True


def leave_socket_folder(aux: AuxDir, folder: Path) -> None:
    """The sockets are gone. A folder of their own goes too, unless there is something else in it."""
    if folder != aux.path:
        with suppress(OSError):
            folder.rmdir()


def check_room(folder: Path) -> None:
    """Whether there is room for what a start writes. Raises OSError when there is not."""
    probes = [folder / f".room-{number}" for number in range(_FILES_OF_A_START)]
    try:
        for probe in probes:
            with open(probe, "wb", opener=open_private) as file:
                file.write(bytes(_BYTES_OF_A_START if probe == probes[0] else 0))
    except OSError as error:
        error.filename = str(folder)  # the probes are nobody's business
        raise
    finally:
        for probe in probes:
            with suppress(OSError):
                probe.unlink(missing_ok=True)


def await_room(aux: AuxDir, waits: bool) -> None:
    """A pilot that has accepted work `waits` for room on the disk; others say at once that there is none: OSError.

    So does one whose starter waits for it: that one has a user who is to be told.
    """
    was_said = False
    while True:
        try:
            return check_room(aux.path)
        except OSError as error:
            if not waits or error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            if not was_said:
                echo(f"{aux.path}: {error.strerror}: going on when there is room", err=True)
            was_said = True
        time.sleep(_LOOK_FOR_ROOM_S)


def _check_ours(folder: Path) -> None:
    """Everybody may make names in /tmp, so the folder (or a link of that name) may be somebody else's trap."""
    status = folder.lstat()
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.geteuid() or stat.S_IMODE(status.st_mode) & 0o077:
        raise RefusedError(
            "this name is taken by something that is not a private folder of yours",
            where=str(folder),
            remedy="set TMPDIR to a folder of your own, or use a shorter working directory",
        )
