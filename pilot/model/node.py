"""One node of the pilot: where it stands, and whose word counts there."""

# What a node has, and what of it is free, is in nodes.py, in lists by the number of the node: a need is compared with a
# thousand of them at once. Here is what is asked of one node at a time, when something happens to its agent.
#
# Where it stands is one state with a table (NODE_TABLE in states.py). `Nodes.move` alone changes it, because the set of
# usable nodes follows from it.

from __future__ import annotations

from .ids import NodeNo
from .states import NodeState


class Node:
    """The record of one node. It stays when the node has left, since results name it."""

    __slots__ = ("agent", "expected", "failures", "has_come", "has_served", "left_behind", "number", "reason", "state")

    def __init__(self, number: NodeNo) -> None:
        self.number = number
        self.state = NodeState.EXPECTED
        self.agent = ""
        """The agent that has reported last, in this life of the manager or an earlier one, whether it is still there or not."""
        self.expected: set[str] = set()
        """The agents that may report: those that were started and are not known to be gone. Any other is sent away."""
        self.failures = 0
        """How many agents in a row have not reported, or have ended before they were of use."""
        self.reason = ""
        """Why the last of them failed; empty once another one has reported."""
        self.has_come = False
        """An agent has reported in this life of the manager, or lives on from an earlier one: the start has succeeded."""
        self.has_served = False
        """An agent has reported work, or has stayed for a while: agents can work here."""
        self.left_behind = ""
        """An agent that did not end in good order, so that tasks of it may still run; its successor clears them away."""

    def __repr__(self) -> str:
        return f"<Node {self.number} {self.state.name}>"
