"""The execution models that there are, and the options (`model_opts`) each of them knows.

How a model starts a program is the business of pilot/execmodels; this table is what a description is checked against.
"""

from __future__ import annotations

from collections.abc import Mapping

_OF_MPIRUN = frozenset({"mpirun", "mpirun_args"})

MODEL_OPTIONS: Mapping[str, frozenset[str]] = {
    "default": frozenset(),
    "threads": frozenset(),
    "openmpi": _OF_MPIRUN,
    "intelmpi": _OF_MPIRUN,
    "mpich": _OF_MPIRUN,
    "srunmpi": frozenset({"srun_args"}),
    "flux": frozenset({"flux_args"}),
}

STARTS_ONE_PROCESS = frozenset({None, "default", "threads"})
"""Models (None: the default) that start a program once, whatever its task was given. It may start others itself."""
