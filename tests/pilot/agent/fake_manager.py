"""The manager's end of the link to one real agent process: a real ipc socket, real frames, no scheduling."""

from __future__ import annotations

import math
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

import psutil
import zmq
from patience import PATIENCE_S

from pilotfish.pilot import leftover_processes
from pilotfish.pilot.model.ids import GrantId, JobNo, PoolId, TaskKey
from pilotfish.pilot.model.job_spec import Execution
from pilotfish.pilot.wire import connection, frames
from pilotfish.pilot.wire.ends import ends_of

POOL = PoolId(1)
AGENT, SUCCESSOR = f"agent-1-{os.getpid()}", f"agent-2-{os.getpid()}"
"""Agents are known by their names on all of a host, where others may be running these tests too."""
_LOOK_S = 0.2
"""How often it is seen whether there is still an agent that could say something."""

_AGENT = """
import sys
from pathlib import Path
from pilotfish.pilot.agent.app import run
sys.exit(run(Path(sys.argv[1]), sys.argv[2], sys.argv[3], sys.argv[4] or None))
"""


def processes_with(variable: str) -> list[int]:
    """Living processes whose environment holds `NAME=value`."""
    found = []
    for pid in psutil.pids():
        with suppress(OSError):
            if variable.encode() in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0"):
                found.append(pid)
    return found


@dataclass
class Heard:
    """Everything the agent has reported, in order."""

    hellos: list[frames.Hello] = field(default_factory=list)
    reports: list[frames.Report] = field(default_factory=list)
    byes: list[frames.Bye] = field(default_factory=list)
    beats: int = 0

    @property
    def started(self) -> list[frames.Started]:
        return [started for report in self.reports for started in report.started]

    @property
    def finished(self) -> list[frames.Finished]:
        return [finished for report in self.reports for finished in ends_of(report)]

    @property
    def revoked(self) -> list[TaskKey]:
        return [TaskKey(*key) for report in self.reports for key in report.revoked]

    @property
    def returned(self) -> list[GrantId]:
        return [grant for report in self.reports for grant in report.returned]


class FakeManager:
    """Use as a context manager; leaving it kills its agents and what they started."""

    def __init__(
        self,
        folder: Path,
        *,
        kill_grace_s: float = 0.3,
        heartbeat_s: float = 0.2,
        manager_wait_s: float = 60,
        window_s: float = math.inf,
    ) -> None:
        self.folder = folder
        self.answers = False
        """Whether everything that is heard is answered at once, as by a real manager."""
        self.heard = Heard()
        self.agents: list[subprocess.Popen[bytes]] = []
        self.agent_ids: list[str] = []
        self.epoch = "first life"
        self.connect_file = folder / "connection.json"
        self.settings = frames.Settings(
            root_wd=str(folder),
            aux_dir=str(folder),
            kill_grace_s=kill_grace_s,
            heartbeat_s=heartbeat_s,
            manager_wait_s=manager_wait_s,
            env={"QCG_PM_ZMQ_ADDRESS": "ipc:///requests", "PILOTFISH_CONNECTION": str(self.connect_file)},
            env_schemas=["slurm"],
            window_s=window_s,
        )
        self._address = f"ipc://{folder}/a.ipc"
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._identity = b""
        self._job_numbers: dict[str, JobNo] = {}
        self._next_grant = 1

    def __enter__(self) -> FakeManager:
        self.listen()
        info = connection.ConnectionFile(
            instance_id="test",
            pid=os.getpid(),
            host=socket.gethostname(),
            started_s=time.time(),
            aux_dir=str(self.folder),
            request_addresses={},
            event_addresses={},
            agent_addresses={"ipc": self._address},
        )
        connection.write(self.connect_file, info)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for agent in self.agents:
            agent.kill()
            agent.wait()
        for agent_id in self.agent_ids:
            leftover_processes.clear_after(agent_id)
        self.hang_up()
        self._context.term()

    # --- the agent's process and the link -------------------------------------------------------------------------------

    def start_agent(
        self,
        agent_id: str = AGENT,
        replaces: str = "",
        lifeline: int | None = None,
        env: Mapping[str, str] | None = None,
        before: str = "",
    ) -> subprocess.Popen[bytes]:
        env = (
            dict(os.environ) | dict(env or {}) | ({} if lifeline is None else {"PILOTFISH_LIFELINE_FD": str(lifeline)})
        )
        with open(self.folder / f"{agent_id}.log", "ab") as log:
            agent = subprocess.Popen(
                [
                    sys.executable,
                    "-c",
                    f"{before}\n{_AGENT}",
                    str(self.connect_file),
                    "n1",
                    agent_id,
                    replaces,
                    "--agent-id",
                    agent_id,
                ],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                env=env,
                pass_fds=[] if lifeline is None else [lifeline],
            )
        self.agents.append(agent)
        self.agent_ids.append(agent_id)
        return agent

    def listen(self) -> None:
        self._socket: zmq.Socket[bytes] = self._context.socket(zmq.ROUTER)
        self._socket.setsockopt(zmq.ROUTER_HANDOVER, 1)
        self._socket.setsockopt(zmq.LINGER, 0)
        self._socket.bind(self._address)

    def hang_up(self) -> None:
        self._socket.close()

    def welcome(self) -> frames.Hello:
        """Wait for a Hello and answer it."""
        count = len(self.heard.hellos)
        self.until(lambda heard: len(heard.hellos) > count)
        self.send(frames.Welcome(self.epoch, self.settings, self.heard.hellos[-1].number))
        return self.heard.hellos[-1]

    def send(self, *messages: Any) -> None:
        self.send_raw(frames.encode(list(messages)))

    def send_raw(self, frame: bytes) -> None:
        self._socket.send_multipart([self._identity, frame])

    def read(self, patience_s: float) -> bool:
        """Take in one frame; False when none comes in time."""
        if not self._socket.poll(int(patience_s * 1000)):
            return False
        self._identity, frame = self._socket.recv_multipart()
        for message in frames.decode_to_manager(frame):
            if isinstance(message, frames.Hello):
                self.heard.hellos.append(message)
                if self.answers:
                    self.send(frames.Welcome(self.epoch, self.settings, message.number))
            elif isinstance(message, frames.Report):
                self.heard.reports.append(message)
            elif isinstance(message, frames.Bye):
                self.heard.byes.append(message)
            else:
                self.heard.beats += 1
                if self.answers:
                    self.send(frames.Ack(0))
        return True

    def until(self, condition: Callable[[Heard], bool], patience_s: float = PATIENCE_S) -> Heard:
        """Read until what was heard satisfies `condition`."""
        deadline = time.monotonic() + patience_s
        while not condition(self.heard):
            are_dead = bool(self.agents) and all(agent.poll() is not None for agent in self.agents)
            if not self.read(_LOOK_S) and (are_dead or time.monotonic() > deadline):
                raise AssertionError(f"waited in vain; heard {self.heard}; log: {self.log()}")
        return self.heard

    def log(self) -> str:
        return "\n".join(path.read_text() for path in self.folder.glob("*.log"))

    # --- orders ---------------------------------------------------------------------------------------------------------

    def grant(
        self,
        cores: Sequence[str] = ("0",),
        *,
        pool: PoolId = POOL,
        gpus: Sequence[str] = (),
        bind: bool = False,
        mem_bytes: int = 0,
        more_nodes: Sequence[frames.NodeShare] = (),
        hide_gpus: bool = False,
    ) -> frames.NewGrant:
        number = GrantId(self._next_grant)
        self._next_grant += 1
        nodes = [frames.NodeShare("n1", list(cores), list(gpus)), *more_nodes]
        return frames.NewGrant(number, pool, nodes, bind, mem_bytes, hide_gpus)

    def job(
        self, name: str, execution: Execution, *, wt_s: float | None = None, is_iteration: bool = False
    ) -> frames.JobDef:
        number = self._job_numbers.setdefault(name, JobNo(len(self._job_numbers) + 1))
        return frames.JobDef(number, name, execution, wt_s, is_iteration)

    def work(
        self,
        jobs: Sequence[frames.JobDef],
        grants: Sequence[frames.NewGrant],
        tasks: Mapping[PoolId, Sequence[frames.TaskStart]],
    ) -> None:
        self.send(frames.Work(list(jobs), list(grants), {pool: list(starts) for pool, starts in tasks.items()}))

    def start(
        self, execution: Execution, *, wt_s: float | None = None, grant: frames.NewGrant | None = None
    ) -> TaskKey:
        """Order one job without iterations, on a grant of its own."""
        job = self.job(f"job{len(self._job_numbers)}", execution, wt_s=wt_s)
        self.work([job], [grant or self.grant()], {POOL: [frames.TaskStart(job.job_no, 0, 1, None, None)]})
        return TaskKey(job.job_no, 0, 1)

    def finished(self, key: TaskKey) -> frames.Finished:
        """Wait for the end of one task."""

        def ends(heard: Heard) -> list[frames.Finished]:
            return [finished for finished in heard.finished if finished[:3] == key]

        self.until(lambda heard: bool(ends(heard)))
        return ends(self.heard)[0]

    def run(self, execution: Execution, **options: Any) -> frames.Finished:
        """Start one task and wait for its end."""
        return self.finished(self.start(execution, **options))

    def started(self, key: TaskKey) -> frames.Started:
        """Wait until a task is reported as started."""

        def starts(heard: Heard) -> list[frames.Started]:
            return [started for started in heard.started if started[:3] == key]

        self.until(lambda heard: bool(starts(heard)))
        return starts(self.heard)[0]


def iterations(job: frames.JobDef, count: int, first: int = 0) -> list[frames.TaskStart]:
    """Starts of the tasks first..first+count-1 of an iteration job."""
    return [frames.TaskStart(job.job_no, pos, 1, pos, str(pos)) for pos in range(first, first + count)]
