"""The agent's connection: one of several ways, and what a broken one may have lost."""

from __future__ import annotations

import base64
import socket
from pathlib import Path

import msgspec
import pytest
from fake_manager import POOL, FakeManager

from pilotfish.pilot.model.errors import UsageError
from pilotfish.pilot.model.job_spec import Execution
from pilotfish.pilot.wire import connection, frames


def test_work_that_comes_before_the_answer_to_the_latest_hello_is_not_started(manager: FakeManager) -> None:
    """The manager that sent it had not read that Hello, and will give the task again: twice would be once too often."""
    manager.send(frames.WhoAreYou("second life"))
    count = len(manager.heard.hellos)
    manager.until(lambda heard: len(heard.hellos) > count)
    job = manager.job("early", Execution(exec="true"))
    manager.work([job], [manager.grant()], {POOL: [frames.TaskStart(job.job_no, 0, 1, None, None)]})
    manager.send(frames.Welcome("second life", manager.settings, manager.heard.hellos[-1].number))
    late = manager.start(Execution(exec="true"))
    assert manager.finished(late).exit_code == 0
    assert [end.job_no for end in manager.heard.finished] == [late.job_no]


def test_a_broken_connection_brings_a_hello(manager: FakeManager) -> None:
    count = len(manager.heard.hellos)
    manager.hang_up()
    manager.listen()
    manager.until(lambda heard: len(heard.hellos) > count)
    assert manager.heard.hellos[-1].number > manager.heard.hellos[count - 1].number


def _info(**more: object) -> connection.ConnectionFile:
    values = {"instance_id": "x", "pid": 1, "host": "elsewhere", "started_s": 0.0, "aux_dir": "/x"}
    endpoints = {"request_addresses": {}, "event_addresses": {}, "agent_addresses": {"ipc": "ipc:///x/agents.ipc"}}
    return msgspec.convert(values | endpoints | more, connection.ConnectionFile)


def test_ways_of_an_agent_on_another_host_are_the_addresses_in_turn() -> None:
    info = _info(agent_endpoints=("tcp://head:1", "tcp://10.0.0.1:1"))
    assert connection.agent_ways(info) == [("curve", "tcp://head:1"), ("curve", "tcp://10.0.0.1:1")]


def test_an_agent_on_the_managers_host_takes_the_ipc_door_first(tmp_path: Path) -> None:
    endpoint = tmp_path / "agents.ipc"
    endpoint.touch()
    info = _info(
        host=socket.gethostname(), agent_addresses={"ipc": f"ipc://{endpoint}"}, agent_endpoints=("tcp://head:1",)
    )
    assert connection.agent_ways(info) == [("ipc", f"ipc://{endpoint}"), ("curve", "tcp://head:1")]


def test_the_variable_is_used_only_where_the_file_is_not(tmp_path: Path) -> None:
    text = connection.as_variable(_info(agent_endpoints=("tcp://head:1",)))
    file = tmp_path / "connection.json"
    assert connection.for_agent(file, text).agent_endpoints == ("tcp://head:1",)
    connection.write(file, _info(agent_endpoints=("tcp://new:2",)))
    assert connection.for_agent(file, text).agent_endpoints == ("tcp://new:2",)


@pytest.mark.parametrize("text", ["", "nonsense!", base64.b64encode(b'{"pid": 1}').decode()])
def test_a_variable_with_something_else_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(UsageError, match="PILOTFISH_CONNECT"):
        connection.for_agent(tmp_path / "none", text)
