"""What a task is told of its GPUs."""

from __future__ import annotations

import pytest

from pilotfish.pilot.agent.launch import environment
from pilotfish.pilot.execmodels.environ import gpu_variable, grant_environment
from pilotfish.pilot.model.ids import GrantId, PoolId
from pilotfish.pilot.model.job import Execution
from pilotfish.pilot.wire.frames import NewGrant, NodeShare

CUDA, ROCR = b"CUDA_VISIBLE_DEVICES", b"ROCR_VISIBLE_DEVICES"
SLURM_SETS = {CUDA: b"0,1", ROCR: b"0,1", b"GPU_DEVICE_ORDINAL": b"0,1"}


@pytest.mark.parametrize(
    ("environ", "amd", "variable"),
    [
        ({}, True, CUDA),
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


def test_a_job_may_say_otherwise() -> None:
    grant = NewGrant(GrantId(1), PoolId(1), [NodeShare("n", ["0"], [])], False, 0, hide_gpus=True)
    execution = Execution(exec="x", env={"ROCR_VISIBLE_DEVICES": "7"})
    env = environment(execution, dict(SLURM_SETS), grant_environment(grant, [], CUDA), 1)
    assert (env[CUDA], env[ROCR]) == (b"", b"7")
