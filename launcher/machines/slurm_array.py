"""Slurm's job arrays: many tasks of one job, as one batch job with elements."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import ClassVar

from ...pilot.model.errors import PilotfishError
from ..contexts.base import Context, Done
from ..contexts.shell import Text, joined, relative, sh, word, words
from ..description.schema import DescriptionError, Key, KeysOfSystem
from ..job import script
from ..job.spec import JobToPlace
from .base import SubmitRefusedError
from .dialect import cluster_of
from .slurm import DIALECT, Slurm, numbers_of, on


def parts(name: str) -> tuple[str, ...]:
    """`101;east`, `102;east` of `101,102;east`."""
    numbers, mark, cluster = name.partition(";")
    return tuple(f"{number}{mark}{cluster}" for number in numbers.split(","))


def _together(ids: Sequence[str]) -> str:
    """The id of which these are the parts; they are on one cluster."""
    mark = ";" if cluster_of(ids[0]) else ""
    return ",".join(numbers_of(ids)) + mark + cluster_of(ids[0])


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


def _array(job: JobToPlace) -> str:
    return f"#SBATCH --array={ranges(elements(job))}{_at_once(job, 1)}"


def _at_once(job: JobToPlace, arrays: int) -> str:
    """How many elements of each of these arrays may run at the same time."""
    most = job.resources.max_jobs
    return f"%{max(1, most // arrays)}" if most else ""


def arrays(job: JobToPlace, limit: int) -> list[tuple[int, str]]:
    """(what its elements count from, the elements) of arrays without an index as large as the limit."""
    found: dict[int, list[int]] = {}
    for number in elements(job):
        found.setdefault(number // limit * limit, []).append(number % limit)
    return [(start, ranges(numbers) + _at_once(job, len(found))) for start, numbers in sorted(found.items())]


_TOO_LARGE = "Invalid job array specification"


class SlurmJobArray(Slurm):
    """One batch job whose elements run `slurm_job_size` tasks each; it lives as long as one of them. Its id is the array's.

    What is larger than the site's MaxArraySize is several arrays, whose numbers are together its id: `101,102`, `101,102;east`.
    They are submitted on hold and let go when all have been taken, so none has started when one is not.
    """

    kind = "SlurmJobArray"
    aliases: ClassVar[tuple[str, ...]] = ()
    dialect = replace(DIALECT, kind="SlurmJobArray", parts=parts)
    keys = KeysOfSystem(
        (*Slurm.keys.keys, Key("slurm_job_size", "int", 1, "tasks of one element of the array", least=1))
    )

    def script(self, job: JobToPlace) -> dict[str, str]:
        lines = [_array(job)] if job.template else [*self.dialect.header(job), _array(job)]
        return self.rendered(lines, job, None if job.body is not None else _run_part(job), keep_header=True)

    def _taken(self, context: Context, job: JobToPlace, done: Done) -> str:
        try:
            return super()._taken(context, job, done)
        except SubmitRefusedError as error:
            if _TOO_LARGE not in error.what or len(elements(job)) < 2:
                raise
        return self._submit_several(context, job)

    def _submit_several(self, context: Context, job: JobToPlace) -> str:
        told = re.search(r"^MaxArraySize\s*=\s*(\d+)", self._run(context, sh("scontrol show config")).out, re.MULTILINE)
        limit = int(told[1]) if told else 0
        if limit < 1:
            what = f"{_TOO_LARGE}: this site takes no arrays, or does not say how large they may be"
            raise SubmitRefusedError(what, where=self.name, remedy="take batch_type Slurm, or a larger slurm_job_size")
        ids: list[str] = []
        try:
            for start, array in arrays(job, limit):
                some = "sbatch --parsable --hold --array={array} {script} {start}"
                command = sh(some, array=word(array), script=relative(job.script_name), start=start)
                ids.append(self.id_in(self._run(context, command, cwd=job.root, once=True)))
        except PilotfishError:
            if ids:
                self.cancel(context, ids)
            raise
        context.write({f"{job.root}/{job.id_file}": _together(ids).encode()})
        return self._one_of(context, ids)

    def _one_of(self, context: Context, names: Sequence[str]) -> str:
        """All of them: who submitted them may have died before they were let go."""
        self._run(context, sh("scontrol{on} release {numbers}", on=on(names), numbers=words(numbers_of(names))))
        return _together(names)


def _run_part(job: JobToPlace) -> Text:
    parts = [script.pool(job.resources), sh('case "${pf_part#.}" in\n')]
    for number, positions in elements(job).items():
        blocks = joined(script.task_block(job, position) for position in positions)
        parts.append(sh("{number}){blocks};;\n", number=number, blocks=blocks))
    return joined([*parts, sh("*) exit 1 ;;\nesac\nwait\n")])
