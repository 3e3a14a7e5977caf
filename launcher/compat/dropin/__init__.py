"""The import names and commands of the old systems, served by Pilotfish: `pilotfish with`, `pilotfish.dropin.enable`."""

from __future__ import annotations

import os
import sys

from ....pilot.model.errors import UsageError
from .environment import environment
from .finder import install, is_served
from .tables import SYSTEMS

__all__ = ["SYSTEMS", "check", "enable", "environment"]


def enable(*systems: str) -> None:
    """Serve the names of these old systems in this process, and in all that it starts, from now on.

    Args:
        systems: "qcg", "dpdispatcher", "clusterjob", "fyrd". May be called again, for more of them.

    Raises:
        UsageError: there is no such system, or a module of the original is imported already: objects of both would meet.
    """
    check(systems)
    for name, module in list(sys.modules.items()):
        system = next((each for each in systems if f"{name}.".startswith(f"{SYSTEMS[each].top}.")), None)
        if system is not None and not is_served(module):
            remedy = "enable before the first import of it; in a notebook: restart the kernel"
            raise UsageError("is imported already, from the original", where=name, remedy=remedy)
    os.environ.update(environment(systems, os.environ))
    install(systems)


def check(systems: tuple[str, ...] | list[str]) -> None:
    """Raises UsageError for names of no system."""
    from difflib import get_close_matches

    if not systems:
        raise UsageError("no old system is named", remedy=f"name some of {', '.join(SYSTEMS)}")
    for name in systems:
        if name not in SYSTEMS:
            near = get_close_matches(name, SYSTEMS, 1)
            remedy = f"write {near[0]}" if near else f"use {', '.join(SYSTEMS)}"
            raise UsageError("is no old system that Pilotfish stands in for", where=name, remedy=remedy)
