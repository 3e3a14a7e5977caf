"""What a grant's tasks tell the launchers and libraries that they start themselves; worked out once for each grant."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import NamedTuple

from .. import variable_names
from ..execmodels import own_launchers
from ..execmodels.environ import Env, encode
from ..wire.frames import NewGrant
from .topologies import Topologies

_OF_A_TASK = os.fsencode(variable_names.TASK)


class Hints(NamedTuple):
    """`has_places`: the task's processors are its own, so that its threads may be bound to them."""

    env: Env
    has_places: bool


NO_HINTS = Hints({}, True)


class LauncherHints:
    """For the tasks of one worker. `started_with` is its environment, `cpus` its processors, of `machine` that there are."""

    def __init__(self, started_with: Mapping[bytes, bytes], cpus: frozenset[int], machine: int) -> None:
        # In a task of another pilot such variables are that pilot's, and not the user's.
        self._of_user = frozenset(() if _OF_A_TASK in started_with else started_with)
        self._cpus = cpus
        self._machine = machine
        self._topologies = Topologies()

    def of(self, grant: NewGrant, bound: frozenset[int]) -> Hints:
        """`bound`: the processors to which the grant's tasks are bound; empty: to none."""
        own = bound
        if not own and len(grant.nodes[0].core_ids) >= len(self._cpus):
            own = self._cpus  # all that there is for us
        if len(grant.nodes) > 1 or not own:
            told = own_launchers.on_part()
        elif len(own) == self._machine:
            return NO_HINTS
        else:
            told = own_launchers.on_cores(own, self._topologies.path_of(own))
        env = {name: value for name, value in encode(told).items() if name not in self._of_user}
        return Hints(env, bool(own))

    @property
    def variables(self) -> list[str]:
        """Names of the variables that are ours if a task has them."""
        return [name for name in own_launchers.NAMES if name.encode() not in self._of_user]

    def close(self) -> None:
        """No task runs any more."""
        self._topologies.close()
