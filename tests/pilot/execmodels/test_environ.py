"""What a task is told of its GPUs."""

from __future__ import annotations

import pytest

from pilotfish.pilot.agent.launch import environment
from pilotfish.pilot.execmodels.environ import base_environment, gpu_variable, grant_environment
from pilotfish.pilot.model.ids import GrantId, PoolId
from pilotfish.pilot.model.job_spec import Execution
from pilotfish.pilot.model.resources import PARTS
from pilotfish.pilot.wire.frames import NamedShare, NewGrant, NodeShare

CUDA, ROCR = b"CUDA_VISIBLE_DEVICES", b"ROCR_VISIBLE_DEVICES"
SLURM_SETS = {CUDA: b"0,1", ROCR: b"0,1", b"GPU_DEVICE_ORDINAL": b"0,1"}


@pytest.mark.parametrize(
    ("environ", "amd", "variable"),
    [
        ({}, False, CUDA),
        ({}, True, ROCR),
        ({b"HIP_VISIBLE_DEVICES": b"0"}, True, ROCR),
        ({CUDA: b"0"}, True, CUDA),
        ({ROCR: b"0"}, False, ROCR),
        (SLURM_SETS, False, CUDA),
        (SLURM_SETS, True, ROCR),
    ],
)
def test_one_variable_tells_the_gpus(environ: dict[bytes, bytes], amd: bool, variable: bytes) -> None:
    assert gpu_variable(environ, amd) == variable


def test_what_the_allocation_says_of_gpus_gives_way_to_the_grant() -> None:
    grant = NewGrant(GrantId(1), PoolId(1), [NodeShare("n", ["0"], ["1"])], False, 0)
    env = environment(Execution(exec="x"), dict(SLURM_SETS), grant_environment(grant, [], CUDA), 1)
    assert {name: value for name, value in env.items() if name in SLURM_SETS} == {CUDA: b"1"}


def test_without_gpus_in_the_pilot_the_allocation_s_word_stays() -> None:
    grant = NewGrant(GrantId(1), PoolId(1), [NodeShare("n", ["0"], [])], False, 0)
    env = environment(Execution(exec="x"), dict(SLURM_SETS), grant_environment(grant, [], CUDA), 1)
    assert SLURM_SETS.items() <= env.items()


@pytest.mark.parametrize(("value", "seen"), [(b"0,1", False), (b"", True), (b"NoDevFiles", True), (b"-1", True)])
def test_the_allocation_s_list_of_gpus_is_taken_out_and_its_word_that_there_are_none_stays(
    value: bytes, seen: bool
) -> None:
    """... or a task on a node without a grant of GPUs would see all that the machine has."""
    assert (CUDA in base_environment({CUDA: value}, "a", {}, ["slurm"])) is seen


def test_a_task_is_told_what_it_has_of_named_resources() -> None:
    """Ids where there are any, else how much; of a part how large it is. A part of a GPU is also told as GPUs are."""
    named = [
        NamedShare("gpu", ["1"], 0, PARTS // 4),
        NamedShare("nvme", ["0", "3"], 0),
        NamedShare("licence", [], 2),
    ]
    grant = NewGrant(GrantId(1), PoolId(1), [NodeShare("n", ["0"], [], named)], False, 0)
    env = grant_environment(grant, [], CUDA)
    assert {name: value for name, value in env.items() if not name.startswith(b"QCG_PM")} == {
        CUDA: b"1",
        b"PILOTFISH_RESOURCE_GPU": b"1",
        b"PILOTFISH_RESOURCE_GPU_PART": b"1/4",
        b"PILOTFISH_RESOURCE_NVME": b"0,3",
        b"PILOTFISH_RESOURCE_LICENCE": b"2",
    }


def test_what_a_pilot_around_this_one_has_given_it_is_not_the_tasks() -> None:
    assert b"PILOTFISH_RESOURCE_NVME" not in base_environment({b"PILOTFISH_RESOURCE_NVME": b"7"}, "a", {}, [])


def test_a_job_may_say_otherwise() -> None:
    grant = NewGrant(GrantId(1), PoolId(1), [NodeShare("n", ["0"], [])], False, 0, hide_gpus=True)
    execution = Execution(exec="x", env={"ROCR_VISIBLE_DEVICES": "7"})
    env = environment(execution, dict(SLURM_SETS), grant_environment(grant, [], CUDA), 1)
    assert (env[CUDA], env[ROCR]) == (b"", b"7")


def test_a_task_does_not_take_itself_for_the_rank_that_its_agent_was_started_as() -> None:
    rank = [b"PMI_RANK", b"PMI_FD", b"PMIX_RANK", b"PMIX_NAMESPACE", b"OMPI_COMM_WORLD_RANK", b"OMPI_MCA_ess"]
    set_by_the_site = {b"PMIX_MCA_gds": b"hash", b"OMPI_MCA_btl": b"^openib", b"PMI_MMAP_SYNC_WAIT_TIME": b"9"}
    base = base_environment(dict.fromkeys(rank, b"1") | set_by_the_site, "a", {}, [])
    assert base == set_by_the_site | {b"PILOTFISH_AGENT_ID": b"a"}


def test_the_slurm_of_a_task_is_its_own_part_of_the_job() -> None:
    of_step = dict.fromkeys(
        [b"SLURM_LABELIO", b"SLURM_STEP_ID", b"SLURM_NTASKS_PER_NODE", b"SLURM_CPU_BIND_TYPE"], b"1"
    )
    of_job = {b"SLURM_JOB_ID": b"7", b"SLURM_CONF": b"/etc/slurm.conf"}
    assert base_environment(of_step | of_job, "a", {}, ["slurm"]) == of_job | {b"PILOTFISH_AGENT_ID": b"a"}
    grant = NewGrant(GrantId(1), PoolId(1), [NodeShare("n1", ["0", "1"], []), NodeShare("n2", ["3"], [])], True, 0)
    seen = {
        name.decode(): value.decode()
        for name, value in grant_environment(grant, ["slurm"], CUDA).items()
        if name.startswith(b"SLURM_")
    }
    assert seen == {
        "SLURM_OVERLAP": "1",
        **dict.fromkeys(("SLURM_NNODES", "SLURM_JOB_NUM_NODES", "SLURM_STEP_NUM_NODES"), "2"),
        **dict.fromkeys(("SLURM_NODELIST", "SLURM_JOB_NODELIST", "SLURM_STEP_NODELIST"), "n1,n2"),
        **dict.fromkeys(("SLURM_NPROCS", "SLURM_NTASKS", "SLURM_STEP_NUM_TASKS"), "3"),
        **dict.fromkeys(("SLURM_JOB_CPUS_PER_NODE", "SLURM_TASKS_PER_NODE", "SLURM_STEP_TASKS_PER_NODE"), "2,1"),
        "SLURM_CPUS_ON_NODE": "2",
        "SLURM_CPU_BIND": "mask_cpu:0x1,0x2,0x8",
    }
