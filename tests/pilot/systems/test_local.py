"""Which nodes a pilot on one machine has: the machine itself, or the virtual ones of `--nodes`."""

from __future__ import annotations

import pytest

from pilotfish.pilot.cpus import Cpus
from pilotfish.pilot.model.errors import SettingsError
from pilotfish.pilot.model.resources import NodeSpec
from pilotfish.pilot.systems import local
from pilotfish.pilot.systems.base import HostEnvironment
from pilotfish.pilot.systems.local import parse_nodes


def test_numbers_alone_are_nodes_named_by_position_that_only_count() -> None:
    assert parse_nodes("2,1") == [NodeSpec("n0", ("0", "1")), NodeSpec("n1", ("0",))]


def test_names_gpus_and_memory_may_be_given_for_each_node() -> None:
    assert parse_nodes("a:1, b:2:2gpu,c:1:1GPU:16G,4:1gpu,d:1:500M") == [
        NodeSpec("a", ("0",)),
        NodeSpec("b", ("0", "1"), ("0", "1")),
        NodeSpec("c", ("0",), ("0",), 16 << 30),
        NodeSpec("n3", ("0", "1", "2", "3"), ("0",)),
        NodeSpec("d", ("0",), (), 500 << 20),
    ]


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("0", '--nodes: entry 1: "0": number of cores for a node must not be less than 1'),
        ("4,-2", '--nodes: entry 2: "-2": number of cores for a node must not be less than 1'),
        ("4,,2", '--nodes: entry 2: "" is not a number of cores; write 4 or NAME:4 or NAME:4:2gpu:16G'),
        ("n1:many", '--nodes: entry 1: "many" is not a number of cores; write 4 or NAME:4 or NAME:4:2gpu:16G'),
        ("n1:4:lots", '--nodes: entry 1: "lots" is neither GPUs nor memory; write 2gpu, 16G or NAME=4'),
        ("a/b:4", '--nodes: entry 1: "a/b" is not a node name'),
        ("n1:4,n1:2", '--nodes: node "n1" is there twice; give each node its own name'),
        ("n1:4,2", '--nodes: node "n1" is there twice; give each node its own name'),
    ],
)
def test_an_entry_that_makes_no_sense_is_named(text: str, error: str) -> None:
    with pytest.raises(SettingsError) as caught:
        parse_nodes(text)
    assert str(caught.value) == error


def machine(environ: dict[str, str], quota: int | None = None) -> HostEnvironment:
    return HostEnvironment(
        environ, "here", Cpus((((2,), (3,), (4,)),)), 1 << 30, 0.0, lambda path: None, lambda command: None, quota
    )


def test_this_machine_has_the_cores_that_this_process_may_use() -> None:
    (node,) = local.find(machine({})).nodes
    assert node == NodeSpec("here", ("2", "3", "4"), (), 1 << 30, bind=True)


def test_a_quota_counts_and_then_nothing_is_bound() -> None:
    (node,) = local.find(machine({}, quota=2)).nodes
    assert node == NodeSpec("here", ("2", "3"), (), 1 << 30, bind=False)


@pytest.mark.parametrize(
    ("visible", "gpus"),
    [
        ("0,2", ("0", "2")),
        ("GPU-1a, GPU-2b", ("GPU-1a", "GPU-2b")),
        ("", ()),
        ("-1", ()),
        ("NoDevFiles", ()),
    ],
)
def test_gpus_are_those_that_cuda_was_told_of(visible: str, gpus: tuple[str, ...]) -> None:
    assert local.find(machine({"CUDA_VISIBLE_DEVICES": visible})).nodes[0].gpu_ids == gpus
