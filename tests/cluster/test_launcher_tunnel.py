"""From a laptop that knows only the login node to the pilot on a compute node: `submissions tunnel`.

The hosts are those of test_launcher_chain.py; here the laptop has no way to the compute nodes.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from emulated import Slurm
from patience import PATIENCE_S, wait_until

from .test_launcher_chain import start, write_submission

STEER = """
from pilotfish import Jobs, Manager
pilot = Manager()
pilot.submit(Jobs().add(name="asked", exec="/bin/hostname", stdout="asked.out"))
print(pilot.wait4(["asked"], timeout=200)["asked"], pilot.resources()["total_nodes"])
pilot.cancel(sorted(name for name in pilot.list() if name.startswith("task-"))[-1])
"""


def test_a_script_on_the_laptop_steers_the_pilot_behind_the_login_node(cluster: Slurm, wd: Path) -> None:
    file = write_submission(wd, 4, 8.0)
    file.write_text(file.read_text().replace("sleep 8.0", f"until [ -e {wd}/go ]; do sleep 0.1; done"))
    laptop = cluster.hosts["node4"]
    for name in ("node1", "node2", "node3"):
        laptop.run("ip", "route", "add", "blackhole", f"{cluster.hosts[name].address}/32")
    process = start(laptop, wd, "--check-interval", "1", "--clean", "never")
    wait_until((wd / "starts").exists, "tasks to start")
    environ = {name: value for name, value in os.environ.items() if not name.startswith("SLURM")}
    environ |= {"PILOTFISH_HOME": str(wd / "home")}

    def submissions(*words: str) -> str:
        pilotfish = [sys.executable, "-m", "pilotfish", "submissions", *words]
        done = subprocess.run(laptop.command(*pilotfish), env=environ, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def through_tunnel(*words: str) -> str:
        return submissions("tunnel", "last", "--", *words)

    (wd / "steer.py").write_text(STEER)
    assert through_tunnel(sys.executable, str(wd / "steer.py")).split() == ["SUCCEED", "3"]
    states = json.loads(through_tunnel(sys.executable, "-m", "pilotfish", "jobs", "--json"))
    assert [entry["status"] for entry in states["jobs"].values()].count("CANCELED") == 1
    seen = json.loads(submissions("top", "last", "--json"))
    assert sorted(node["name"] for node in seen["nodes"]) == ["node1", "node2", "node3"]
    assert {task["node"] for task in seen["running"]} <= {"node1", "node2", "node3"}
    assert seen["tasks"]["running"] == len(seen["running"]) > 0
    assert "nodes 3/3 ready" in submissions("top", "last")
    (wd / "go").touch()
    output, _ = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 1, output
    (asked,) = (wd / "scratch").glob("*/asked.out")
    assert asked.read_text().strip() in ("node1", "node2", "node3")
    rows = json.loads((wd / "laptop/w/results.json").read_text())
    assert sorted({row["state"] for row in rows}) == ["failed", "finished"]
