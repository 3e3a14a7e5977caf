"""A batch script of QCG-PilotJob as it is, in an allocation of several nodes of a real Slurm."""

from __future__ import annotations

import sys
from pathlib import Path

from emulated import Slurm

BIN = Path(sys.executable).parent

SCRIPT = """#!/bin/bash
export PATH={bin}:$PATH
pilotfish with qcg -- sh old-job.sh
"""

OLD_JOB = """
qcg-pm-service --net --wd pilot &
until [ -s pilot/.qcgpjm-service-*/address ]; do sleep 0.1; done
python3 client.py "$(cat pilot/.qcgpjm-service-*/address)"
wait
qcg-pm-report stats pilot | grep 'total nodes'
"""

CLIENT = """
import sys
from qcg.pilotjob.api.job import Jobs
from qcg.pilotjob.api.manager import Manager

manager = Manager(sys.argv[1])
code = "import qcg.pilotjob.api.job, os; print(os.environ['QCG_PM_NNODES'], qcg.pilotjob.api.job.Jobs.__module__)"
manager.submit(Jobs().add(name="t", exec="python3", args=["-c", code], numNodes=2, numCores=1, stdout="out"))
print(manager.wait4("t"))
manager.finish()
"""


def test_an_old_batch_script_runs_below_with_on_two_nodes(slurm: Slurm, wd: Path) -> None:
    """The service, its client, the task on a node, and the report find the old names."""
    for name, text in (("job.sh", SCRIPT.format(bin=BIN)), ("old-job.sh", OLD_JOB), ("client.py", CLIENT)):
        (wd / name).write_text(text)
    options = [f"--chdir={wd}", "--nodes=2", "--output=log", "--time=10"]
    job = slurm.run("sbatch", "--parsable", *options, str(wd / "job.sh")).strip()
    assert slurm.wait_for_end(job) == "COMPLETED"
    assert "{'t': 'SUCCEED'}" in (wd / "log").read_text()
    assert "total nodes: 2" in (wd / "log").read_text()
    assert (wd / "pilot" / "out").read_text() == "2 pilotfish.api.jobs\n"
