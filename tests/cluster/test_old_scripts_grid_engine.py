"""Scripts in the terms of clusterjob and fyrd on a real Grid Engine."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

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


DEPENDENTS = """
import json, os
from pilotfish import AsyncResult, JobScript, fyrd

JobScript.backend = "sge"
wait = "until [ -e go ]; do sleep 0.1; done; "
first = fyrd.submit(wait + "exit 3", qtype="sge")
by_handle = fyrd.submit("touch ran", qtype="sge", depends=first)
by_id = fyrd.submit("touch ran", qtype="sge", depends=first.id)
chained = fyrd.submit("touch ran", qtype="sge", depends=by_handle.id)
foreign = os.popen("qsub -terse -b y -cwd -o /dev/null -e /dev/null sh -c 'sleep 1; exit 5'").read().strip()
others = fyrd.submit("touch ran", qtype="sge", depends=foreign)
well = os.popen("qsub -terse -b y -cwd -o /dev/null -e /dev/null true").read().strip()
good = fyrd.submit("echo good", qtype="sge", depends=[well, fyrd.submit("true", qtype="sge")])
sweep = [JobScript(wait + f"echo {num} >> bodies; ./tool >> tools", "sweep", {"tool": f"echo {num}"}).submit()
         for num in range(3)]
sweep[1].dump("dumped")
open("go", "w").close()
jobs = [first, by_handle, by_id, chained, others, good]
fyrd.wait(jobs)
refused = []
for each in (first, first.id):
    try:
        fyrd.submit("touch ran", qtype="sge", depends=each)
    except fyrd.ClusterError as error:
        refused.append(error.what)
AsyncResult.wait_all(sweep)
found = {
    "states": [job.state for job in jobs],
    "reasons": [job.reason.replace(str(first.id), "FIRST") for job in jobs[:3]],
    "others": others.reason == f"dependency failed: job {foreign}",
    "good": good.get(),
    "refused": len(refused),
    "sweep": [[result.status for result in sweep], AsyncResult.load("dumped").status],
    "texts": [sorted(open(name).read().split()) for name in ("bodies", "tools")],
}
json.dump(found, open("found.json", "w"))
"""


def run(sge: GridEngine, wd: Path, script: str) -> dict[str, Any]:
    (wd / "script.py").write_text(script)
    variables = [f"{name}={value}" for name, value in sge.environ.items() if name.startswith("SGE") or name == "PATH"]
    variables.append(f"PILOTFISH_HOME={wd}/home")
    command = sge.hosts.ctl.command("env", *variables, "sh", "-c", f"cd {wd} && exec {sys.executable} script.py")
    subprocess.run(command, check=True, timeout=300)
    found: dict[str, Any] = json.loads((wd / "found.json").read_text())
    return found


def test_on_grid_engine(sge: GridEngine, wd: Path) -> None:
    found = run(sge, wd, SCRIPT)
    assert found["status"] == [0, 2, 2, 1]
    assert found["code"] == 4
    assert found["ids"][0] == found["ids"][1]
    assert found["fyrd"] == ["one\n", "two\n"]
    assert (wd / "host").read_text().startswith("node")


def test_dependents_of_failed_jobs_do_not_run_and_jobs_of_one_name_share_nothing(sge: GridEngine, wd: Path) -> None:
    """Grid Engine itself starts whatever waits for an ended job, well or not."""
    found = run(sge, wd, DEPENDENTS)
    assert found["states"] == ["failed"] * 5 + ["completed"]
    assert found["reasons"] == ["program", "dependency failed: job FIRST", "dependency failed: job FIRST"]
    assert found["others"]
    assert found["good"] == "good\n"
    assert found["refused"] == 2
    assert not (wd / "ran").exists()
    assert found["sweep"] == [[0, 0, 0], 0]
    assert found["texts"] == [["0", "1", "2"]] * 2
