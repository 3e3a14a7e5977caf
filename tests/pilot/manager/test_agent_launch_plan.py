"""How agents are started, by the settings and the allocation."""

from __future__ import annotations

import pytest

from pilotfish.pilot.manager.agent_launch_plan import launcher_for
from pilotfish.pilot.manager.config import build
from pilotfish.pilot.model.resources import NodeSpec
from pilotfish.pilot.systems.base import Allocation


@pytest.mark.parametrize(
    ("kind", "asked", "expected"),
    [
        ("slurm", {}, "srun"),
        ("lsf", {}, "blaunch"),
        ("given", {}, "fork"),
        ("lsf", {"nl-start-method": "ssh"}, "ssh"),
        ("lsf", {"nl-start-method": "slurm"}, "blaunch"),
        ("given", {"nl-start-method": "ssh"}, "fork"),
        ("given", {"agent-launcher": "ssh"}, "ssh"),
        ("slurm", {"nl-start-method": "ssh", "agent-launcher": "hydra"}, "hydra"),
    ],
)
def test_the_old_option_speaks_of_nodes_of_a_batch_system_only(kind: str, asked: dict[str, str], expected: str) -> None:
    """... as in the old service, where virtual nodes asked no launcher; ours is obeyed everywhere."""
    allocation = Allocation(kind, (NodeSpec("far1", ("0",)), NodeSpec("far2", ("0",))))
    assert launcher_for(build(asked), allocation).name == expected
