"""Names of the variables by which processes of a pilot, its tasks and its clients tell each other something.

Each stands only here: what one process sets and another reads must not drift apart.
"""

from __future__ import annotations

CONNECTION = "PILOTFISH_CONNECTION"
"""For tasks and clients: where the connection file of the pilot is."""
ADDRESS = "QCG_PM_ZMQ_ADDRESS"
"""The same of the old system: the address of its request endpoint."""
CONNECT = "PILOTFISH_CONNECT"
"""For agents without a shared folder: the content of the connection file."""
LIFELINE_FD = "PILOTFISH_LIFELINE_FD"
"""For agents: the pipe whose end means that the program that started the pilot is gone."""
INHERITED = "PILOTFISH_INHERITED"
"""For agents: what the manager has changed for itself, and tasks are to find as it was."""
AGENT_ID = "PILOTFISH_AGENT_ID"
"""In all that an agent has started, so that what outlives it can be found."""
TASK = "PILOTFISH_TASK"
"""For tasks: `JOB` or `JOB:ITERATION`."""
RUN = "PILOTFISH_RUN"
"""For tasks: which attempt it is, from 1."""

RESOURCE = "PILOTFISH_RESOURCE_"
"""For tasks, before the name of a resource in capital letters: the ids of what they have of it, or how much."""
PART = "_PART"
"""Behind that name: how large the part of one thing is that they have, as 1/4."""

DROPIN = "PILOTFISH_DROPIN"
"""For programs below `pilotfish with`, and all they start: the old systems whose names they find."""
DROPIN_PYTHON = "PILOTFISH_DROPIN_PYTHON"
"""For the old systems' commands: the interpreter that has Pilotfish."""
DROPIN_PATH = "PILOTFISH_DROPIN_PATH"
"""For a Python without Pilotfish: where what that imports is installed."""
DROPIN_TAG = "PILOTFISH_DROPIN_TAG"
"""Which kind of Python can use that."""

OURS = (CONNECTION, CONNECT, LIFELINE_FD, INHERITED, AGENT_ID, TASK, RUN)
"""Those that begin with our prefix, as settings of the service do."""

OF_DROPIN = (DROPIN, DROPIN_PYTHON, DROPIN_PATH, DROPIN_TAG)
"""Those with our prefix that tasks are to see as the pilot was started with them."""
