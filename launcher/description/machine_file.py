"""A machine by its name or file, with what jobs there ask for when that stands beside it (a submission has both)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from . import files
from .machine import MachineDescription, parse_machine
from .schema import DescriptionError, check_pair


def machine_file(name: str) -> tuple[MachineDescription, Mapping[str, Any], Mapping[str, Any] | None]:
    """(a machine by its name, or of a file: a machine file, or a submission; its `resources` and `pilot`, as they are written).

    Raises DescriptionError.
    """
    given = files.machine_by_name(name)
    resources: Mapping[str, Any] = {}
    pilot: Mapping[str, Any] | None = None
    if isinstance(given, dict) and "machine" in given:
        if isinstance(given.get("resources"), dict):
            resources = given["resources"]
        pilot = given.get("pilot")
        given = given["machine"]
        if isinstance(given, str):
            given = files.machine_by_name(given)
    if not isinstance(given, dict):
        remedy = "name a machine file, or a submission with `machine`; `pilotfish init` writes one"
        raise DescriptionError("has no machine", where=name, remedy=remedy)
    machine = parse_machine(given, name)
    check_pair(machine.batch_type, machine.context_type, name)
    return machine, resources, pilot
