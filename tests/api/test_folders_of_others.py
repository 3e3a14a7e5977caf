"""In a working folder that others can write to: their runs are not ours, and their journals are not run as us."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from patience import PATIENCE_S

from pilotfish.api.errors import ConnectionError
from pilotfish.api.manager import Manager
from pilotfish.pilot.manager import auxdir
from pilotfish.pilot.manager.store import Store
from pilotfish.pilot.model.errors import RefusedError
from pilotfish.pilot.model.ids import JobNo
from pilotfish.pilot.model.job_spec import Execution, JobSpec
from pilotfish.pilot.wire import connection, journal, records

OTHER = 65534


@pytest.fixture
def shared(wd: Path) -> Path:
    """A working folder like /tmp: everybody may add to it."""
    wd.chmod(0o1777)
    return wd


def planted(folder: Path, name: str = "zz") -> Path:
    """An auxiliary folder whose journal has one job left, which writes `pwned` in the working folder."""
    aux = folder / f".qcgpjm-service-{name}"
    aux.mkdir(mode=0o700)
    job = JobSpec("evil", Execution(script=f"touch {folder}/pwned"))
    log = records.Opened(name, "epoch", time.time()), records.Submitted(JobNo(1), time.time(), [job])
    content = journal.HEADER + b"".join(journal.encode(record) for record in log)
    for file, text in (("journal.pilotfish", content), ("journal.pilotfish.lock", b"")):
        (aux / file).touch(mode=0o600)
        (aux / file).write_bytes(text)
    return aux


def give_away(path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("giving a file to another user needs root")
    os.chown(path, OTHER, OTHER, follow_symlinks=False)


def pilotfish(*words: str, wd: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pilotfish", *words]
    return subprocess.run(command, cwd=wd, capture_output=True, text=True, timeout=PATIENCE_S, check=False)


def test_the_left_over_work_of_a_run_of_our_own_is_done(shared: Path) -> None:
    """What the other tests plant would run, if it were ours."""
    planted(shared)
    done = pilotfish("run", "--continue", "--nodes", "1", wd=shared)
    assert (done.returncode, (shared / "pwned").exists()) == (0, True), done.stderr


def test_run_continue_passes_over_what_another_user_has_planted_and_says_so(shared: Path) -> None:
    aux = planted(shared)
    for path in (aux, *aux.iterdir()):
        give_away(path)
        path.chmod(0o777)
    (shared / "tasks.txt").write_text("touch mine\n")
    done = pilotfish("run", "--continue", "--nodes", "1", "tasks.txt", wd=shared)
    assert (done.returncode, (shared / "mine").exists(), (shared / "pwned").exists()) == (0, True, False), done.stderr
    assert f"passed over {aux}: the folder belongs to user" in done.stderr


def test_run_continue_goes_on_with_our_own_run_although_another_users_is_newer(shared: Path) -> None:
    mine = planted(shared, "mine")
    os.utime(mine, (1000, 1000))
    give_away(planted(shared))
    done = pilotfish("run", "--continue", "--nodes", "1", wd=shared)
    assert (done.returncode, (mine / "jobs.report").exists()) == (0, True), done.stderr


def test_run_continue_does_not_begin_anew_because_our_run_is_open_to_others(shared: Path) -> None:
    """It would do work twice. Whoever opened the folder has to say that nobody has been there."""
    planted(shared).chmod(0o770)
    (shared / "tasks.txt").write_text("touch mine\n")
    done = pilotfish("run", "--continue", "--nodes", "1", "tasks.txt", wd=shared)
    assert (done.returncode, (shared / "mine").exists(), (shared / "pwned").exists()) == (1, False, False)
    assert "others can write to the folder (mode 0770)" in done.stderr
    assert "chmod go-w" in done.stderr


def make_pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path, 0o600)


def make_link(path: Path) -> None:
    path.rename(path.with_suffix(".elsewhere"))
    path.symlink_to(path.with_suffix(".elsewhere"))


TRAPS: dict[str, tuple[str, Callable[[Path], None], str]] = {
    "another's folder": ("", give_away, "the folder belongs to user"),
    "open folder": ("", lambda path: path.chmod(0o707), "others can write to the folder (mode 0707)"),
    "another's link to ours": ("", lambda path: give_away(linked(path)), "the link belongs to user"),
    "another's journal": ("journal.pilotfish", give_away, "the file belongs to user"),
    "open journal": ("journal.pilotfish", lambda path: path.chmod(0o620), "others can write to the file (mode 0620)"),
    "pipe as journal": ("journal.pilotfish", make_pipe, "this is a named pipe, not a file"),
    "link as journal": ("journal.pilotfish", make_link, "this is a link, not a file"),
    "another's lock": ("journal.pilotfish.lock", give_away, "the file belongs to user"),
    "link as lock": ("journal.pilotfish.lock", make_link, "this is a link, not a file"),
}


def linked(path: Path) -> Path:
    """The folder moves away, and a link is in its place."""
    make_link(path)
    return path


@pytest.mark.parametrize("trap", TRAPS)
def test_resume_refuses_what_is_not_ours_alone(shared: Path, trap: str) -> None:
    aux = planted(shared)
    name, spring, reason = TRAPS[trap]
    spring(aux / name if name else aux)
    with pytest.raises(RefusedError) as caught:
        Store.open(auxdir.resume_folder(aux).journal)
    assert str(caught.value).startswith(f"{aux / name}: {reason}")


@pytest.mark.parametrize("ran", [False, True])
def test_a_refused_resume_is_one_line(shared: Path, ran: bool) -> None:
    aux = planted(shared)
    if ran:
        (aux / "connection.json").write_text("{}")
    make_pipe(aux / "journal.pilotfish")
    done = pilotfish("run", "--resume", str(aux), "--nodes", "1", wd=shared)
    remedy = "put the file itself there"
    assert done.stderr == f"Error: {aux / 'journal.pilotfish'}: this is a named pipe, not a file; {remedy}\n"
    assert done.returncode == 1


@pytest.mark.parametrize(
    ("spring", "reason"),
    [
        (make_pipe, "this is a named pipe, not a file"),
        (make_link, "this is a link, not a file"),
        (lambda path: path.chmod(0o666), "others can write to the file (mode 0666)"),
        (give_away, "the file belongs to user"),
    ],
)
def test_what_a_run_has_written_down_of_its_tasks_must_be_ours_too(
    shared: Path, spring: Callable[[Path], None], reason: str
) -> None:
    (shared / "tasks.txt").write_text("echo ran >> runs\n")
    assert pilotfish("run", "tasks.txt", "--nodes", "1", wd=shared).returncode == 0
    (tasks,) = shared.glob(".qcgpjm-service-*/run-tasks.json")
    spring(tasks)
    done = pilotfish("run", "tasks.txt", "--nodes", "1", "--continue", "--quiet", wd=shared)
    assert done.returncode == 1, done.stderr
    assert f"{tasks}: {reason}" in done.stderr
    assert (shared / "runs").read_text() == "ran\n"


def test_where_files_are_made_for_a_group_a_run_can_be_gone_on_with(shared: Path) -> None:
    (shared / "tasks.txt").write_text("echo ran >> runs\n")
    before = os.umask(0o002)
    try:
        for option in ("--quiet", "--continue"):
            done = pilotfish("run", "tasks.txt", "--nodes", "1", option, wd=shared)
            assert done.returncode == 0, done.stderr
    finally:
        os.umask(before)
    assert (shared / "runs").read_text() == "ran\n"


def test_a_link_of_our_own_to_a_run_of_ours_is_followed(shared: Path) -> None:
    linked(planted(shared))
    done = pilotfish("run", "--resume", ".qcgpjm-service-zz", "--nodes", "1", wd=shared)
    assert (done.returncode, (shared / "pwned").exists()) == (0, True), done.stderr


def test_the_log_of_a_client_is_not_written_through_a_folder_of_another_user(shared: Path) -> None:
    """A link in it would lead to any file of ours."""
    precious = shared / "precious"
    precious.write_text("mine")
    folder = shared / ".qcgpjm-client"
    folder.mkdir()
    (folder / "api.log").symlink_to(precious)
    give_away(folder)
    with pytest.raises(ConnectionError):
        Manager("tcp://127.0.0.1:1", {"wdir": str(shared), "connect_timeout": 0.1, "log_level": "debug"})
    assert precious.read_text() == "mine"


def test_an_empty_journal_beside_a_connection_file_has_lost_what_was_in_it(shared: Path) -> None:
    """A pilot writes its connection file after its journal has its header on disk: something has emptied the journal."""
    aux = planted(shared)
    (aux / "journal.pilotfish").write_bytes(b"")
    (aux / connection.FILE_NAME).touch(mode=0o600)
    done = pilotfish("run", "--resume", str(aux), "--nodes", "1", wd=shared)
    assert done.returncode == 1
    assert done.stderr.startswith(f"Error: {aux / 'journal.pilotfish'}: the journal is empty")
    assert (aux / "journal.pilotfish").read_bytes() == b""
