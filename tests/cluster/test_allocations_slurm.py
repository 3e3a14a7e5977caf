"""The queue asks a real Slurm for nodes: limits for each user, a partition that is pre-empted, a controller that goes away."""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import accounting
import pytest
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


class Login:
    """A pilot without nodes on the login node, and the commands of its user there."""

    def __init__(self, site: Slurm, wd: Path) -> None:
        self.site, self.wd = site, wd
        self.site.environ["PILOTFISH_HOME"] = str(wd / "home")
        self.begin("--wd", str(wd))

    def begin(self, *options: str) -> None:
        words = ("pilotfish", "service", "--governor", "--net", "--end-margin", "1", *options)
        with open(self.wd / "service.out", "ab") as log:
            command = self.site.hosts.ctl.command(*words)
            self.service = subprocess.Popen(command, env=self.site.environ, stdout=log, stderr=log)
        wait_until(lambda: self._try("status").returncode == 0, lambda: (self.wd / "service.out").read_text())

    def _try(self, *words: str) -> subprocess.CompletedProcess[str]:
        command = self.site.hosts.ctl.command("pilotfish", *words, "-c", str(self.wd))
        return subprocess.run(command, env=self.site.environ, capture_output=True, text=True, check=False)

    def call(self, *words: str) -> str:
        done = self._try(*words)
        assert done.returncode == 0, (words, done.stdout, done.stderr, self.log())
        return done.stdout

    def submit(self, *jobs: dict[str, Any]) -> None:
        (self.wd / "jobs.json").write_text(json.dumps(list(jobs)))
        self.call("submit", str(self.wd / "jobs.json"))

    def row(self) -> Any:
        (found,) = json.loads(self.call("alloc", "list", "--json"))["allocations"]
        return found

    def idle(self) -> bool:
        return self._try("status", "--all-finished").returncode == 0

    def wait_for_work(self) -> None:
        wait_until(self.idle, self.log)

    @property
    def aux(self) -> Path:
        return next(self.wd.glob(".qcgpjm-service-*"))

    def log(self) -> str:
        return (self.aux / "alloc/log").read_text() + (self.aux / "service.log").read_text()[-2000:]

    def kill(self, *words: str) -> None:
        """SIGKILL to all processes on the login node with these words in their command line."""
        self.site.hosts.ctl.run("pkill", "-KILL", "-f", " ".join(words))

    def end(self) -> None:
        """Nothing waits or runs afterwards, and nobody is left who would ask."""
        self.call("finish", "--kill")
        self.service.wait()
        self.site.wait_until_empty()
        wait_until(lambda: not self._serving(), self.log)

    def _serving(self) -> str:
        command = self.site.hosts.ctl.command("pgrep", "-f", "alloc serve")
        return subprocess.run(command, capture_output=True, text=True, check=False).stdout


@pytest.fixture
def login(site: Slurm, wd: Path) -> Iterator[Login]:
    wd.chmod(0o755)
    made = Login(site, wd)
    yield made
    made.end()


ADD = ("--walltime", "5m", "--min-work", "0", "--idle", "2s")


def job(name: str, script: str, **more: Any) -> dict[str, Any]:
    return {"name": name, "execution": {"script": script}, **more}


def test_narrow_and_wide_work_gets_the_nodes_it_can_use(login: Login) -> None:
    """Nothing is asked for before something waits; the wide job gets an allocation that is wide enough; idle ones leave."""
    login.call("alloc", "add", "--nodes", "1-3", "--max-nodes", "3", *ADD)
    wait_until(lambda: login.row()["reason"], login.log)
    assert login.site.run("squeue", "--noheader") == ""
    wide = {"numNodes": {"exact": 3}, "numCores": {"exact": 2}, "wt": "1m"}
    login.submit(
        job("wide", f"hostname >>{login.wd}/wide", resources=wide),
        job("small", "sleep 1", iteration={"stop": 6}, resources={"numCores": {"exact": 1}, "wt": "1m"}),
    )
    login.wait_for_work()
    wait_until(lambda: not login.row()["running"] and not login.row()["waiting"], login.log)
    assert login.row()["failed"] == 0
    sizes = [int(found) for found in re.findall(r"asks for (\d) node", login.log())]
    assert max(sizes) == 3
    assert sum(sizes) <= 6
    keep = os.environ.get("PILOTFISH_KEEP_LOG")
    if keep:
        Path(keep).write_text((login.aux / "alloc/log").read_text())


def test_allocator_manager_and_controller_go_away_and_nothing_is_asked_for_twice(login: Login) -> None:
    login.call("alloc", "add", "--nodes", "1", "--max-nodes", "1", *ADD)
    login.submit(job("t", f"echo x >>{login.wd}/starts; until [ -e {login.wd}/go ]; do sleep 0.1; done"))
    wait_until(lambda: (login.wd / "starts").exists(), login.log)
    login.kill("alloc", "serve")
    login.site.stop_controller()
    login.kill("pilotfish service|from pilotfish.__main__.*service")
    login.service.wait()
    login.begin("--resume", str(login.wd))
    login.site.start_controller()
    (login.wd / "go").touch()
    login.wait_for_work()
    wait_until(lambda: not login.row()["running"], login.log)
    assert (login.wd / "starts").read_text() == "x\n"
    assert (login.row()["ended"], login.row()["failed"]) == (1, 0)


def test_a_limit_of_jobs_for_each_user_is_waited_for(login: Login) -> None:
    """Two could be of use; the second is not taken, which is nobody's failure, and is asked for no more at once."""
    login.call("alloc", "add", "--nodes", "1", "--max-waiting", "2", "--qos", "one", *ADD)
    login.submit(job("t", f"until [ -e {login.wd}/go ]; do sleep 0.1; done", iteration={"stop": 4}))
    wait_until(lambda: "takes no more now" in login.log() or "not taken" in login.log(), login.log)
    (login.wd / "go").touch()
    login.wait_for_work()
    assert login.row()["failed"] == 0


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
    assert login.row()["failed"] == 0
    assert "preempted" in login.log()
