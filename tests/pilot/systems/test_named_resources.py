"""`--resource NAME=VALUE`, and named resources in `--nodes`."""

from __future__ import annotations

import pytest

from pilotfish.pilot.model.errors import SettingsError
from pilotfish.pilot.model.resources import NamedResource
from pilotfish.pilot.systems.local import parse_nodes
from pilotfish.pilot.systems.named_resources import parse, parse_all, with_own


@pytest.mark.parametrize(
    ("text", "resource"),
    [
        ("fpga=4", NamedResource("fpga", amount=4)),
        ("nvme=0-3", NamedResource("nvme", ("0", "1", "2", "3"))),
        ("nvme=0,2-3", NamedResource("nvme", ("0", "2", "3"))),
        ("nvme=[7]", NamedResource("nvme", ("7",))),
        ("port=[tcp/80, a.b]", NamedResource("port", ("tcp/80", "a.b"))),
        ("Scratch = 400G", NamedResource("scratch", amount=400 << 30, in_bytes=True)),
    ],
)
def test_numbers_ids_and_bytes(text: str, resource: NamedResource) -> None:
    assert parse(text, "--resource") == resource


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("nvme", '"nvme" says nothing of how much there is; write NAME=4'),
        ("nvme=", '"nvme=" says nothing of how much there is'),
        ("nvme=0", '"nvme=0" is no amount that there can be'),
        ("nvme=[a,a]", "has no ids, too many, or one twice"),
        ("nvme=[a b]", "is not a list of ids"),
        ("nvme=0-99999999", "has more than 4096 ids"),
        ("nvme=3-0", "is not a list of hosts"),
        ("nvme=lots", '"nvme=lots" is not an amount'),
        ("gpu=2", '"gpu" is not a name for a resource'),
        ("a-b=2", '"a-b" is not a name for a resource'),
    ],
)
def test_what_cannot_be_meant_is_refused(text: str, error: str) -> None:
    with pytest.raises(SettingsError) as caught:
        parse_all([text], "--resource")
    assert error in str(caught.value)


def test_a_name_is_said_once() -> None:
    with pytest.raises(SettingsError, match=r'--resource: "a" is there twice'):
        parse_all(["a=1", "A=2"], "--resource")


def test_a_virtual_node_may_have_its_own() -> None:
    """Which wins over what all nodes have."""
    first, second = parse_nodes("n1:4:2gpu:nvme=0-1,n2:2:fpga=1")
    of_all = parse_all(["nvme=4", "scratch=1G"], "--resource")
    assert with_own(first, of_all) == (NamedResource("nvme", ("0", "1")), of_all[1])
    assert with_own(second, of_all) == (NamedResource("fpga", amount=1), *of_all)
