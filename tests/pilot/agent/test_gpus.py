"""What an agent tells of where its processors and GPUs are; the bus of the latter is made of files."""

from __future__ import annotations

import os
from pathlib import Path

from fake_manager import FakeManager

from pilotfish.pilot.agent.gpus import near_gpus


def _device(bus: Path, address: str, vendor: str, kind: str, cpus: str) -> None:
    folder = bus / address
    folder.mkdir(parents=True)
    for name, text in (("vendor", vendor), ("class", kind), ("local_cpulist", cpus)):
        (folder / name).write_text(f"{text}\n")


def test_gpus_come_in_the_order_of_the_bus(tmp_path: Path) -> None:
    _device(tmp_path, "0000:c1:00.0", "0x10de", "0x030200", "4-7")
    _device(tmp_path, "0000:01:00.0", "0x10de", "0x030200", "0-1,3")
    _device(tmp_path, "0000:02:00.0", "0x1a03", "0x030000", "0-7")  # the console's display
    _device(tmp_path, "0000:03:00.0", "0x10de", "0x040300", "0-7")  # the sound of a GPU
    assert near_gpus(tmp_path) == [[0, 1, 3], [4, 5, 6, 7]]


def test_without_a_bus_there_are_none(tmp_path: Path) -> None:
    assert near_gpus(tmp_path / "none") == []


def test_hello_tells_the_processors_by_socket(manager: FakeManager) -> None:
    told = [cpu for socket in manager.heard.hellos[0].sockets for cpu in socket]
    assert sorted(told) == sorted(os.sched_getaffinity(0))
