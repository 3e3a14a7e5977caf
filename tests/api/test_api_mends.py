"""Ways in which a program could hang, lose an ending, or be told of the wrong thing."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from patience import PATIENCE_S

from pilotfish.api.errors import ConnectionError, PilotfishError, ServiceError
from pilotfish.api.jobs import Jobs
from pilotfish.api.local import LocalManager
from pilotfish.api.manager import Manager
from pilotfish.pilot.wire import connection
from pilotfish.pilot.wire.events import OldEvent

QUIET = {"log_file": os.devnull, "connect_timeout": 0.05}


def start(wd: Path) -> LocalManager:
    return LocalManager(["--wd", str(wd), "--nodes", "2"], {"log_file": os.devnull})


def all_ended(pilot: LocalManager) -> bool:
    return all(Manager.is_status_finished(entry["status"]) for entry in pilot.list().values())


def test_every_ending_is_told_once_also_those_between_two_waits(wd: Path, wait_until: Callable[..., None]) -> None:
    """The old API's loop over wait4_any_job_finish: its subscription lasted as long as the Manager."""
    with start(wd) as pilot:
        names = pilot.submit(Jobs().add(name="a", exec="true").add(name="b", exec="true").add(name="c", exec="true"))
        wait_until(lambda: all_ended(pilot), "all have ended")
        endings = {pilot.wait4_any_job_finish(PATIENCE_S) for _ in names}
    assert endings == {("a", "SUCCEED"), ("b", "SUCCEED"), ("c", "SUCCEED")}


def test_a_stream_of_other_endings_does_not_keep_a_waiter_from_looking(
    wd: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An ending that no event told of is found by looking, however many other events come."""
    other = OldEvent("m", "other", "FAILED")
    monkeypatch.setattr("pilotfish.api.subscription.Subscription.events", lambda *_: iter([other]))
    with start(wd) as pilot, closing(pilot._looks(("JFI",), 1.0)) as looks:
        found = list(looks)
    assert found[0] is None
    assert found[1] == [("other", "FAILED")]
    assert None in found[1:]


def test_an_exception_comes_through_when_the_manager_does_not_answer(wd: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pilotfish.api.local._TERM_WAIT_S", 0.2)

    def program() -> None:
        with start(wd) as pilot:
            pilot._channel._timeout_s = 0.2
            os.kill(connection.read(pilot.connection_file).pid, signal.SIGSTOP)  # alive, and silent
            raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        program()


def test_a_failed_start_leaves_no_descriptor_open(wd: Path) -> None:
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(3):
        with pytest.raises(ServiceError):
            LocalManager(["--wd", str(wd), "--no-such-option"], {"log_file": os.devnull})
    assert len(os.listdir("/proc/self/fd")) <= before


def test_a_start_with_a_wrong_argument_is_told_apart_from_one_that_failed(wd: Path) -> None:
    with pytest.raises(ServiceError, match=r'--nodes: entry 1: "x" is not a number of cores') as wrong:
        LocalManager(["--wd", str(wd), "--nodes", "n1:x"], {"log_file": os.devnull})
    with pytest.raises(ServiceError, match="the auxiliary folder cannot be made") as failed:
        LocalManager(["--wd", "/proc/none"], {"log_file": os.devnull})
    assert (wrong.value.code, failed.value.code) == ("settings", "error")


def test_where_no_pilot_is_one_learns_how_to_name_it(wd: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(wd)
    monkeypatch.delenv("QCG_PM_ZMQ_ADDRESS", raising=False)
    with pytest.raises(
        ConnectionError, match="there is no pilot in this folder; name the one you mean: --connect FOLDER"
    ):
        Manager(None, {"connect_timeout": 0.2})


@pytest.mark.parametrize("address", ["/no/such/connection.json", "./no-such-folder"])
def test_a_path_that_does_not_exist_is_not_taken_for_a_host(address: str) -> None:
    with pytest.raises(PilotfishError, match="no such connection file"):
        Manager(address, QUIET)


def test_an_address_that_zeromq_cannot_use_is_a_connection_error() -> None:
    with pytest.raises(ConnectionError, match="nonsense://x"):
        Manager("nonsense://x", QUIET)


def test_the_old_address_variable_may_leave_out_the_protocol(monkeypatch: pytest.MonkeyPatch, wd: Path) -> None:
    """It must never lead to another pilot than the one it names."""
    monkeypatch.chdir(wd)
    monkeypatch.setenv("QCG_PM_ZMQ_ADDRESS", "127.0.0.1:9")
    with pytest.raises(ConnectionError, match=r"tcp://127\.0\.0\.1:9\b"):
        Manager(None, QUIET)


def test_waiting_for_nothing_is_over_at_once(wd: Path) -> None:
    with start(wd) as pilot:
        assert pilot.wait4([]) == {}


def test_a_closed_manager_says_so(wd: Path) -> None:
    with start(wd) as pilot:
        other = Manager(str(pilot.connection_file), {"log_file": os.devnull})
        other.close()
        other.close()
        with pytest.raises(ConnectionError):
            other.list()
