"""For `pilotfish doctor`: which transport a host gets and why, and whether the other one would do as well."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ....pilot.model.errors import PilotfishError
from .choice import NAMES, Choice, Connector, choose
from .session import BrokenError


@dataclass(frozen=True)
class Comparison:
    """The transport that is used, and what came of the other: nothing when it works, else what stands in its way."""

    choice: Choice
    other: str
    trip_s: float
    problem: str

    @property
    def found(self) -> str:
        works = f"works too, {self.trip_s * 1000:.0f} ms for a command"
        return f"{self.choice.name} is used: {self.choice.why}; {self.other} {self.problem or works}"

    @property
    def remedy(self) -> str:
        """Where the transport that is used does not work."""
        return "" if self.problem else f'{self.other} works: set "transport": "{self.other}" in remote_profile'


def compare(profile: Mapping[str, Any]) -> Comparison:
    """Log in by the transport that is not used, without asking anybody, and run a command."""
    choice = choose(profile)
    other = next(name for name in NAMES if name != choice.name)
    if profile.get("totp_secret"):
        return Comparison(choice, other, 0.0, "is not tried: a one-time password is good for one login")
    try:
        return Comparison(choice, other, _trip_s({**profile, "transport": other}), "")
    except (PilotfishError, OSError, BrokenError) as error:
        problem = error.what if isinstance(error, PilotfishError) else str(error)
        return Comparison(choice, other, 0.0, f"does not work: {problem}")


def _trip_s(profile: Mapping[str, Any]) -> float:
    transport = Connector(profile, interactive=False)(True)
    try:
        began = time.monotonic()
        channel = transport.start(b"true", float(profile.get("timeout", 10)))
        channel.shutdown_write()
        channel.recv_exit_status()
        channel.close()
        return time.monotonic() - began
    finally:
        transport.close()
