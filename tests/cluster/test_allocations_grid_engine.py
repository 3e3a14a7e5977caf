"""The queue asks a real Grid Engine for nodes, which has slots instead, and takes back what it does not need."""

from __future__ import annotations

from pathlib import Path

from allocating import ADD, Login, job
from grid_engine import GridEngine
from patience import wait_until


def test_work_gets_nodes_and_the_end_takes_back_what_waits(sge: GridEngine, wd: Path) -> None:
    """Three hosts, of which one allocation each is asked for; what waits when the pilot ends never runs."""
    wd.chmod(0o755)
    login = Login(sge, wd)
    login.call("alloc", "add", "--nodes", "1", "--cores", "2", "--max-nodes", "2", *ADD)
    one = {"numCores": {"exact": 2}, "wt": "1m"}
    login.submit(job("t", f"hostname >>{wd}/hosts; sleep 1", iteration={"stop": 4}, resources=one))
    login.wait_for_work()
    assert set((wd / "hosts").read_text().split()) <= set(sge.node_names)
    login.wait_until_given_up()
    assert (login.failed, len(login.state.allocations) >= 1) == (0, True)
    sge.run("qmod", "-d", "*")  # nothing starts any more
    try:
        login.submit(job("never", f"touch {wd}/ran", resources=one))
        wait_until(lambda: [each for each in login.state.living if each.job_id], login.log)
        login.end()
        wait_until(lambda: sge.run("qstat", "-u", "*") == "", login.log)
    finally:
        sge.run("qmod", "-e", "*")
    assert not (wd / "ran").exists()
