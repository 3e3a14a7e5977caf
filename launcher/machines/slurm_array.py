"""Slurm's job arrays: one batch job whose elements run `slurm_job_size` tasks each."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from ..description.schema import DescriptionError
from ..job import script
from ..job.spec import JobToPlace
from . import slurm
from .commands import BatchMachine


def _size(job: JobToPlace) -> int:
    size = job.resources.kwargs.get("slurm_job_size", 1)
    if not isinstance(size, int) or size < 1:
        what = "slurm_job_size must be an integer greater than or equal to 1"
        raise DescriptionError(what, where="resources.kwargs.slurm_job_size")
    return size


def elements(job: JobToPlace) -> dict[int, list[int]]:
    """Positions of tasks by element; of a job that is placed again only elements with a task that has not succeeded."""
    size = _size(job)
    pending = range(len(job.tasks)) if job.pending is None else job.pending
    found: dict[int, list[int]] = {}
    for position in pending:
        found.setdefault(position // size, []).append(position)
    return found


def ranges(numbers: Iterable[int]) -> str:
    """`0-3,7,9-10`: a list of single numbers can be longer than a line may be."""
    parts: list[list[int]] = []
    for number in sorted(numbers):
        if parts and number == parts[-1][1] + 1:
            parts[-1][1] = number
        else:
            parts.append([number, number])
    return ",".join(str(first) if first == last else f"{first}-{last}" for first, last in parts)


def header(job: JobToPlace) -> list[str]:
    return [*slurm.header(job), _array(job)]


def _array(job: JobToPlace) -> str:
    most = f"%{job.resources.max_jobs}" if job.resources.max_jobs else ""
    return f"#SBATCH --array={ranges(elements(job))}{most}"


class SlurmJobArray(BatchMachine):
    """The id is that of the array; it lives as long as one of its elements."""

    kind = "SlurmJobArray"
    dialect = replace(slurm.DIALECT, kind="SlurmJobArray", header=header)

    def script(self, job: JobToPlace) -> dict[str, str]:
        lines = [_array(job)] if job.template else [line for line in header(job) if line]
        return script.render(lines, job, None if job.body is not None else _run_part(job), keep_header=True)


def _run_part(job: JobToPlace) -> str:
    lines = [script.pool(job.resources), 'case "$SLURM_ARRAY_TASK_ID" in\n']
    for number, positions in elements(job).items():
        blocks = "".join(script.task_block(job, position) for position in positions)
        lines.append(f"{number}){blocks};;\n")
    return "".join([*lines, "*) exit 1 ;;\nesac\nwait\n"])
