"""The auxiliary folder `<wd>/.qcgpjm-service-<id>`: names of what is in it, making one, finding old ones (spec 16, 17)."""

from __future__ import annotations

import hashlib
import os
import secrets
import stat
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from ..model.errors import LostError, RefusedError, SettingsError
from ..wire import ownership
from ..wire.connection import AUX_PREFIX, FILE_NAME

MAX_SOCKET_PATH_BYTES = 100
"""Room in a Unix socket address is 107 bytes; the rest is for temporary names."""

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
        return self.path / FILE_NAME

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
        return self.path / "journal.pilotfish"

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
        write_private(self.address, address)

    def write_env(self, environ: Mapping[str, str]) -> None:
        """The environment of the service, for questions afterwards. It may hold secrets: mode 0600."""
        write_private(self.env_log, "".join(f"{name}={value}\n" for name, value in environ.items()))


def create(wd: Path, instance_id: str) -> AuxDir:
    """A new auxiliary folder of mode 0700 (and `wd`, if need be). Raises RefusedError when it cannot be made."""
    path = wd.absolute() / f"{AUX_PREFIX}{instance_id}"
    try:
        wd.mkdir(parents=True, exist_ok=True)
        path.mkdir(mode=0o700)
    except OSError as error:
        raise RefusedError(f"the auxiliary folder cannot be made: {error.strerror}", where=str(path)) from error
    return AuxDir(path)


def create_unused(wd: Path, host: str) -> AuxDir:
    """The same under a name that is not taken, `HOST.NUMBER` (spec 16). Raises RefusedError when it cannot be made."""
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
    """Raises LostError when there is none, RefusedError when others can write to it."""
    found = find_all(folder)
    if not found:
        raise LostError("there is no auxiliary folder of yours", where=str(folder))
    ownership.check_folder(found[-1].path)
    return found[-1]


def find_single(folder: Path) -> AuxDir:
    """Raises LostError when there is none, RefusedError when there are several or others can write to it."""
    found = find_all(folder)
    if len(found) > 1:
        names = ", ".join(aux.path.name for aux in found)
        raise RefusedError(
            f"there are several auxiliary folders: {names}", where=str(folder), remedy="name one of them"
        )
    return find_latest(folder)


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
    """A folder of mode 0700 for the ipc sockets: the auxiliary one, unless its path is too long for a socket.

    The replacement's name follows from the auxiliary folder's, so a resumed manager has the addresses its agents know.
    `temporary` None: the system's folder for temporary files.
    """
    longest = max(len(os.fsencode(aux.path / name)) for name in _SOCKETS)
    if longest <= MAX_SOCKET_PATH_BYTES:
        return aux.path
    digest = hashlib.sha256(os.fsencode(aux.path)).hexdigest()[:8]
    folder = (temporary or Path(tempfile.gettempdir())) / f"pilotfish-{os.geteuid()}-{digest}"
    with suppress(FileExistsError):
        folder.mkdir(mode=0o700)
    _check_ours(folder)
    return folder


def _check_ours(folder: Path) -> None:
    """Everybody may make names in /tmp, so the folder (or a link of that name) may be somebody else's trap."""
    status = folder.lstat()
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.geteuid() or stat.S_IMODE(status.st_mode) & 0o077:
        raise RefusedError(
            "this name is taken by something that is not a private folder of yours",
            where=str(folder),
            remedy="set TMPDIR to a folder of your own, or use a shorter working directory",
        )


def write_private(path: Path, text: str) -> None:
    """Mode 0600 from the first byte, also over an older file."""
    path.unlink(missing_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with open(descriptor, "w", encoding="utf-8", errors="surrogateescape") as file:
        file.write(text)
