"""The emulated clusters are what they claim to be."""

from __future__ import annotations

from pathlib import Path

from emulated import Slurm
from patience import wait_until


def test_a_batch_job_runs_on_all_nodes(slurm: Slurm, wd: Path) -> None:
    job = slurm.submit("srun hostname", wd, "--nodes=4", "--ntasks-per-node=1")
    assert slurm.wait_for_end(job) == "COMPLETED"
    assert sorted((wd / f"{job}.out").read_text().split()) == slurm.node_names


def test_nodes_with_a_network_of_their_own_reach_each_other(networked_slurm: Slurm, wd: Path) -> None:
    job = networked_slurm.submit("srun hostname --ip-address", wd, "--nodes=3", "--ntasks-per-node=1")
    assert networked_slurm.wait_for_end(job) == "COMPLETED"
    assert sorted((wd / f"{job}.out").read_text().split()) == ["10.77.0.11", "10.77.0.12", "10.77.0.13"]


def test_nodes_register_again_without_disturbing_jobs(slurm: Slurm, wd: Path) -> None:
    job = slurm.submit("touch begun; sleep 2; srun --overlap hostname", wd, "--nodes=4", "--ntasks-per-node=1")
    wait_until((wd / "begun").exists, "the job to start")
    slurm.register_again()
    assert slurm.wait_for_end(job) == "COMPLETED"
    assert sorted((wd / f"{job}.out").read_text().split()) == slurm.node_names
    wait_until(lambda: slurm.idle_nodes() == 4, "all nodes idle")
