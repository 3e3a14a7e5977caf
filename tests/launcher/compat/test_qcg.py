"""What only QCG-PilotJob's programs ask for: its executor, its service as a class and as a command, its client."""

from __future__ import annotations

import json
import multiprocessing
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import zmq
from patience import PATIENCE_MS, PATIENCE_S

from pilotfish.api.errors import ConnectionError, TimeoutElapsed, WrongArgumentsError
from pilotfish.launcher.compat.qcg import auxdir, client, service
from pilotfish.launcher.compat.qcg.executor import BasicTemplate, QCGPJExecutor, QCGPJTemplate
from pilotfish.launcher.compat.qcg.service import QCGPMService, QCGPMServiceProcess, with_plain_endpoint
from pilotfish.pilot.model.errors import LostError


@pytest.fixture
def executor(wd: Path) -> Iterator[QCGPJExecutor]:
    with QCGPJExecutor("--id", "pilot", wd=str(wd), resources=2, log_level="debug") as pilot:
        yield pilot


class Script(QCGPJTemplate):
    @staticmethod
    def template() -> str:
        return """
            {'name': '$name', 'execution': {'script': '''$script''', 'stdout': '$name.out'}}
        """


# --- executor ---------------------------------------------------------------------------------------------------------


def test_a_task_of_a_template_gets_its_parameters_and_its_job_s_name(executor: QCGPJExecutor, wd: Path) -> None:
    """Keyword arguments win over dictionaries, later dictionaries over earlier ones, all over the template's defaults."""
    script = "echo $0 $1 $QCG_PM_EXEC_API_JOB_ID"
    common = {"exec": "/bin/sh", "args": ["-c", script, "x", "y"], "name": "wrong"}
    future = executor.submit(BasicTemplate.template, None, {"stdout": "wrong"}, common, name="one", stdout="one.out")
    assert future.result() == {"one": "SUCCEED"}
    assert (future.ids, future.done(), future.running()) == (["one"], True, False)
    assert (wd / "one.out").read_text() == "x y one\n"
    assert (wd / "stderr").read_text() == ""


def test_a_template_may_be_text_alone_and_have_a_script(executor: QCGPJExecutor, wd: Path) -> None:
    assert executor.submit(Script.template, name="s", script="echo hello").result() == {"s": "SUCCEED"}
    assert (wd / "s.out").read_text() == "hello\n"


def test_a_future_tells_a_failure_a_cancel_and_that_time_is_over(executor: QCGPJExecutor) -> None:
    assert executor.submit(Script.template, name="bad", script="exit 3").result() == {"bad": "FAILED"}
    future = executor.submit(Script.template, name="long", script=f"sleep {PATIENCE_S}")
    with pytest.raises(TimeoutElapsed):
        future.result(timeout=0.01)
    assert (future.done(), future.cancelled()) == (False, False)
    assert future.cancel()
    assert future.cancel()
    assert (future.result(), future.cancelled()) == ({"long": "CANCELED"}, True)


def test_the_end_of_the_block_waits_for_the_work(wd: Path) -> None:
    with QCGPJExecutor(wd=str(wd), resources="n1:1,n2:1", reserve_core=True) as executor:
        assert executor.qcgpj_manager.resources()["total_nodes"] == 2
        executor.submit(Script.template, name="a", script="sleep 0.2; echo done")
    executor.shutdown()
    assert (wd / "a.out").read_text() == "done\n"
    assert "request submit" in (wd / "api.log").read_text()
    assert "'--nodes', 'n1:1,n2:1', '--system-core'" in (wd / "executor_api.log").read_text()


def test_what_makes_no_job_is_refused(executor: QCGPJExecutor) -> None:
    with pytest.raises(KeyError, match="exec"):
        executor.submit(BasicTemplate.template, name="a")
    with pytest.raises(WrongArgumentsError, match=r"template: is no Python literal: \"{'name': open\('x'\)}"):
        executor.submit(lambda: "{'name': open('x')}")
    with pytest.raises(WrongArgumentsError, match="template: has no execution"):
        executor.submit(lambda: "{'name': 'x'}")


# --- service ----------------------------------------------------------------------------------------------------------


def ask(address: str, request: dict[str, Any]) -> Any:
    """As a client that knows nothing of Pilotfish."""
    with zmq.Context() as context, context.socket(zmq.REQ) as socket:
        socket.linger = 0
        socket.rcvtimeo = PATIENCE_MS
        socket.connect(address)
        socket.send_json(request)
        return socket.recv_json()


def test_a_service_in_a_child_tells_its_address_and_ends_with_its_code(wd: Path) -> None:
    queue: Any = multiprocessing.Queue()
    process = QCGPMServiceProcess(["--net", "--nodes", 2, "--wd", wd], queue)
    process.start()
    (address,) = queue.get(timeout=PATIENCE_S)["zmq_addresses"]
    assert ask(address, {"request": "resourcesInfo"})["data"]["total_cores"] == 2
    ask(address, {"request": "finish"})
    process.join(PATIENCE_S)
    assert process.exitcode == 0


def test_a_service_that_does_not_start_says_why_in_the_queue(wd: Path) -> None:
    queue: Any = multiprocessing.Queue()
    process = QCGPMServiceProcess(["--net", "--envschema", "unknown", "--wd", wd], queue)
    process.start()
    assert 'environment "unknown" not available' in queue.get(timeout=PATIENCE_S)["error"]
    process.join(PATIENCE_S)


def test_services_of_one_host_join_a_governor_by_its_address_and_all_their_cores_count(
    wd: Path, wait_until: Callable[..., None]
) -> None:
    queue: Any = multiprocessing.Queue()
    governor = QCGPMServiceProcess(["--governor", "--wd", wd], queue)
    governor.start()
    (address,) = queue.get(timeout=PATIENCE_S)["zmq_addresses"]
    members = [
        QCGPMServiceProcess(["--parent", address, "--nodes", f"n0:{cores}", "--wd", wd], queue) for cores in (1, 2)
    ]
    for member in members:
        member.start()
        assert queue.get(timeout=PATIENCE_S) == {"zmq_addresses": [address]}
    wait_until(lambda: ask(address, {"request": "resourcesInfo"})["data"]["free_cores"] == 3, "not all have joined")
    ask(address, {"request": "finish"})
    for process in (governor, *members):
        process.join(PATIENCE_S)
        assert process.exitcode == 0


def test_a_parent_that_does_not_answer_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service, "_ANSWER_S", 0.1)
    with pytest.raises(ConnectionError, match=r"Failed to connect to tcp://127\.0\.0\.1:1 "):
        with_plain_endpoint(["--parent", "127.0.0.1:1"])


def test_a_service_as_an_object_runs_a_file_of_requests(wd: Path) -> None:
    job = {"name": "a", "execution": {"exec": "true"}, "resources": {"numCores": {"exact": 1}}}
    requests = [{"request": "submit", "jobs": [job]}, {"request": "control", "command": "finishAfterAllTasksDone"}]
    (wd / "requests.json").write_text(json.dumps(requests))
    runner = QCGPMService(["--file-path", wd / "requests.json", "--nodes", "2", "--wd", wd])
    runner.start()
    assert (runner.exit_code, runner.addresses) == (0, [])
    (report,) = auxdir.find_report_files(wd)
    assert json.loads(Path(report).read_text())["state"] == "SUCCEED"


def test_plain_tcp_is_opened_only_where_a_network_interface_is_asked_for() -> None:
    assert with_plain_endpoint(["--net-port", 5555]) == ["--net-port", "5555", "--net-plain"]
    assert with_plain_endpoint(["--file", "--nodes", "2"]) == ["--file", "--nodes", "2"]


def test_the_old_commands_start_a_service_and_ask_it(wd: Path) -> None:
    """Below `pilotfish with`: `python -m qcg.pilotjob.service`, `qcg-pm` by folder and by address, also after the end."""
    script = """
python3 -m qcg.pilotjob.service --net --nodes 2 --wd . --id x 2>warning &
until [ -s .qcgpjm-service-x/address ]; do sleep 0.02; done
address=$(cat .qcgpjm-service-x/address)
QCG_PJM_DIR=. qcg-pm status | head -n 1
qcg-pm --address ${address#tcp://} status | grep TotalNodes
python3 -c "
from qcg.pilotjob.api.job import Jobs
from qcg.pilotjob.api.manager import Manager
pilot = Manager('$address')
pilot.submit(Jobs().add(name='a', exec='true'))
pilot.wait4all()
pilot.finish()
"
wait $!
echo $?
qcg-pm status | grep TotalNodes
qcg-pm-report stats . | grep 'total jobs'
"""
    command = [sys.executable, "-m", "pilotfish", "with", "qcg", "--", "sh", "-c", script]
    done = subprocess.run(command, cwd=wd, capture_output=True, text=True, check=False, timeout=PATIENCE_S)
    assert (done.stdout.splitlines(), done.stderr) == (
        ["[System]", "TotalNodes=1", "0", "TotalNodes=1", "\t          total jobs: 1"],
        "the pilot has ended; this is what it said last\n",
    )


def test_the_status_of_an_original_that_has_ended_is_what_it_wrote_last(
    wd: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = wd / ".qcgpjm-service-old"
    folder.mkdir()
    with pytest.raises(LostError):
        client.qcgpjm(["-p", str(wd), "status"], standalone_mode=False)
    (folder / "final_status.json").write_text(
        json.dumps({"System": {"InstanceId": "old"}, "JobStats": {"TotalJobs": 5}})
    )
    client.qcgpjm(["-p", str(wd), "status"], standalone_mode=False)
    out = capsys.readouterr().out.splitlines()
    assert out[:2] == ["[System]", "InstanceId=old"]
    assert "TotalJobs=5" in out


# --- folders ----------------------------------------------------------------------------------------------------------


def test_the_folders_of_runs_are_found(wd: Path) -> None:
    for name in ("b", "a"):
        (wd / f".qcgpjm-service-{name}").mkdir()
        (wd / f".qcgpjm-service-{name}" / "service.log").touch()
    (wd / ".qcgpjm-client").mkdir()
    (wd / "rtimes_n0_1.log").touch()
    newest = wd / ".qcgpjm-service-a"
    assert auxdir.find_latest_aux_dir(wd) == auxdir.is_aux_dir(newest) == str(newest)
    assert sorted(auxdir.find_log_files(wd)) == [f"{wd}/.qcgpjm-service-{name}/service.log" for name in "ab"]
    assert (auxdir.find_rtimes_files(wd), auxdir.find_proc_traces_files(wd)) == ([f"{wd}/rtimes_n0_1.log"], [])
    assert auxdir.is_aux_dir(wd / ".qcgpjm-client") is None
    with pytest.raises(ValueError, match=r"expected one folder \.qcgpjm-service-\*, found 2"):
        auxdir.find_single_aux_dir(wd)
    with pytest.raises(ValueError, match="there is no folder"):
        auxdir.find_latest_aux_dir(newest)
