"""The original client, unmodified, as a user of our service. `make bench BENCH=--peers` installs it; skipped without."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest
from patience import PATIENCE_S

from pilotfish.api.local import LocalManager

CACHE = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache"))
PYTHON = CACHE / "pilotfish-bench" / "qcg-pilotjob" / "bin" / "python"

PROGRAM = """
import json, os, sys
from qcg.pilotjob.api.job import Jobs
from qcg.pilotjob.api.manager import Manager

manager = Manager(cfg={"log_file": "client.log", "poll_delay": 0.1})
seen = {"cores": manager.resources()["total_cores"]}
jobs = Jobs()
jobs.add(name="a", exec="/bin/echo", args=["${it}"], stdout="out-${it}", iteration=4)
jobs.add(name="b", script="exit 3")
jobs.add(name="c", exec="/bin/true", after=["b"])
jobs.add(name="long", exec="sleep", args=["1000"])
seen["submitted"] = manager.submit(jobs)
seen["ended"] = manager.wait4(["a", "b", "c"])
seen["status"] = manager.status(["a", "b"])
info = manager.info_parsed(["a", "b"], withChilds=True)
seen["iterations"] = info["a"].iterations
seen["childs"] = [[child.name, child.status, child.total_cores] for child in info["a"].childs]
seen["b"] = [info["b"].status, info["b"].total_cores, info["b"].wdir, info["b"].time.total_seconds() < 60]
manager.cancel(["long"])
seen["long"] = manager.wait4("long")
seen["listed"] = {name: entry["status"] for name, entry in manager.list().items()}
manager.remove(["a"])
seen["left"] = sorted(manager.list())
seen["total"] = manager.system_status()["JobStats"]["TotalJobs"]
manager.finish()
print(json.dumps(seen))
"""


@pytest.mark.skipif(not PYTHON.exists(), reason=f"the original is not installed: there is no {PYTHON}")
def test_the_original_client_finds_what_it_expects(wd: Path) -> None:
    (wd / "program.py").write_text(PROGRAM)
    pilot = LocalManager(["--wd", str(wd), "--net-plain", "--nodes", "2,2"], {"log_file": os.devnull})
    try:
        address = (pilot.connection_file.parent / "address").read_text()
        environ = {**os.environ, "QCG_PM_ZMQ_ADDRESS": address}
        done = subprocess.run(
            [PYTHON, "program.py"], cwd=wd, env=environ, capture_output=True, text=True, timeout=PATIENCE_S, check=False
        )
    finally:
        pilot.stop()
    assert done.returncode == 0, done.stderr
    seen = json.loads(done.stdout.splitlines()[-1])
    assert seen == {
        "cores": 4,
        "submitted": ["a", "b", "c", "long"],
        "ended": {"a": "SUCCEED", "b": "FAILED", "c": "OMITTED"},
        "status": {
            "jobs": {
                "a": {"status": 0, "data": {"jobName": "a", "status": "SUCCEED"}},
                "b": {"status": 0, "data": {"jobName": "b", "status": "FAILED"}},
            }
        },
        "iterations": {"start": 0, "stop": 4, "total": 4, "finished": 4, "failed": 0},
        "childs": [[f"a:{index}", "SUCCEED", 1] for index in range(4)],
        "b": ["FAILED", 1, str(wd), True],
        "long": {"long": "CANCELED"},
        "listed": {"a": "SUCCEED", "b": "FAILED", "c": "OMITTED", "long": "CANCELED"},
        "left": ["b", "c", "long"],
        "total": 3,
    }
    assert sorted(path.read_text() for path in wd.glob("out-*")) == ["0\n", "1\n", "2\n", "3\n"]
