"""`MachinePlace`: what an executor was told of a machine, checked; and its pilot there, as api/executor/place.py has it."""

from __future__ import annotations

import logging
import os
import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from ...pilot.model import walltime
from ...pilot.model.errors import UsageError
from ..contexts.registry import context_class
from ..description.digests import digest
from ..description.machine import MachineDescription
from ..description.pilot import Pilot
from ..description.resources import Resources
from ..description.schema import DescriptionError
from ..description.submission import SubmissionDescription
from ..submission.machine import MachineLike, described_machine
from ..submission.placement import Placement
from .placed_pilot import PlacedPilot

log = logging.getLogger(__name__)

_IDLE_S = 900.0
"""After which a pilot ends that no program can find again."""
_WHO = ("hostname", "username", "port")


class MachinePlace:
    """Raises DescriptionError, a ValueError.

    Args:
        machine: as `described_machine` takes it, or a path.
        name: of the executor; None: nobody will look for the pilot again.
        folder: where results are kept, for `name`; default: the current one.
        resources, pilots, idle_timeout: as Executor.
        words: options of `pilotfish service`.
    """

    def __init__(
        self,
        machine: MachineLike | os.PathLike[str],
        *,
        name: str | None = None,
        folder: str | os.PathLike[str] | None = None,
        resources: Resources | Mapping[str, Any] | None = None,
        pilots: int | Pilot | Mapping[str, Any] | None = None,
        idle_timeout: str | float | None = None,
        words: Sequence[object] = (),
    ) -> None:
        described = described_machine(os.fspath(machine) if isinstance(machine, os.PathLike) else machine)
        home = Path(folder or ".").absolute()
        idle_s = _idle_s(idle_timeout, has_name=name is not None)
        options = [str(word) for word in words] + ([] if idle_s is None else ["--idle-timeout", f"{idle_s:g}s"])
        token = name or secrets.token_hex(8)
        placement = Placement(
            SubmissionDescription(
                work_base=f"executor-{token}",
                machine=described,
                resources=_resources(resources),
                tasks=(),
                pilot=_pilot(pilots, options),
            ),
            tell=log.info,
        )
        placement.hash = _identity(token, str(home) if name else "", described)
        self.is_here = context_class(described.context_type).local
        self.results = home / f".pilotfish-executor-{name}" if name else None
        self._placement = placement
        where = str(described.profile.get("hostname") or described.batch_type)
        self._pilot = PlacedPilot(placement, where, keeps=name is not None)

    def pilot(self, is_needed: Callable[[], bool], ends: int) -> Path:
        """As Place."""
        return self._pilot.wait(is_needed, ends)

    def look(self) -> None:
        """As Place."""
        self._pilot.look()

    def end(self) -> None:
        """As Place."""
        if self._pilot.is_begun or self._placement.is_recorded:
            self._pilot.end()


def _identity(token: str, home: str, machine: MachineDescription) -> str:
    """By which the pilot is found again: not by what it asks for, which may be another thing in its next life."""
    who = [machine.profile.get(name) for name in _WHO]
    where = [machine.batch_type, machine.context_type, machine.remote_root, *who]
    return digest({"executor": token, "home": home, "machine": where})


def _resources(given: Resources | Mapping[str, Any] | None) -> Resources:
    if isinstance(given, Resources):
        return given
    if given is not None and not isinstance(given, Mapping):
        raise DescriptionError(f"{given!r} is not a mapping", where="resources", remedy='write {"number_node": 2, ...}')
    return Resources.load_from_dict({"group_size": 0, **(given or {})})


def _pilot(given: int | Pilot | Mapping[str, Any] | None, options: Sequence[str]) -> Pilot:
    if isinstance(given, Pilot):
        known = {each.name: getattr(given, each.name) for each in fields(given)}
    elif isinstance(given, Mapping):
        known = dict(given)
    else:
        known = {} if given is None else {"pilots": given}
    pilot = Pilot.load_from_dict({**known, "service": True})
    pilot.options = [*options, *pilot.options]
    return pilot


def _idle_s(given: str | float | None, *, has_name: bool) -> float | None:
    if given is None:
        return None if has_name else _IDLE_S
    try:
        found = walltime.parse(given) if isinstance(given, str) else float(given)
    except (UsageError, TypeError) as error:
        what = error.what if isinstance(error, UsageError) else f"{given!r} is not a time"
        raise DescriptionError(what, where="idle_timeout", remedy='write "30m", or seconds') from None
    if not found > 0:
        raise DescriptionError(f"{given!r} is no time to wait", where="idle_timeout", remedy="write more than 0")
    return found
