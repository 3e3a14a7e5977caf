"""Execution model `threads`: one process that uses all cores of its grant."""

from __future__ import annotations

from .environ import Env

_COUNTS = (b"OMP_NUM_THREADS", b"MKL_NUM_THREADS", b"OPENBLAS_NUM_THREADS", b"NUMEXPR_NUM_THREADS")


def thread_environment(cores: int, of_job: Env) -> Env:
    """How many threads the usual libraries start; what the job has set itself stays."""
    number = b"%d" % cores
    wanted = dict.fromkeys(_COUNTS, number) | {b"OMP_PROC_BIND": b"true", b"OMP_PLACES": b"cores"}
    return {name: value for name, value in wanted.items() if name not in of_job}
