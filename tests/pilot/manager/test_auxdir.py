"""The auxiliary folder: made private, found again, and a place for sockets."""

from __future__ import annotations

import errno
import os
import secrets
import socket
import stat
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest

from pilotfish.pilot.manager import auxdir
from pilotfish.pilot.model.errors import JournalError, RefusedError, SettingsError
from pilotfish.pilot.wire.journal import HEADER


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def aged(wd: Path, name: str, mtime_s: int) -> auxdir.AuxDir:
    aux = auxdir.create(wd, name)
    os.utime(aux.path, (mtime_s, mtime_s))
    return aux


def test_it_is_made_private_also_below_a_folder_that_is_not_there_yet(tmp_path: Path) -> None:
    aux = auxdir.create(tmp_path / "new", "i.1")
    assert aux.path == tmp_path / "new" / ".qcgpjm-service-i.1"
    assert aux.instance_id == "i.1"
    assert mode(aux.path) == 0o700


def test_an_id_that_is_taken_is_refused(tmp_path: Path) -> None:
    aux = auxdir.create(tmp_path, "i")
    aux.journal.touch()
    with pytest.raises(RefusedError, match=f"File exists; continue it: --resume {aux.path}"):
        auxdir.create(tmp_path, "i")


@pytest.mark.parametrize("made", ["connection", "track.reqs"])
def test_neither_is_a_folder_that_has_held_a_pilot(tmp_path: Path, made: str) -> None:
    """Its journal is lost, or it is one of QCG-PilotJob's."""
    aux = auxdir.create(tmp_path, "i")
    (aux.connection if made == "connection" else aux.path / made).touch()
    with pytest.raises(RefusedError, match="File exists; choose another --id"):
        auxdir.create(tmp_path, "i")


def test_a_folder_whose_manager_was_killed_before_it_had_a_journal_is_taken(tmp_path: Path) -> None:
    aux = auxdir.create(tmp_path, "i")
    aux.log.touch()
    assert auxdir.create(tmp_path, "i") == aux


def test_resume_takes_the_latest_that_had_a_journal(tmp_path: Path) -> None:
    begun, half_made = aged(tmp_path, "a", 1000), aged(tmp_path, "b", 2000)
    begun.journal.touch()
    os.utime(begun.path, (1000, 1000))
    assert auxdir.resume_folder(tmp_path) == begun
    begun.journal.unlink()
    os.utime(begun.path, (1000, 1000))
    assert auxdir.resume_folder(tmp_path) == half_made


def test_the_folder_of_a_run_of_the_original_is_not_begun_anew(tmp_path: Path) -> None:
    aux = auxdir.create(tmp_path, "i")
    (aux.path / "track.reqs").touch()
    with pytest.raises(RefusedError, match="the auxiliary folder cannot be made"):
        auxdir.create(tmp_path, "i")


@pytest.mark.parametrize("content", [None, b"", HEADER[:7], HEADER, HEADER + b"\xff\xfeR\xff"])
def test_a_journal_without_a_record_beside_a_connection_file_is_lost(tmp_path: Path, content: bytes | None) -> None:
    aux = auxdir.create(tmp_path, "i")
    if content is not None:
        aux.journal.write_bytes(content)
    aux.check_resumable()  # killed before it could accept anything
    aux.connection.touch()
    with pytest.raises(JournalError, match="what was in it is lost; restore it from a copy"):
        aux.check_resumable()
    assert content is None or aux.journal.read_bytes() == content


def test_a_name_that_is_taken_by_chance_is_not_used_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    numbers = iter([7, 7, 8])
    monkeypatch.setattr(secrets, "randbelow", lambda limit: next(numbers))
    names = [auxdir.create_unused(tmp_path, "host").instance_id for _ in range(2)]
    assert names == ["host.7", "host.8"]


def test_all_are_found_newest_last_and_files_are_not_folders(tmp_path: Path) -> None:
    newer, older = aged(tmp_path, "a", 2000), aged(tmp_path, "b", 1000)
    (tmp_path / ".qcgpjm-service-file").touch()
    assert auxdir.find_all(tmp_path) == [older, newer]
    assert auxdir.find_latest(tmp_path) == newer


def test_resume_takes_the_folder_itself_or_the_latest_in_it(tmp_path: Path) -> None:
    older, newer = aged(tmp_path, "a", 1000), aged(tmp_path, "b", 2000)
    assert auxdir.resume_folder(older.path) == older
    assert auxdir.resume_folder(tmp_path) == newer


def test_resume_of_anything_else_has_the_old_systems_text(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "none"):
        with pytest.raises(SettingsError) as caught:
            auxdir.resume_folder(path)
        text = f"Resume directory {path} not exists or is not valid QCG-PilotJob auxiliary directory"
        assert str(caught.value) == text


def test_the_environment_is_kept_private_even_over_an_older_file(tmp_path: Path) -> None:
    aux = auxdir.create(tmp_path, "i")
    aux.env_log.write_text("old")
    aux.env_log.chmod(0o644)
    aux.write_env({"B": "x=y \udc80", "A": "1"}, with_values=True)
    assert aux.env_log.read_bytes() == b"A=1\nB=x=y \x80\n"
    assert mode(aux.env_log) == 0o600
    aux.write_env({"B": "secret", "A": "1"}, with_values=False)
    assert aux.env_log.read_bytes() == b"A\nB\n"


def test_the_address_has_no_newline(tmp_path: Path) -> None:
    aux = auxdir.create(tmp_path, "i")
    aux.write_address("tcp://h:1")
    assert aux.address.read_text() == "tcp://h:1"


def deep(path: Path) -> auxdir.AuxDir:
    return auxdir.AuxDir(path / ("d" * 90) / ".qcgpjm-service-i")


def test_sockets_are_in_the_folder_when_their_path_is_short_enough() -> None:
    for length, fits in ((87, True), (88, False)):
        aux = auxdir.AuxDir(Path("/" + "d" * (length - 1)))
        assert (len(f"{aux.path}/requests.ipc") <= 100) == fits
    short = auxdir.AuxDir(Path("/" + "d" * 86))
    assert auxdir.socket_folder(short) == short.path


def test_else_in_a_private_folder_that_a_resumed_manager_finds_again(tmp_path: Path) -> None:
    folder = auxdir.socket_folder(deep(tmp_path), tmp_path)
    assert folder.parent == tmp_path
    assert folder.name.startswith(f"pilotfish-{os.geteuid()}-")
    assert mode(folder) == 0o700
    assert auxdir.socket_folder(deep(tmp_path), tmp_path) == folder


@pytest.mark.parametrize("number", [errno.EPERM, errno.EOPNOTSUPP])
def test_also_where_the_file_system_takes_no_sockets(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """As CIFS, sshfs and FAT."""

    def bind(self: socket.socket, path: str) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(socket.socket, "bind", bind, raising=False)
    aux = auxdir.AuxDir(Path(tempfile.mkdtemp(prefix="pf-")))
    folder = auxdir.socket_folder(aux, tmp_path)
    assert folder.parent == tmp_path
    assert auxdir.socket_folder(aux, tmp_path) == folder
    assert list(aux.path.iterdir()) == []
    aux.path.rmdir()


def test_a_trap_of_that_name_is_refused(tmp_path: Path) -> None:
    folder = auxdir.socket_folder(deep(tmp_path), tmp_path)
    folder.chmod(0o755)
    with pytest.raises(RefusedError, match="TMPDIR"):
        auxdir.socket_folder(deep(tmp_path), tmp_path)
    folder.rmdir()
    (tmp_path / "elsewhere").mkdir(mode=0o700)
    folder.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(RefusedError, match="TMPDIR"):
        auxdir.socket_folder(deep(tmp_path), tmp_path)


@pytest.mark.parametrize("put", [Path.touch, os.mkfifo, lambda path: path.symlink_to("nowhere")])
def test_something_else_of_that_name_is_refused_too(tmp_path: Path, put: Callable[[Path], None]) -> None:
    folder = auxdir.socket_folder(deep(tmp_path), tmp_path)
    folder.rmdir()
    put(folder)
    with pytest.raises(RefusedError, match="TMPDIR"):
        auxdir.socket_folder(deep(tmp_path), tmp_path)
