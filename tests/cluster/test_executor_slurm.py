"""Executors on a real Slurm: inside an allocation of four nodes, and from a laptop behind the login node.

The hosts of the second are those of test_launcher_chain.py.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from emulated import Host, Slurm
from patience import PATIENCE_S, wait_until

PYTHON = sys.executable
INSIDE = """
import os, time
from pilotfish import Executor

def where(number):
    time.sleep(0.2)
    return os.uname().nodename, os.environ.get("QCG_PM_NNODES")

if __name__ == "__main__":
    with Executor() as executor:
        nodes = {node for node, _ in executor.map(where, range(40))}
        cores = executor.pilot.resources()
        wide = executor.options(nodes=4, cores=2).submit(where, 0).result()
    print(sorted(nodes), cores["total_nodes"], cores["total_cores"], wide[1])
"""
FROM_LAPTOP = """
import os, sys, time
from pilotfish import Executor

MACHINE = {
    "batch_type": "Slurm",
    "context_type": "SSH",
    "local_root": "laptop",
    "remote_root": os.getcwd() + "/scratch",
    "remote_profile": {"hostname": "cluster", "ssh_config": os.getcwd() + "/ssh_config", "timeout": 3, "keepalive": 2},
}
RESOURCES = {"number_node": 1, "cpu_per_node": 2, "walltime": "10m", "custom_flags": ["#SBATCH --exclude=node4"]}

def note(number, log, gate):
    with open(log, "a") as file:
        file.write(f"{number}\\n")
    while number > 20 and not os.path.exists(gate):
        time.sleep(0.1)
    return number, os.uname().nodename

if __name__ == "__main__":
    pilots = {"pilots": 3, "python": sys.executable}
    with Executor(machine=MACHINE, resources=RESOURCES, pilots=pilots, name="sweep") as executor:
        log, gate = os.getcwd() + "/starts", os.getcwd() + "/gate"
        futures = [executor.submit(note, number, log, gate) for number in range(60)]
        print(os.getpid(), *futures[0].result(), flush=True)
        results = [future.result() for future in futures]
        print([number for number, _ in results] == list(range(60)), sorted({node for _, node in results}))
"""


def test_inside_an_allocation_all_nodes_make_calls(slurm: Slurm, wd: Path) -> None:
    """`Executor()` in a batch job of four nodes: 40 calls on all of them, and one that has them all."""
    (wd / "inside.py").write_text(INSIDE)
    job = slurm.submit(f"{PYTHON} inside.py", wd, "--nodes=4", "--ntasks-per-node=2")
    slurm.wait_for_end(job)
    assert (wd / f"{job}.out").read_text() == "['node1', 'node2', 'node3', 'node4'] 4 8 4\n"


def start(laptop: Host, wd: Path, out: str) -> subprocess.Popen[bytes]:
    """The program, with its output in a file; returns when it has its first result."""
    environ = {name: value for name, value in os.environ.items() if not name.startswith("SLURM")}
    environ |= {"PILOTFISH_HOME": str(wd / "home")}
    command = ["sh", "-c", f"cd {wd} && exec {PYTHON} laptop.py >{out}"]
    process = subprocess.Popen(laptop.command(*command), env=environ)
    wait_until(lambda: (wd / out).exists() and " 0 node" in (wd / out).read_text(), "the first result", of=process)
    return process


def test_from_a_laptop_whose_link_is_cut_and_whose_program_is_killed(cluster: Slurm, wd: Path) -> None:
    """ssh, sbatch, three batch jobs that are one pilot, results home; each call is made once, and no batch job is left."""
    (wd / "laptop.py").write_text(FROM_LAPTOP)
    laptop = cluster.hosts["node4"]
    for name in ("node1", "node2", "node3"):
        laptop.run("ip", "route", "add", "blackhole", f"{cluster.hosts[name].address}/32")
    first = start(laptop, wd, "first")
    starts = wd / "starts"
    wait_until(lambda: len(starts.read_text().split()) >= 27, "a call on each of six cores that waits")
    cluster.hosts.cut("node4")
    laptop.run("kill", "-9", (wd / "first").read_text().split()[0])
    first.wait()
    cluster.hosts.mend("node4")
    second = start(laptop, wd, "second")
    cluster.hosts.cut("node4")
    (wd / "gate").touch()
    wait_until(lambda: len(starts.read_text().split()) == 60, "all calls to begin while the laptop is away")
    cluster.hosts.mend("node4")
    assert second.wait(4 * PATIENCE_S) == 0
    assert (wd / "second").read_text().splitlines()[1] == "True ['node1', 'node2', 'node3']"
    assert sorted(map(int, starts.read_text().split())) == list(range(60))
    wait_until(lambda: not cluster.run("squeue", "-h").strip(), "an empty queue")
    assert not list((wd / "scratch").iterdir())
