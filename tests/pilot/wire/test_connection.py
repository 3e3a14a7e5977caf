"""The connection file and how a client finds a pilot."""

from __future__ import annotations

import os
import socket
import stat
from pathlib import Path

import msgspec
import pytest

from pilotfish.pilot.model.errors import LostError, RefusedError, UsageError
from pilotfish.pilot.wire import connection
from pilotfish.pilot.wire.connection import ConnectionFile, EndedError, best_address, discover, read, write


def info(name: str = "one", pid: int | None = None, host: str | None = None) -> ConnectionFile:
    return ConnectionFile(
        instance_id=name,
        pid=os.getpid() if pid is None else pid,
        host=socket.gethostname() if host is None else host,
        started_s=1.5,
        aux_dir="/w/.qcgpjm-service-one",
        request_addresses={"ipc": "ipc:///w/requests.ipc", "curve": "tcp://h:1"},
        event_addresses={"ipc": "ipc:///w/events.ipc"},
        agent_addresses={"ipc": "ipc:///w/agents.ipc"},
        server_public_key="S",
        client_public_key="P",
        client_secret_key="C",
    )


def pilot_in(folder: Path, pilot: ConnectionFile, mtime_s: int = 1000) -> Path:
    path = folder / f".qcgpjm-service-{pilot.instance_id}" / "connection.json"
    path.parent.mkdir(mode=0o700)
    write(path, pilot)
    os.utime(path, (mtime_s, mtime_s))
    return path


def ended_pid() -> int:
    pid = os.posix_spawn("/bin/true", ["true"], {})
    os.waitpid(pid, 0)
    return pid


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    write(tmp_path / "c.json", info())
    assert read(tmp_path / "c.json") == info()


def test_the_file_is_private_and_nothing_else_is_left(tmp_path: Path) -> None:
    write(tmp_path / "c.json", info())
    write(tmp_path / "c.json", info("two"))
    assert stat.S_IMODE((tmp_path / "c.json").stat().st_mode) == 0o600
    assert os.listdir(tmp_path) == ["c.json"]


def test_a_file_that_others_can_read_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "c.json", info())
    (tmp_path / "c.json").chmod(0o640)
    with pytest.raises(RefusedError, match="chmod 600"):
        read(tmp_path / "c.json")


def test_another_version_is_named(tmp_path: Path) -> None:
    write(tmp_path / "c.json", msgspec.structs.replace(info(), version=9))
    with pytest.raises(UsageError, match="version 9"):
        read(tmp_path / "c.json")


def test_other_content_is_no_connection_file(tmp_path: Path) -> None:
    (tmp_path / "c.json").touch(mode=0o600)
    (tmp_path / "c.json").write_text("[]")
    with pytest.raises(UsageError, match="not a connection file"):
        read(tmp_path / "c.json")


@pytest.mark.parametrize("hint", [".", ".qcgpjm-service-one", ".qcgpjm-service-one/connection.json"])
def test_a_hint_may_be_the_file_its_folder_or_the_folder_above(tmp_path: Path, hint: str) -> None:
    pilot_in(tmp_path, info())
    assert discover(hint, {}, tmp_path) == info()


def test_the_hint_wins_over_the_variables_and_these_over_the_folder(tmp_path: Path) -> None:
    pilot_in(tmp_path, info())
    (tmp_path / "other").mkdir()
    other = str(pilot_in(tmp_path / "other", info("two")))
    both = {"PILOTFISH_CONNECTION": other, "QCG_PM_ZMQ_ADDRESS": "tcp://h:5"}
    assert discover("tcp://h:4", both, tmp_path) == "tcp://h:4"
    assert discover(None, both, tmp_path) == info("two")
    assert discover(None, {"QCG_PM_ZMQ_ADDRESS": "tcp://h:5"}, tmp_path) == "tcp://h:5"
    assert discover(None, {}, tmp_path) == info()


def test_the_newest_living_pilot_of_the_folder_is_taken(tmp_path: Path) -> None:
    pilot_in(tmp_path, info("old"), mtime_s=1000)
    pilot_in(tmp_path, info("new"), mtime_s=2000)
    pilot_in(tmp_path, info("dead", pid=ended_pid()), mtime_s=3000)
    assert discover(None, {}, tmp_path) == info("new")


def test_a_hint_at_a_dead_pilot_is_an_error_even_when_another_lives(tmp_path: Path) -> None:
    pilot_in(tmp_path, info())
    dead = pilot_in(tmp_path, info("dead", pid=ended_pid()))
    with pytest.raises(LostError, match="dead has ended"):
        discover(str(dead), {}, tmp_path)


def test_nothing_found_says_where_it_looked(tmp_path: Path) -> None:
    with pytest.raises(LostError) as caught:
        discover(None, {}, tmp_path)
    assert caught.value.where == str(tmp_path)
    assert "PILOTFISH_CONNECTION and QCG_PM_ZMQ_ADDRESS are not set" in caught.value.what


def test_of_many_pilots_that_have_ended_only_the_latest_is_named_with_what_can_be_done(tmp_path: Path) -> None:
    for number in range(5):
        pilot_in(tmp_path, info(f"old{number}", pid=ended_pid()), mtime_s=1000 + number)
    pid = ended_pid()
    pilot_in(tmp_path, info("last", pid=pid), mtime_s=2000)
    with pytest.raises(EndedError) as caught:
        discover(str(tmp_path), {}, tmp_path)
    killed = f"pilot last has ended: it was killed (no process {pid} on {socket.gethostname()})"
    assert caught.value.what == f"no running pilot found: 6 have ended, the latest: {killed}"
    assert caught.value.remedy == (
        "`pilotfish show` tells what it did; `pilotfish service --resume` or `pilotfish run --continue` goes on"
    )


def test_a_process_on_another_host_counts_as_alive(tmp_path: Path) -> None:
    assert connection.is_alive(info(host="elsewhere", pid=ended_pid()))


def test_ipc_is_best_only_on_the_same_host_and_when_its_socket_exists(tmp_path: Path) -> None:
    here = socket.gethostname()
    (tmp_path / "r.ipc").touch()
    addresses = {"plain": "tcp://p", "curve": "tcp://c", "ipc": f"ipc://{tmp_path}/r.ipc"}
    assert best_address(addresses, here) == ("ipc", addresses["ipc"])
    assert best_address(addresses, "elsewhere") == ("curve", "tcp://c")
    (tmp_path / "r.ipc").unlink()
    assert best_address(addresses, here) == ("curve", "tcp://c")
    assert best_address({"plain": "tcp://p"}, here) == ("plain", "tcp://p")
    with pytest.raises(LostError, match="--net"):
        best_address({"ipc": "ipc:///x"}, "elsewhere")


def planted_by_another(folder: Path) -> Path:
    """A newer pilot that another user has put into a folder of ours."""
    if os.geteuid() != 0:
        pytest.skip("giving a file to another user needs root")
    path = pilot_in(folder, info("trap"), mtime_s=9000)
    for each in (path.parent, path):
        os.chown(each, 65534, 65534)
    return path


def test_a_pilot_that_another_user_has_put_there_is_passed_over_and_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    pilot_in(tmp_path, info())
    trap = planted_by_another(tmp_path)
    assert discover(None, {}, tmp_path) == info()
    assert f"passed over {trap.parent}: the folder belongs to user" in caplog.text


@pytest.mark.parametrize("hint", [".", ".qcgpjm-service-trap", ".qcgpjm-service-trap/connection.json"])
def test_nobody_talks_to_it_when_it_is_all_there_is(tmp_path: Path, hint: str) -> None:
    planted_by_another(tmp_path)
    with pytest.raises((LostError, RefusedError), match="the folder belongs to user"):
        discover(hint, {}, tmp_path)


def test_a_pilot_in_a_folder_that_others_can_write_to_is_not_taken(tmp_path: Path) -> None:
    folder = pilot_in(tmp_path, info()).parent
    folder.chmod(0o770)
    with pytest.raises(RefusedError, match=r"others can write to the folder \(mode 0770\).*chmod go-w"):
        discover(str(folder), {}, tmp_path)


def test_a_named_pipe_in_the_place_of_the_file_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "c.json", 0o600)
    with pytest.raises(RefusedError, match="named pipe"):
        read(tmp_path / "c.json")


def test_a_link_to_the_file_is_followed_when_it_is_ours(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(pilot_in(tmp_path, info()))
    assert read(tmp_path / "link") == info()
    if os.geteuid() == 0:
        os.chown(tmp_path / "link", 65534, 65534, follow_symlinks=False)
        with pytest.raises(RefusedError, match="the link belongs to user"):
            read(tmp_path / "link")
