"""Execution model `threads`: one process that uses all cores of its grant."""

from __future__ import annotations

from .environ import Env

_PLACES = {b"OMP_PROC_BIND": b"true", b"OMP_PLACES": b"cores"}
_COUNTS = (b"OMP_NUM_THREADS", b"MKL_NUM_THREADS", b"OPENBLAS_NUM_THREADS", b"NUMEXPR_NUM_THREADS")


def thread_environment(cores: int, of_job: Env, places: bool) -> Env:
    """How many threads the usual libraries start; what the job has set itself stays.

    `places`: each thread is to stay on one core. Not so where the task is not bound to any: all tasks' threads would be on
    the first cores of the machine.
    """
    wanted = dict.fromkeys(_COUNTS, b"%d" % cores) | (_PLACES if places else {})
    return {name: value for name, value in wanted.items() if name not in of_job}
