"""A whole pilot that a real Slurm suspends, as preemption and gang scheduling do: that is nobody's time."""

from __future__ import annotations

import json
import time
from pathlib import Path

from emulated import Slurm
from patience import wait_until

LIMIT_S = 10
PAUSE_S = 15


def test_the_time_for_which_a_job_is_suspended_is_nobodys(slurm: Slurm, wd: Path) -> None:
    """It is longer than a task may run and an agent may be silent: no task is killed, none is started again."""
    script = "echo $$$$PILOTFISH_TASK $$$$(hostname) >>runs; while [ ! -e go ]; do sleep 0.05; done"
    task = {"execution": {"script": script}, "resources": {"wt": f"{LIMIT_S}s", "numCores": {"exact": 2}}}
    (wd / "jobs.json").write_text(json.dumps([{"name": "held", "iteration": {"stop": 2}, **task}]))
    job = slurm.submit("pilotfish run jobs.json --node-lost 5", wd, "--nodes=2", "--ntasks-per-node=2")
    runs = wd / "runs"
    wait_until(lambda: runs.exists() and len(runs.read_text().split()) == 4, "a task runs on each node")
    slurm.run("scontrol", "suspend", job)
    assert slurm.state(job) == "SUSPENDED"
    time.sleep(PAUSE_S)  # its length is what this is about; nothing is waited for
    (wd / "go").touch()
    slurm.run("scontrol", "resume", job)
    assert slurm.wait_for_end(job) == "COMPLETED", (wd / f"{job}.out").read_text()
    started = sorted(line.split() for line in runs.read_text().splitlines())
    assert [name for name, _ in started] == ["held:0", "held:1"]
    assert len({host for _, host in started}) == 2
    (report,) = wd.glob(".qcg*/jobs.report")
    states = {entry["name"]: entry["state"] for entry in map(json.loads, report.read_text().splitlines())}
    assert states == dict.fromkeys(["held", "held:0", "held:1"], "SUCCEED")
    (log,) = wd.glob(".qcg*/service.log")
    assert "agent.lost" not in log.read_text().partition("service.stopping")[0]
