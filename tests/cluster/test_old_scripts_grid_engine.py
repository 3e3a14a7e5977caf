"""Scripts in the terms of clusterjob and fyrd on a real Grid Engine."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from grid_engine import GridEngine

SCRIPT = """
import json
from pilotfish import AsyncResult, JobScript, fyrd

JobScript.backend = "sge"
good = JobScript("echo $CLUSTERJOB_ID $JOB_ID >out; hostname >host", "good", time="5", **{"-pe": "smp 2"}).submit()
bad = JobScript("exit 4", "bad").submit()
refused = JobScript("true", "refused", queue="nowhere").submit()
long = JobScript("sleep 1000", "long").submit()
first = fyrd.submit("echo one", qtype="sge", pe="smp", cores=2, time="5:00")
second = fyrd.submit("echo two", qtype="sge", pe="smp", depends=first)
AsyncResult.wait_all([good, bad])
long.cancel()
found = {
    "status": [each.status for each in (good, bad, refused, long)],
    "code": bad.exit_code,
    "ids": open("out").read().split(),
    "fyrd": fyrd.get([first, second]),
}
json.dump(found, open("found.json", "w"))
"""


def test_on_grid_engine(sge: GridEngine, wd: Path) -> None:
    (wd / "script.py").write_text(SCRIPT)
    variables = [f"{name}={value}" for name, value in sge.environ.items() if name.startswith("SGE") or name == "PATH"]
    command = sge.hosts.ctl.command("env", *variables, "sh", "-c", f"cd {wd} && exec {sys.executable} script.py")
    subprocess.run(command, check=True, timeout=300)
    found = json.loads((wd / "found.json").read_text())
    assert found["status"] == [0, 2, 2, 1]
    assert found["code"] == 4
    assert found["ids"][0] == found["ids"][1]
    assert found["fyrd"] == ["one\n", "two\n"]
    assert (wd / "host").read_text().startswith("node")
