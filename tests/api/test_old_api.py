"""What the manual of QCG-PilotJob documents of its Python API beyond the methods: files, names, defaults, empty values."""

from __future__ import annotations

import inspect
import json
import logging
import os
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path

import pytest
from patience import PATIENCE_S

import pilotfish
from pilotfish import JobInfo, Jobs, LocalManager, Manager
from pilotfish.api import errors
from pilotfish.api.errors import ConnectionError, TimeoutElapsed


@pytest.fixture
def pilot(wd: Path) -> Iterator[LocalManager]:
    with LocalManager(["--wd", str(wd), "--nodes", "2"], {"wdir": str(wd)}) as manager:
        yield manager


def test_a_plain_job_has_the_old_empty_values(pilot: LocalManager) -> None:
    pilot.submit(Jobs().add(name="plain", exec="true").add(name="many", exec="true", iteration=2))
    pilot.wait4(["plain", "many"], PATIENCE_S)
    plain, many = pilot.info_parsed(["plain", "many"], withChilds=True).values()
    assert (plain.iterations, plain.childs, len(plain.nodes)) == ({}, [], 1)
    assert (many.nodes, many.total_cores) == ({}, 0)
    assert many.iterations == {"start": 0, "stop": 2, "total": 2, "finished": 2, "failed": 0}
    assert [child.iterations for child in many.childs] == [{}, {}]


def test_the_text_of_a_jobinfo_is_json() -> None:
    runtime = {"allocation": "n0[0]", "rtime": "0:00:01.500000"}
    history = "\n2026-01-02 03:04:05: QUEUED"
    info = JobInfo.from_job({"jobName": "a", "status": "SUCCEED", "runtime": runtime, "history": history})
    shown = json.loads(str(info))
    assert list(shown)[:6] == ["name", "status", "nodes", "total_cores", "wdir", "time"]
    assert (shown["nodes"], shown["time"], shown["iterations"]) == ({"n0": ["0"]}, "0:00:01.500000", {})
    assert shown["history"] == [["2026-01-02 03:04:05", "QUEUED"]]


def test_the_defaults_are_attributes_of_the_class() -> None:
    assert Manager.DEFAULT_ADDRESS_ENV == "QCG_PM_ZMQ_ADDRESS"
    assert Manager.DEFAULT_ADDRESS == "tcp://127.0.0.1:5555"
    assert (Manager.DEFAULT_PROTO, Manager.DEFAULT_PORT) == ("tcp", "5555")
    assert (Manager.DEFAULT_POLL_DELAY, Manager.DEFAULT_PUB_TIMEOUT) == (2, 300)
    assert LocalManager.DEFAULT_PORT == Manager.DEFAULT_PORT
    assert Jobs.MAX_ITERATIONS >= 65536


def test_names_are_found_where_the_manual_has_them() -> None:
    assert import_module("pilotfish.api.manager").LocalManager is LocalManager
    assert import_module("pilotfish.api.manager").TimeStamp is pilotfish.TimeStamp
    short = import_module("pilotfish.errors")
    assert pilotfish.errors is short
    assert short.__all__ == errors.__all__
    assert all(getattr(short, name) is getattr(errors, name) for name in errors.__all__)


def test_all_errors_of_the_api_are_below_one_root() -> None:
    for name in errors.__all__:
        assert issubclass(getattr(errors, name), errors.PilotfishError)
    assert issubclass(TimeoutElapsed, TimeoutError)
    assert str(TimeoutElapsed("2 of 3 jobs have not ended in 1 s")) == "2 of 3 jobs have not ended in 1 s"


def test_the_log_of_the_client_has_requests_refusals_and_events(pilot: LocalManager, wd: Path) -> None:
    pilot.submit(Jobs().add(name="a", script="while [ ! -e go ]; do sleep 0.02; done"))
    with pytest.raises(TimeoutElapsed):
        pilot.wait4("a", 0)
    with pytest.raises(ConnectionError):
        pilot.status("none")
    (wd / "go").touch()
    pilot.wait4("a", PATIENCE_S)
    pilot.remove("none")
    text = (wd / ".qcgpjm-client" / "api.log").read_text()
    assert [line.partition(": ")[2] for line in text.splitlines()][:2] == ["request status", "request submit"]
    assert "refused: Job 'none' doesn't exist" in text
    assert "none: Job 'none' doesn't exist" in text.splitlines()[-1]


def test_at_debug_the_log_has_whole_messages(pilot: LocalManager, wd: Path) -> None:
    other = Manager(pilot.connection_file, {"log_file": str(wd / "logs" / "mine.log"), "log_level": "debug"})
    other.resources()
    other.close()
    text = (wd / "logs" / "mine.log").read_text()
    assert 'request {"request":"resourcesInfo"}' in text
    assert '"total_cores":2' in text
    assert "mine.log" not in (wd / ".qcgpjm-client" / "api.log").read_text()


def test_two_managers_do_not_write_into_each_others_log(pilot: LocalManager, wd: Path) -> None:
    other = Manager(pilot.connection_file, {"wdir": str(wd / "other")})
    other.list()
    assert "request listJobs" in (wd / "other" / ".qcgpjm-client" / "api.log").read_text()
    assert "request listJobs" not in (wd / ".qcgpjm-client" / "api.log").read_text()
    other.close()


def test_the_log_stays_out_of_the_programs_own(pilot: LocalManager, caplog: pytest.LogCaptureFixture) -> None:
    """But for problems that nothing else reports."""
    caplog.set_level(logging.DEBUG)
    pilot.list()
    assert [record for record in caplog.records if record.name.startswith("pilotfish")] == []
    pilot.cancel("none")
    assert [record.message for record in caplog.records] == ["none: Job/iteration none doesn't exist"]


def test_a_full_disk_costs_lines_of_the_log_and_nothing_else(
    pilot: LocalManager, capsys: pytest.CaptureFixture[str]
) -> None:
    other = Manager(pilot.connection_file, {"log_file": "/dev/full"})
    assert other.list() == {}
    other.close()
    assert capsys.readouterr().err == ""


def test_after_cleanup_the_pilot_answers_and_can_be_ended(wd: Path) -> None:
    """cleanup takes off the log; the connection is closed by finish."""
    pilot = LocalManager(["--wd", str(wd), "--nodes", "1"], {"wdir": str(wd)})
    before = len(os.listdir("/proc/self/fd"))
    pilot.cleanup()
    assert len(os.listdir("/proc/self/fd")) == before - 1
    pilot.cleanup()
    size = (wd / ".qcgpjm-client" / "api.log").stat().st_size
    assert pilot.resources()["total_cores"] == 1
    assert (wd / ".qcgpjm-client" / "api.log").stat().st_size == size
    pilot.finish()
    assert pilot.exit_code == 0
    with pytest.raises(ConnectionError):
        pilot.list()
    pilot.cleanup()


def test_what_wait4_has_returned_is_not_returned_again(pilot: LocalManager, wd: Path) -> None:
    jobs = Jobs()
    for name in ("u0", "u1", "u2"):
        jobs.add(name=name, exec="true")
    pilot.submit(jobs.add(name="it", exec="true", iteration=2))
    pilot.wait4("u1", PATIENCE_S)
    pilot.wait4("it", PATIENCE_S)
    assert sorted(pilot.wait4_any_job_finish(PATIENCE_S)[0] for _ in range(2)) == ["u0", "u2"]
    pilot.remove("u1")
    with pytest.raises(TimeoutElapsed):
        pilot.wait4_any_job_finish(0)


def test_after_wait4all_only_later_endings_are_returned(pilot: LocalManager) -> None:
    pilot.submit(Jobs().add(name="a", exec="true").add(name="b", exec="true"))
    pilot.wait4all(PATIENCE_S)
    with pytest.raises(TimeoutElapsed):
        pilot.wait4_any_job_finish(0)
    pilot.submit(Jobs().add(name="later", exec="false"))
    assert pilot.wait4_any_job_finish(PATIENCE_S) == ("later", "FAILED")


def test_a_notebook_is_told_by_its_shell(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not by the presence of ipykernel, which many a program imports."""

    class ZMQInteractiveShell:
        pass

    class TerminalInteractiveShell:
        pass

    class KernelOfAnotherName(ZMQInteractiveShell):
        pass

    monkeypatch.setitem(__import__("sys").modules, "ipykernel", logging)
    assert not LocalManager.is_notebook()
    for shell, expected in (
        (ZMQInteractiveShell, True),
        (TerminalInteractiveShell, False),
        (KernelOfAnotherName, True),
    ):
        ipython = type(logging)("IPython")
        ipython.get_ipython = shell  # type: ignore[attr-defined]
        monkeypatch.setitem(__import__("sys").modules, "IPython", ipython)
        assert LocalManager.is_notebook() is expected
    ipython.get_ipython = lambda: None  # type: ignore[attr-defined]
    assert not LocalManager.is_notebook()


def test_what_is_refused_with_an_old_text_still_says_what_to_do(pilot: LocalManager) -> None:
    with pytest.raises(ConnectionError) as caught:
        pilot.submit(Jobs().add(name="A_(b)", exec="true"))
    assert str(caught.value) == (
        "Request failed - Job identifier '(A_(b))' contains invalid characters or unknown variables; leave out \"(\""
    )


def test_an_iteration_of_a_plain_job_costs_only_its_own_answer(pilot: LocalManager) -> None:
    pilot.submit(Jobs().add(name="p", exec="true"))
    pilot.wait4("p", PATIENCE_S)
    for answer in (pilot.status, pilot.info):
        entries = answer(["p", "p:0"])["jobs"]
        assert entries["p"]["data"]["status"] == "SUCCEED"
        assert entries["p:0"] == {"status": 1, "message": "p:0: Job p has no iterations"}
    assert list(pilot.info_parsed(["p", "p:0"])) == ["p"]
    with pytest.raises(ConnectionError, match="Job p has no iterations"):
        pilot.wait4(["p:0"], PATIENCE_S)


SIGNATURES = {
    Manager: "address, cfg",
    Manager.cancel: "self, names",
    Manager.cleanup: "self",
    Manager.finish: "self",
    Manager.info: "self, names, **params",
    Manager.info_parsed: "self, names, **params",
    Manager.is_status_finished: "status",
    Manager.list: "self",
    Manager.remove: "self, names",
    Manager.resources: "self",
    Manager.send_request: "self, request",
    Manager.status: "self, names",
    Manager.submit: "self, jobs",
    Manager.system_status: "self",
    Manager.wait4: "self, names, timeout",
    Manager.wait4_any_job_finish: "self, timeout_secs",
    Manager.wait4all: "self, timeout_secs",
    LocalManager: "server_args, cfg, keep, hold, **options",
    LocalManager.finish: "self",
    LocalManager.is_notebook: "",
    LocalManager.kill_manager_process: "self",
    JobInfo.from_child: "job_name, child_data",
    JobInfo.from_job: "job_data",
    Jobs: "",
    Jobs.add: "self, dict_attributes, **attributes",
    Jobs.add_std: "self, dict_attributes, **attributes",
    Jobs.clear: "self",
    Jobs.job_names: "self",
    Jobs.jobs: "self",
    Jobs.load_from_file: "self, file_path",
    Jobs.ordered_job_names: "self",
    Jobs.ordered_jobs: "self",
    Jobs.remove: "self, name",
    Jobs.save_to_file: "self, file_path",
    pilotfish.TimeStamp: "manager, timeout_secs",
}


@pytest.mark.parametrize(
    ("documented", "parameters"), SIGNATURES.items(), ids=lambda value: getattr(value, "__qualname__", "")
)
def test_methods_take_the_documented_arguments(documented: Callable[..., object], parameters: str) -> None:
    signature = inspect.signature(documented).parameters.values()
    shown = [("**" if each.kind is each.VAR_KEYWORD else "") + each.name for each in signature]
    assert ", ".join(shown) == parameters


def test_an_empty_jobinfo_has_the_old_empty_values() -> None:
    info = JobInfo()
    assert [info.name, info.status, info.wdir, info.time, info.iteration, info.messages] == [None] * 6
    assert (info.nodes, info.total_cores, info.iterations, info.childs, info.history) == ({}, 0, {}, [], [])
