"""Every command on every hostile site goes on, or ends with one line that says why; its exit code tells of the work only."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Collection, Iterable, Iterator
from itertools import cycle
from pathlib import Path

import pytest
import sites
from patience import PATIENCE_S, THOROUGH, only_when_thorough, wait_until
from real_pilot import Pilot
from sites import Said, Site

LOCAL = """
import sys
from pilotfish import Jobs, LocalManager
from pilotfish.api.errors import PilotfishError
try:
    with LocalManager(["--wd", ".", "--nodes", "1"], {"log_file": "/dev/null"}) as pilot:
        pilot.submit(Jobs().add(name="a", exec="touch", args=[sys.argv[1]]))
        pilot.wait4("a")
except (PilotfishError, OSError) as error:
    sys.exit(f"Error: {error}")
"""
WORK = {
    "run": "pilotfish run -q --nodes 1 --no-output ../tasks.txt",
    "service": "pilotfish service --wd . --nodes 1 --file-path ../requests.json",
    "LocalManager": "python ../local.py $(dirname $PWD)/done",
    "resume": "pilotfish run -q --resume . --nodes 1 --no-output ../tasks.txt",
    "continue": "pilotfish run -q --continue --nodes 1 --no-output ../tasks.txt",
}
"""Commands whose work is to make the file `done`."""
CLIENTS = {
    "submit": "pilotfish submit -c {pilot} ../tasks.txt",
    "jobs": "pilotfish jobs -c {pilot}",
    "status": "pilotfish status -c {pilot}",
    "info": "pilotfish info -c {pilot} held",
    "cancel": "pilotfish cancel -c {pilot} held",
    "remove": "pilotfish remove -c {pilot} held",
    "resources": "pilotfish resources -c {pilot}",
    "resources --here": "pilotfish resources --here --nodes 2",
    "finish": "pilotfish finish -c {pilot} --kill",
}
"""Commands to a pilot elsewhere."""
REQUESTS = [
    {"request": "submit", "jobs": [{"name": "a", "execution": {"exec": "sh", "args": ["-c", ". ../tasks.txt"]}}]},
    {"request": "control", "command": "finishAfterAllTasksDone"},
]


def by_name(*names: str) -> list[Site]:
    return [next(site for site in sites.SITES if site.name == name) for name in names]


FEW = by_name("16 KiB left", "3 inodes left", "ulimit -n 24", "no streams", "no processes")
"""One for each thing that runs out: room, names, descriptors, streams, processes."""
SOME = by_name("no streams", "ulimit -n 12")
ALL = os.environ.get("PILOTFISH_TEST_SITES") == "all"
"""Every command on every site: about 1,100 tests."""


def pairs(commands: Collection[str], few: Iterable[tuple[Site, str]], always: Iterable[str] = ()) -> list[object]:
    """Sites and commands to try: `few`; when thorough each site with `always` and one other, so each command on many sites."""
    turns = cycle(name for name in commands if name not in always)
    every = [(site, name) for site in sites.SITES for name in (commands if ALL else [*always, next(turns)])]
    return [pytest.param(site, name, id=f"{name}: {site.name}") for site, name in (every if ALL or THOROUGH else few)]


def prepared(folder: Path) -> None:
    (folder / "tasks.txt").write_text(f"touch {folder}/done\n")
    (folder / "local.py").write_text(LOCAL)
    (folder / "requests.json").write_text(json.dumps(REQUESTS))


@pytest.mark.parametrize(("site", "command"), pairs(WORK, [(site, "run") for site in FEW], ["run"]))
def test_work_is_done_or_one_line_says_why_not(wd: Path, site: Site, command: str) -> None:
    prepared(wd)
    with sites.made(site, wd) as (folder, environ):
        if command in ("resume", "continue"):
            earlier = sites.shell(Site(""), folder, dict(os.environ), "pilotfish run -q --nodes 1 --no-output -- true")
            assert earlier.code == 0
        sites.worsen(site, folder)
        said = sites.shell(site, folder, environ, WORK[command])
        said.check(site, (wd / "done").exists())
        left = [path for path in folder.glob(".qcgpjm-service-*") if command not in ("resume", "continue")]
        assert said.code == 0 or left == []
        for path in folder.glob(".qcgpjm-service-*/*"):
            assert path.stat().st_mode & 0o077 == 0, path
            assert path.is_dir() or "Traceback" not in path.read_text(errors="replace")


@pytest.fixture(scope="module")
def pilot(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[], Pilot]]:
    """A pilot on a good site, with a job that has ended; a new one when the last has been told to finish."""
    living: list[Pilot] = []

    def one() -> Pilot:
        if living and living[0].process.poll() is None:
            return living[0]
        unmarked = {name: value for name, value in os.environ.items() if name != "PILOTFISH_TEST"}
        living[:] = [Pilot(tmp_path_factory.mktemp("p"), "--nodes", "1", environ=unmarked)]
        client = living[0].client()
        client.send_request({"request": "submit", "jobs": [{"name": "held", "execution": {"exec": "true"}}]})
        client.wait4("held", PATIENCE_S)
        client.cleanup()
        return living[0]

    yield one
    for each in living:
        each.process.terminate()
        each.process.wait()


@pytest.mark.parametrize(
    ("site", "command"), pairs(CLIENTS, [(site, name) for site in SOME for name in ("status", "resources --here")])
)
def test_a_command_to_a_pilot_is_carried_out_or_one_line_says_why_not(
    wd: Path, site: Site, command: str, pilot: Callable[[], Pilot]
) -> None:
    prepared(wd)
    asked = pilot() if "{pilot}" in CLIENTS[command] else None
    with sites.made(site, wd) as (folder, environ):
        sites.worsen(site, folder)
        said = sites.shell(site, folder, environ, CLIENTS[command].format(pilot=asked.aux if asked else ""))
        said.check(site, done=True)
    if command == "finish" and said.code == 0 and asked is not None:
        assert asked.process.wait(PATIENCE_S) == 0


@pytest.mark.parametrize("site", sites.SITES[::4] if THOROUGH else SOME[1:], ids=lambda site: site.name)
def test_an_agent_serves_or_one_line_says_why_not(wd: Path, site: Site) -> None:
    prepared(wd)
    (wd / "pilot").mkdir()
    governor = Pilot(wd / "pilot", "--governor")
    governor.client().send_request(
        {"request": "submit", "jobs": [{"name": "a", "execution": {"exec": "touch", "args": [str(wd / "done")]}}]}
    )
    finishes = subprocess.Popen([sys.executable, "-c", FINISHER, str(governor.aux), str(wd / "over")])
    with sites.made(site, wd) as (folder, environ):
        sites.worsen(site, folder)
        said = sites.shell(site, folder, environ, f"pilotfish agent -c {governor.aux} --nodes m:1")
    (wd / "over").touch()
    governor.process.terminate()
    governor.process.wait()
    finishes.wait()
    said.check(site, (wd / "done").exists())


FINISHER = """
import os, sys, time
from pilotfish import Manager
pilot = Manager(sys.argv[1], {"log_file": "/dev/null"})
while not os.path.exists(sys.argv[2]):
    try:
        pilot.wait4all(0.1)
    except TimeoutError:
        continue
    except Exception:
        break
    try:
        pilot.send_request({"request": "finish", "options": {"delay": 0}})
    finally:
        break
"""


# --- single sites ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "site", [*sites.DISKS[:5], *sites.INODES[:8]] if THOROUGH else sites.INODES[2:3], ids=lambda site: site.name
)
def test_a_killed_pilot_is_resumed_when_there_is_room_again(wd: Path, site: Site) -> None:
    """It has accepted work, so it waits, and says so once."""
    with sites.made(site, wd) as (folder, _):
        pilot = Pilot(folder, "--nodes", "1", "--id", "p")
        client = pilot.client()
        client.send_request({"request": "submit", "jobs": [{"name": "a", "execution": {"exec": "true"}}]})
        client.wait4("a", PATIENCE_S)
        pilot.kill()
        for agent in pilot.agents():
            agent.kill()
        sites.worsen(site, folder)
        words = [sys.executable, "-m", "pilotfish", "service", "--resume", str(pilot.aux), "--nodes", "1"]
        with open(wd / "said", "wb") as said:
            resumed = subprocess.Popen(words, stderr=said)
        line = f"{pilot.aux}: No space left on device: going on when there is room\n"
        wait_until(lambda: (wd / "said").read_text() == line, "it says that it waits", of=resumed)
        sites.better(folder)
        wait_until(lambda: "service.log" in os.listdir(pilot.aux) and client_answers(pilot), "it goes on", of=resumed)
        resumed.send_signal(signal.SIGTERM)
        assert resumed.wait(PATIENCE_S) == 128 + signal.SIGTERM
        assert (wd / "said").read_text() == line


def client_answers(pilot: Pilot) -> bool:
    try:
        client = pilot.client()
    except Exception:
        return False
    states = client.list()
    client.cleanup()
    return bool(states["a"]["status"] == "SUCCEED")


@only_when_thorough
@pytest.mark.parametrize("site", sites.LOCKS, ids=lambda site: site.name)
def test_without_locks_a_second_pilot_of_a_folder_is_refused_and_a_dead_one_s_is_taken_over(
    wd: Path, site: Site
) -> None:
    environ = {**os.environ, "LD_PRELOAD": str(sites.compiled()), **site.shim}
    pilot = Pilot(wd, "--nodes", "1", "--id", "p", environ=environ)
    client = pilot.client()
    (warning,) = client.system_status()["System"]["Warnings"]
    client.cleanup()
    assert "there are no file locks here" in warning
    second = sites.shell(site, wd, dict(os.environ), "pilotfish service --resume . --nodes 1")
    assert (second.code, second.err) == (
        1,
        f"Error: {pilot.aux}/journal.pilotfish: another manager, process {pilot.process.pid}, works with this journal; "
        "stop that one first\n",
    )
    pilot.kill()
    pilot.resume()
    assert pilot.finish() == 0
    assert not list(pilot.aux.glob("*.held*"))


def test_a_torn_journal_is_told_on_stderr_and_in_the_status(wd: Path) -> None:
    pilot = Pilot(wd, "--nodes", "1", "--id", "p")
    pilot.kill()
    with open(pilot.aux / "journal.pilotfish", "ab") as journal:
        journal.write(bytes(10))
    said = sites.shell(Site(""), wd, dict(os.environ), "pilotfish run --resume . -- true")
    assert said.code == 0
    (warning,) = [line for line in said.err.splitlines() if line.startswith("Warning: ")]
    assert "its last 10 bytes were not whole and are cut off" in warning
    final = json.loads((pilot.aux / "final_status.json").read_bytes())
    assert final["System"]["Warnings"] == [warning.removeprefix("Warning: ")]


def test_an_emptied_journal_is_not_resumed(wd: Path) -> None:
    pilot = Pilot(wd, "--nodes", "1", "--id", "p")
    pilot.kill()
    (pilot.aux / "journal.pilotfish").write_bytes(b"")
    said = sites.shell(Site(""), wd, dict(os.environ), "pilotfish service --resume .")
    assert said == Said(
        1,
        "",
        f"Error: {pilot.aux}/journal.pilotfish: the journal is empty: what was in it is lost; restore it from a copy, or "
        "start a new pilot without --resume\n",
    )
    for agent in pilot.agents():
        agent.kill()


def test_a_run_of_the_original_that_makes_no_sense_is_named_and_nothing_is_left_in_its_folder(wd: Path) -> None:
    aux = wd / ".qcgpjm-service-host.1"
    aux.mkdir(mode=0o700)
    (aux / "track.reqs").write_text("{}\n")
    said = sites.shell(Site(""), wd, dict(os.environ), "pilotfish service --resume .")
    assert (said.code, said.err) == (
        1,
        f"Error: {aux}/track.reqs: line 1: jobs[0].name: Missing name in job description; "
        'give each job a "name" of its own\n',
    )
    assert os.listdir(aux) == ["track.reqs"]


# --- what an orderly end leaves -------------------------------------------------------------------------------------------


@pytest.fixture
def ended(wd: Path) -> Pilot:
    """A pilot with keys that has done a job and ended."""
    pilot = Pilot(wd, "--nodes", "1", "--net", "--net-interface", "127.0.0.1")
    assert json.loads((pilot.aux / "connection.json").read_bytes())["client_secret_key"]
    client = pilot.client()
    client.send_request({"request": "submit", "jobs": [{"name": "a", "execution": {"exec": "true"}}]})
    client.wait4("a", PATIENCE_S)
    client.cleanup()
    assert pilot.finish() == 0
    return pilot


def test_keys_and_values_of_variables_do_not_stay(ended: Pilot) -> None:
    left = json.loads((ended.aux / "connection.json").read_bytes())
    keys = [left[f"{name}_key"] for name in ("server_public", "client_public", "client_secret")]
    assert (keys, left["ended"]) == (["", "", ""], True)
    assert not (ended.aux / "agents.json").exists()
    names = (ended.aux / "env.log").read_text().splitlines()
    assert "PATH" in names
    assert not [name for name in names if "=" in name]


def test_an_ended_pilot_has_new_keys_when_it_is_resumed(ended: Pilot) -> None:
    ended.resume()
    assert json.loads((ended.aux / "connection.json").read_bytes())["client_secret_key"]
    client = ended.client()
    assert client.list()["a"]["status"] == "SUCCEED"
    client.cleanup()
    assert ended.finish() == 0


@pytest.mark.parametrize("where", ["", "-c .", "-c {aux}"] if THOROUGH else [""])
def test_the_status_of_an_ended_pilot_is_what_it_said_last(ended: Pilot, where: str) -> None:
    said = sites.shell(Site(""), ended.wd, dict(os.environ), f"pilotfish status --json {where.format(aux=ended.aux)}")
    assert (said.code, said.err) == (0, f"the pilot has ended; this is what {ended.aux} says\n")
    assert json.loads(said.out) == {"version": 1} | json.loads((ended.aux / "final_status.json").read_bytes())
    for line, code in (("status --all-finished", 0), ("status a", 3), ("jobs", 3), ("finish", 3)):
        other = sites.shell(Site(""), ended.wd, dict(os.environ), f"pilotfish {line} -c .")
        assert (other.code, "has ended" in other.err) == (code, code == 3)


def test_a_folder_without_a_pilot_is_said_at_once(wd: Path) -> None:
    """Nobody is waited for; the old default address is asked only when somebody listens there."""
    said = sites.shell(Site(""), wd, dict(os.environ), "pilotfish info x")
    assert said.code == 3
    assert said.err.startswith(f"Error: {wd}: no running pilot found: ")
    assert "no answer" not in said.err


def test_the_folder_of_the_sockets_goes_with_them(wd: Path) -> None:
    """A working folder with a long path has its sockets in the temporary one."""
    temporary, deep = wd / "tmp", wd / ("d" * 90)
    temporary.mkdir()
    deep.mkdir()
    said = sites.shell(
        Site(""), deep, {**os.environ, "TMPDIR": str(temporary)}, "pilotfish run -q --nodes 1 --no-output -- true"
    )
    assert said.code == 0
    assert os.listdir(temporary) == []


# --- descriptors ----------------------------------------------------------------------------------------------------------


def test_a_pilot_with_few_descriptors_keeps_some_for_its_agent_and_its_client(wd: Path) -> None:
    """Were all of them the manager's own, each connection would be refused and tried again."""
    said = sites.shell(Site(""), wd, dict(os.environ), "ulimit -n 40; pilotfish run -q --nodes 1 --no-output -- true")
    assert said.code == 0, said.err


class FewFiles(Pilot):
    """A manager that may have 64 files open."""

    program = (
        "-c",
        "import resource; resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64)); from pilotfish.__main__ import main; main()",
    )


@pytest.mark.parametrize("endpoint", ["requests", "events", "agents"] if THOROUGH else ["requests"])
def test_more_connections_than_descriptors_end_nothing(wd: Path, endpoint: str) -> None:
    """The newest are refused; clients that are there are served, and work goes on."""
    pilot = FewFiles(wd, "--nodes", "1")
    client = pilot.client()
    held = []
    for _ in range(90):
        held.append(socket.socket(socket.AF_UNIX))
        held[-1].connect(str(pilot.aux / f"{endpoint}.ipc"))
    refused = lambda: any(readable_end(each) for each in held)  # noqa: E731
    wait_until(refused, "some are closed again", of=pilot.process)
    client.send_request({"request": "submit", "jobs": [{"name": "a", "execution": {"exec": "true"}}]})
    assert client.wait4("a", PATIENCE_S) == {"a": "SUCCEED"}
    for each in held:
        each.close()
    again = pilot.client()
    again.cleanup()
    client.cleanup()
    assert pilot.finish() == 0


def readable_end(connection: socket.socket) -> bool:
    """Whether the other end has hung up."""
    connection.setblocking(False)
    try:
        while connection.recv(4096):
            pass
    except BlockingIOError:
        return False
    except ConnectionError:
        return True
    return True
