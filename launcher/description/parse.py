"""Names that have moved; goes when nobody asks here any more."""

from __future__ import annotations

from .machine import MachineDescription, machine_to_dict, parse_machine
from .names import CONTEXTS
from .resources import Resources
from .submission import SubmissionDescription, parse_submission

parse_resources = Resources.deserialize

__all__ = [
    "CONTEXTS",
    "MachineDescription",
    "SubmissionDescription",
    "machine_to_dict",
    "parse_machine",
    "parse_resources",
    "parse_submission",
]
