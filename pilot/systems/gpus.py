"""The GPUs of this machine, where neither a batch system nor a variable says which are ours.

NVIDIA's are asked for with `nvidia-smi -L`, AMD's are read from the kernel (`/sys/class/kfd`; where it does not show them, from
`rocm-smi`). NVIDIA's library (NVML) would save a process, but its first call starts the driver, which takes seconds on some
machines and never ends on sick ones, and a call inside our own process cannot be given up. A machine without GPUs has none of
these, and is asked nothing.

A GPU that is divided (MIG) is its parts: each is a slot of its own, and the whole is not one. Then all ids are UUIDs, because
CUDA's numbers say nothing of parts; else they are numbers, which users and programs expect.
"""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path
from typing import NamedTuple

from .commands import NoAnswerError, output_of

PATIENCE_S = 5.0
_NVIDIA_SMI, _ROCM_SMI = "nvidia-smi", "rocm-smi"
_GPU_LINE = re.compile(r"^GPU (\d+):.*\(UUID: ([^)]+)\)", re.MULTILINE)
_PART_LINE = re.compile(r"^\s+MIG .*\(UUID: ([^)]+)\)", re.MULTILINE)
_ANY_LINE = re.compile(f"{_GPU_LINE.pattern}|{_PART_LINE.pattern}", re.MULTILINE)
_ROCM_CARD = re.compile(r"\bGPU\[(\d+)\]|\bcard(\d+)\b")


class Gpus(NamedTuple):
    """Ids as the variables for programs take them, and where they were found; `where` when there are none: who was asked."""

    ids: tuple[str, ...]
    where: str


def of_this_machine(dev: Path = Path("/dev"), kfd: Path = Path("/sys/class/kfd/kfd/topology/nodes")) -> Gpus:
    """NVIDIA's, else AMD's, else none. Takes at most PATIENCE_S for each maker's command."""
    found = _nvidia(dev)
    return found if found.ids else _amd(dev, kfd, found)


# --- NVIDIA -------------------------------------------------------------------------------------------------------------


def _nvidia(dev: Path) -> Gpus:
    if shutil.which(_NVIDIA_SMI) is not None:
        try:
            return Gpus(parse_nvidia(output_of([_NVIDIA_SMI, "-L"], PATIENCE_S) or ""), _NVIDIA_SMI)
        except NoAnswerError as error:
            return Gpus(_device_files(dev), f"/dev/nvidia* ({error})")
    # A container may have the GPUs without the command. Its numbers begin with 0, whatever the files are called.
    return Gpus(_device_files(dev), "/dev/nvidia*")


def parse_nvidia(text: str) -> tuple[str, ...]:
    """The ids of what `nvidia-smi -L` lists.

    It writes a line for each GPU, and below it an indented one for each part of a divided one:

        GPU 0: NVIDIA A100-SXM4-40GB (UUID: GPU-5c89852c-d268-c3f3-1b07-005d5ae1dc3f)
          MIG 3g.20gb     Device  0: (UUID: MIG-a1b2c3d4-0000-5de3-91c7-45d71c87eb3f)

    Older drivers write the UUID of a part as MIG-GPU-UUID/INSTANCE/INSTANCE.
    """
    if not _PART_LINE.search(text):
        return tuple(number for number, _ in _GPU_LINE.findall(text))
    ids: list[str] = []
    whole = ""
    for _, gpu, part in _ANY_LINE.findall(text):
        if gpu:
            ids += [whole] if whole else []
            whole = gpu
        else:
            whole = ""  # it has parts
            ids.append(part)
    return tuple([*ids, whole] if whole else ids)


def _device_files(dev: Path) -> tuple[str, ...]:
    try:
        count = sum(re.fullmatch(r"nvidia\d+", name) is not None for name in os.listdir(dev))
    except OSError:
        count = 0
    return tuple(map(str, range(count)))


# --- AMD ----------------------------------------------------------------------------------------------------------------


def _amd(dev: Path, kfd: Path, nvidia: Gpus) -> Gpus:
    if os.access(dev / "kfd", os.R_OK | os.W_OK):
        ids = tuple(map(str, range(_kfd_gpus(kfd))))
        if ids:
            return Gpus(ids, "/sys/class/kfd")
    if shutil.which(_ROCM_SMI) is not None:
        try:
            return Gpus(parse_rocm(output_of([_ROCM_SMI, "--showid"], PATIENCE_S) or ""), _ROCM_SMI)
        except NoAnswerError as error:
            return Gpus((), str(error))
    return Gpus((), nvidia.where if nvidia.where == _NVIDIA_SMI else "no /dev/nvidia*, no /dev/kfd")


def _kfd_gpus(kfd: Path) -> int:
    """How many of the kernel's nodes are GPUs that we may use: those of others cannot be read, and are not counted by ROCm.

    The runtime numbers them in the same order.
    """
    count = 0
    try:
        nodes = os.listdir(kfd)
    except OSError:
        return 0
    for node in nodes:
        try:
            count += (kfd / node / "gpu_id").read_text().strip() not in ("", "0")
        except OSError:
            continue
    return count


def parse_rocm(text: str) -> tuple[str, ...]:
    """The ids of what `rocm-smi --showid` lists: lines that begin with `GPU[0]`, or with `card0` in its other formats."""
    numbers = {int(by_gpu or by_card) for by_gpu, by_card in _ROCM_CARD.findall(text)}
    return tuple(map(str, sorted(numbers)))
