"""The queue asks a real Slurm for nodes: limits for each user, a partition that is pre-empted, a controller that goes away."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import accounting
import pytest
from allocating import ADD, Login, job
from emulated import Slurm
from patience import wait_until
from real import SLURM_PROGRAMS, require

_PARTITIONS = """
PreemptType=preempt/partition_prio
PreemptMode=CANCEL
AccountingStorageEnforce=limits,qos
PartitionName=scrap Nodes=ALL MaxTime=INFINITE State=UP PriorityTier=1
PartitionName=urgent Nodes=ALL MaxTime=INFINITE State=UP PriorityTier=10 PreemptMode=OFF
"""


@pytest.fixture(scope="module")
def site() -> Iterator[Slurm]:
    """3 nodes of 2 cores; `one`: a QOS with one job for each user at a time; `urgent` takes the nodes of `scrap`."""
    require("unshare", "nsenter", *SLURM_PROGRAMS, *accounting.PROGRAMS)
    with Slurm(nodes=3, accounting=True, extra=_PARTITIONS) as cluster:
        cluster.run("sacctmgr", "-i", "add", "qos", "one", "set", "maxsubmitjobsperuser=1")
        cluster.run("sacctmgr", "-i", "modify", "user", "root", "set", "qos+=one")
        wait_until(lambda: "QOS=one" in cluster.run("scontrol", "show", "assoc_mgr", "flags=qos"), "the limits")
        yield cluster


@pytest.fixture
def login(site: Slurm, wd: Path) -> Iterator[Login]:
    wd.chmod(0o755)
    made = Login(site, wd)
    yield made
    made.end()
    site.wait_until_empty()


def test_narrow_and_wide_work_gets_the_nodes_it_can_use(login: Login) -> None:
    """Nothing is asked for before something waits; the wide job gets an allocation that is wide enough; idle ones leave."""
    login.call("alloc", "add", "--nodes", "1-3", "--max-nodes", "3", *ADD)
    wait_until(lambda: login.state.specs["here"].quiet, login.log)
    assert login.site.run("squeue", "--noheader") == ""
    wide = {"numNodes": {"exact": 3}, "numCores": {"exact": 2}, "wt": "1m"}
    login.submit(
        job("wide", f"hostname >>{login.wd}/wide", resources=wide),
        job("small", "sleep 1", iteration={"stop": 6}, resources={"numCores": {"exact": 1}, "wt": "1m"}),
    )
    login.wait_for_work()
    login.wait_until_given_up()
    assert login.failed == 0
    sizes = [each.nodes for each in login.state.allocations.values()]
    assert max(sizes) == 3
    assert sum(sizes) <= 6


def test_allocator_manager_and_controller_go_away_and_nothing_is_asked_for_twice(login: Login) -> None:
    login.call("alloc", "add", "--nodes", "1", "--max-nodes", "1", *ADD)
    login.submit(job("t", f"echo x >>{login.wd}/starts; until [ -e {login.wd}/go ]; do sleep 0.1; done"))
    wait_until(lambda: (login.wd / "starts").exists(), login.log)
    login.kill("alloc", "serve")
    assert isinstance(login.site, Slurm)
    login.site.stop_controller()
    login.kill("pilotfish service|from pilotfish.__main__.*service")
    login.service.wait()
    login.begin("--resume", str(login.wd))
    login.site.start_controller()
    (login.wd / "go").touch()
    login.wait_for_work()
    login.wait_until_given_up()
    assert (login.wd / "starts").read_text() == "x\n"
    assert (len(login.state.allocations), login.failed) == (1, 0)


def test_a_limit_of_jobs_for_each_user_is_waited_for(login: Login) -> None:
    """Two could be of use; the second is not taken, which is nobody's failure, and is asked for no more at once."""
    login.call("alloc", "add", "--nodes", "1", "--max-waiting", "2", "--qos", "one", *ADD)
    login.submit(job("t", f"until [ -e {login.wd}/go ]; do sleep 0.1; done", iteration={"stop": 4}))
    wait_until(lambda: "takes no more now" in login.log() or "not taken" in login.log(), login.log)
    (login.wd / "go").touch()
    login.wait_for_work()
    assert login.failed == 0


def test_work_of_an_allocation_that_is_preempted_runs_again(login: Login) -> None:
    login.call("alloc", "add", "--nodes", "1", "--max-nodes", "1", "--queue", "scrap", *ADD)
    task = f"echo x >>{login.wd}/starts; until [ -e {login.wd}/go ]; do sleep 0.1; done"
    login.submit(job("t", task))
    wait_until(lambda: (login.wd / "starts").exists(), login.log)
    urgent = login.site.submit("true", login.wd, "--partition=urgent", "--nodes=3", "--exclusive")
    login.site.wait_for_end(urgent)
    wait_until(lambda: len((login.wd / "starts").read_text().split()) == 2, login.log)
    (login.wd / "go").touch()
    login.wait_for_work()
    assert login.failed == 0
    assert "preempted" in login.log()
