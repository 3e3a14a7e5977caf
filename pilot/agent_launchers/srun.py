"""Slurm: one `srun` for all nodes; it does its own tree."""

from __future__ import annotations

from collections.abc import Sequence

from .base import Starter

_FLAGS = (
    "--overlap",  # beside the tasks' own steps, which it must not keep from starting
    "--cpu-bind=none",
    "--mem=0",  # the node's, as the agent hands it out itself
    "--ntasks-per-node=1",
    "--kill-on-bad-exit=0",  # an agent that dies is no reason to end the others
    "--no-kill",  # nor is a node that goes down
    "--wait=0",
    "--input=none",
    "--label",
    "--unbuffered",
    "--export=ALL",
)


def _argv(nodes: Sequence[str], command: Sequence[str]) -> list[str]:
    return [
        "srun",
        *_FLAGS,
        f"--nodes={len(nodes)}",
        f"--ntasks={len(nodes)}",
        f"--nodelist={','.join(nodes)}",
        *command,
    ]


STARTER = Starter("srun", _argv, at_once=True, node_variable="SLURMD_NODENAME", connect="environment")
