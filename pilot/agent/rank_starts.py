"""How a function worker starts the ranks of MPI functions on its grant: as the execution models start those of a program.

The command lines are made here, where the grant and the models are known, for a program that the function worker puts in. Which
MPI there is only the function worker can see, in the environment of the call: so unless a model is named, it has the choice of
those that need nothing but the `mpirun` on the PATH.
"""

from __future__ import annotations

from dataclasses import replace

import msgspec

from ..execmodels.base import Place
from ..execmodels.choose import wrap_of
from ..functions import worker as program
from ..model.execution_models import STARTS_ONE_PROCESS
from ..model.ids import JobNo, TaskKey
from ..model.job_spec import Execution
from ..wire.frames import SPREAD_VARIABLE, Settings
from . import places
from .tasks import HeldGrant

_BY_MPIRUN = ("openmpi", "mpich", "intelmpi")
_NO_TASK = TaskKey(JobNo(0), 0, 0)
_MARK_OF_NONE = "0-0-0"


def place_of(execution: Execution, held: HeldGrant, settings: Settings, gpus: bytes) -> Place | None:
    """Where the ranks are to run; None for one, and where models are ignored."""
    spread = execution if execution.model not in STARTS_ONE_PROCESS else replace(execution, model=_BY_MPIRUN[0])
    place = places.place_of(spread, held, settings, gpus, program.STEM, _NO_TASK)
    if place is None:
        return None
    return replace(place, of_job=[name for name in place.of_job if name not in places.OF_ATTEMPT])


def encoded(execution: Execution, place: Place) -> bytes:
    """For each model the command line, variables and files; and what they need besides. Raises LaunchError."""
    models = _BY_MPIRUN if execution.model in STARTS_ONE_PROCESS else (execution.model,)
    found = {}
    for model in models:
        wrapped = wrap_of(model)([program.PROGRAM], place)
        found[model] = wrapped.argv, dict(wrapped.env), dict(wrapped.files)
    mark = place.env.get(SPREAD_VARIABLE, "").removesuffix(_MARK_OF_NONE)
    marks = {SPREAD_VARIABLE: mark} if mark else {}
    return msgspec.msgpack.encode({"models": found, "marks": marks, "is_local": place.is_local})
