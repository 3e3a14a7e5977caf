"""Which GPUs a machine has that no batch system has given: by its makers' tools, and by the variables that programs obey."""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
from pathlib import Path

import pytest
from patience import PATIENCE_S

from pilotfish.pilot.cpus import Cpus
from pilotfish.pilot.model.resources import NodeSpec
from pilotfish.pilot.systems import gpus, local
from pilotfish.pilot.systems.base import HostEnvironment, Source, visible_gpus
from pilotfish.pilot.systems.commands import NoAnswerError, output_of
from pilotfish.pilot.systems.detect import detect
from pilotfish.pilot.systems.gpus import Gpus, of_this_machine, parse_nvidia, parse_rocm

GPU_0, GPU_1 = "GPU-5c89852c-d268-c3f3-1b07-005d5ae1dc3f", "GPU-8932f937-d72c-4106-c12f-20bd9faed9f6"
PART_0, PART_1 = "MIG-a1b2c3d4-1111-5de3-91c7-45d71c87eb3f", "MIG-a1b2c3d4-2222-5de3-91c7-45d71c87eb3f"
WHOLE = f"""GPU 0: NVIDIA H100 80GB HBM3 (UUID: {GPU_0})
GPU 1: NVIDIA H100 80GB HBM3 (UUID: {GPU_1})
"""
DIVIDED = f"""GPU 0: NVIDIA A100-SXM4-40GB (UUID: {GPU_0})
  MIG 3g.20gb     Device  0: (UUID: {PART_0})
  MIG 1c.3g.20gb  Device  1: (UUID: {PART_1})
GPU 1: NVIDIA A100-SXM4-40GB (UUID: {GPU_1})
"""
"""As NVIDIA's MIG user guide shows them."""
ROCM = """

============================ ROCm System Management Interface ============================
=========================================== ID ===========================================
GPU[0]\t\t: Device Name: \t\tAMD Instinct MI250X
GPU[0]\t\t: Device ID: \t\t0x740c
GPU[1]\t\t: Device Name: \t\tAMD Instinct MI250X
GPU[1]\t\t: Device ID: \t\t0x740c
==========================================================================================
"""


@pytest.fixture
def tools(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder for programs that is all of PATH, but for the shell's own."""
    folder = tmp_path / "tools"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
    for name in ("CUDA_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES"):
        monkeypatch.delenv(name, raising=False)
    return folder


def tool(folder: Path, name: str, output: str, then: str = "exit 0") -> None:
    program = folder / name
    program.write_text(f"#!/bin/sh\ncat <<'END'\n{output}END\n{then}\n")
    program.chmod(0o755)


def of_machine(tmp_path: Path) -> Gpus:
    return of_this_machine(tmp_path / "dev", tmp_path / "kfd")


def test_whole_gpus_have_numbers_as_users_expect() -> None:
    assert parse_nvidia(WHOLE) == ("0", "1")


def test_parts_of_a_gpu_are_slots_of_their_own_and_then_all_ids_are_unique() -> None:
    """... because a number cannot say which part; the GPU that is divided is none any more."""
    assert parse_nvidia(DIVIDED) == (PART_0, PART_1, GPU_1)
    old = DIVIDED.replace(PART_0, f"MIG-{GPU_0}/1/0").replace(PART_1, f"MIG-{GPU_0}/2/0")
    assert parse_nvidia(old) == (f"MIG-{GPU_0}/1/0", f"MIG-{GPU_0}/2/0", GPU_1)


@pytest.mark.parametrize(
    "text", ["", "No devices found.\n", "Failed to initialize NVML: Driver/library version mismatch\n"]
)
def test_words_that_list_no_gpu_are_no_gpu(text: str) -> None:
    assert parse_nvidia(text) == ()


def test_amd_s_tool_is_read_in_its_formats() -> None:
    assert parse_rocm(ROCM) == ("0", "1")
    assert parse_rocm('{"card0": {"Device ID": "0x740c"}, "card1": {"Device ID": "0x740c"}}') == ("0", "1")


def test_nvidia_s_tool_is_asked_where_it_is_there(tools: Path, tmp_path: Path) -> None:
    tool(tools, "nvidia-smi", WHOLE)
    assert of_machine(tmp_path) == (("0", "1"), "nvidia-smi")


def test_a_tool_that_fails_finds_nothing(tools: Path, tmp_path: Path) -> None:
    tool(tools, "nvidia-smi", WHOLE, "exit 9")
    assert of_machine(tmp_path) == ((), "nvidia-smi")


def test_a_tool_that_hangs_is_given_up_and_the_device_files_count(
    tools: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """... also when it is a wrapper, whose child holds the pipe."""
    monkeypatch.setattr(gpus, "PATIENCE_S", 0.1)
    tool(tools, "nvidia-smi", "", "sleep 1000; echo")
    (tmp_path / "dev").mkdir()
    for name in ("nvidia0", "nvidia3", "nvidiactl", "nvidia-uvm"):
        (tmp_path / "dev" / name).touch()
    assert of_machine(tmp_path) == (("0", "1"), "/dev/nvidia* (nvidia-smi does not answer)")


def test_what_is_given_up_is_killed_with_its_children(tmp_path: Path) -> None:
    """Each has the pipe open for writing: it is at its end when all are gone."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    read_end = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    with pytest.raises(NoAnswerError, match=r"^sh does not answer$"):
        output_of(["sh", "-c", f"exec 9>{pipe}; trap '' TERM; sleep 1000 & sleep 1000; echo"], 0.5)
    os.set_blocking(read_end, True)
    readable, _, _ = select.select([read_end], [], [], PATIENCE_S)
    assert readable
    assert os.read(read_end, 1) == b""
    os.close(read_end)


def test_a_container_without_the_tool_has_device_files(tools: Path, tmp_path: Path) -> None:
    (tmp_path / "dev").mkdir()
    (tmp_path / "dev" / "nvidia5").touch()
    assert of_machine(tmp_path) == (("0",), "/dev/nvidia*")


def test_amd_s_gpus_are_those_of_the_kernel_that_can_be_read(tools: Path, tmp_path: Path) -> None:
    """The processors have number 0; a GPU that this container was not given has none that can be read."""
    for node, gpu_id in enumerate(["0", "0", "51334", "2178", None]):
        (tmp_path / "kfd" / str(node)).mkdir(parents=True)
        if gpu_id is not None:
            (tmp_path / "kfd" / str(node) / "gpu_id").write_text(f"{gpu_id}\n")
    assert of_machine(tmp_path).ids == (), "without the device nobody can use them"
    (tmp_path / "dev").mkdir()
    (tmp_path / "dev" / "kfd").touch()
    assert of_machine(tmp_path) == (("0", "1"), "/sys/class/kfd")


def test_where_the_kernel_shows_none_amd_s_tool_is_asked(tools: Path, tmp_path: Path) -> None:
    tool(tools, "rocm-smi", ROCM)
    assert of_machine(tmp_path) == (("0", "1"), "rocm-smi")


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({}, None),
        ({"CUDA_VISIBLE_DEVICES": "1, 0"}, Gpus(("1", "0"), "CUDA_VISIBLE_DEVICES")),
        ({"CUDA_VISIBLE_DEVICES": ""}, Gpus((), "CUDA_VISIBLE_DEVICES")),
        ({"CUDA_VISIBLE_DEVICES": "0,2,-1,1"}, Gpus(("0", "2"), "CUDA_VISIBLE_DEVICES")),
        ({"CUDA_VISIBLE_DEVICES": "0,0,1"}, Gpus(("0", "1"), "CUDA_VISIBLE_DEVICES")),
        ({"CUDA_VISIBLE_DEVICES": f"{PART_0},{PART_1}"}, Gpus((PART_0, PART_1), "CUDA_VISIBLE_DEVICES")),
        ({"CUDA_VISIBLE_DEVICES": "", "ROCR_VISIBLE_DEVICES": "3"}, Gpus(("3",), "ROCR_VISIBLE_DEVICES")),
        ({"ROCR_VISIBLE_DEVICES": ""}, Gpus((), "ROCR_VISIBLE_DEVICES")),
        ({"HIP_VISIBLE_DEVICES": "2"}, Gpus(("2",), "HIP_VISIBLE_DEVICES")),
    ],
)
def test_a_variable_that_is_set_says_which_gpus_and_an_empty_one_none(
    environ: dict[str, str], expected: Gpus | None
) -> None:
    assert visible_gpus(environ) == expected


def machine(environ: dict[str, str]) -> HostEnvironment:
    """A machine with two GPUs."""
    return HostEnvironment(
        environ,
        "here",
        Cpus((((0,),),)),
        1 << 30,
        0.0,
        lambda path: None,
        lambda command: None,
        find_gpus=lambda: Gpus(("0", "1"), "nvidia-smi"),
    )


def test_a_workstation_s_gpus_are_found_without_a_variable_and_their_origin_is_told() -> None:
    found = detect(machine({}))
    assert found.nodes[0].gpu_ids == ("0", "1")
    assert Source("GPUs", "0,1", "nvidia-smi") in found.sources


@pytest.mark.parametrize(
    ("visible", "ids"),
    [
        ("1", ("1",)),
        ("1,0", ("1", "0")),
        ("", ()),
        ("0,7,1", ("0",)),
        ("7", ()),
        (f"{GPU_0}", (GPU_0,)),
        (f"{PART_0},{PART_1}", (PART_0, PART_1)),
    ],
)
def test_a_variable_restricts_what_the_machine_has(visible: str, ids: tuple[str, ...]) -> None:
    found = detect(machine({"CUDA_VISIBLE_DEVICES": visible}))
    assert found.nodes[0].gpu_ids == ids
    assert Source("GPUs", ",".join(ids) or "none", "CUDA_VISIBLE_DEVICES") in found.sources


@pytest.mark.parametrize("resources", ["auto", "local"])
def test_in_a_batch_job_nothing_is_looked_for(resources: str) -> None:
    """What was not granted may be another job's, also when only this machine is asked for."""
    found = detect(machine({"JOB_ID": "4", "SGE_ROOT": "/sge", "NSLOTS": "1"}), resources=resources)
    assert found.nodes[0].gpu_ids == ()


def test_a_variable_takes_away_what_the_batch_system_granted_on_this_node() -> None:
    environ = {
        "SLURM_JOB_ID": "1",
        "SLURM_JOB_NODELIST": "here",
        "SLURM_JOB_CPUS_PER_NODE": "1",
        "SLURM_JOB_GPUS": "0,1",
    }
    assert detect(machine(environ)).nodes[0].gpu_ids == ("0", "1")
    assert detect(machine(environ | {"CUDA_VISIBLE_DEVICES": "1"})).nodes[0].gpu_ids == ("1",)
    assert detect(machine(environ | {"CUDA_VISIBLE_DEVICES": ""})).nodes[0].gpu_ids == ()


def test_the_command_finds_them_and_says_where(tools: Path) -> None:
    """`pilotfish resources --here` on a machine of two GPUs, one of them divided."""
    tool(tools, "nvidia-smi", DIVIDED)
    command = [sys.executable, "-m", "pilotfish", "resources", "--here", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=PATIENCE_S, env={**os.environ})
    told = json.loads(done.stdout)
    assert told["nodes"][0]["gpu_ids"] == [PART_0, PART_1, GPU_1]
    assert {"what": "GPUs", "value": f"{PART_0},{PART_1},{GPU_1}", "where": "nvidia-smi"} in told["sources"]


def test_a_task_sees_what_it_was_granted_and_without_a_grant_nothing(tools: Path, wd: Path) -> None:
    """... a part of a GPU by its own name, on a machine where no variable said anything."""
    tool(tools, "nvidia-smi", DIVIDED)
    jobs = [
        {
            "name": name,
            "execution": {"script": 'echo "${CUDA_VISIBLE_DEVICES-unset}"', "stdout": name},
            "resources": needs,
        }
        for name, needs in (("with", {"nodeCrs": {"gpu": 1}}), ("without", {}))
    ]
    (wd / "jobs.json").write_text(json.dumps(jobs))
    command = [sys.executable, "-m", "pilotfish", "run", "-q", "--wd", str(wd), str(wd / "jobs.json")]
    subprocess.run(command, check=True, timeout=PATIENCE_S, env={**os.environ})
    assert (wd / "with").read_text().strip() in (PART_0, PART_1, GPU_1)
    assert (wd / "without").read_text() == "\n"


def test_a_machine_without_gpus_says_so() -> None:
    without = HostEnvironment({}, "here", Cpus((((0,),),)), 1 << 30, 0.0, lambda path: None, lambda command: None)
    assert local.find(without).nodes == (NodeSpec("here", ("0",), (), 1 << 30, bind=True),)
