"""How a batch system is asked for nodes, time and the like at the top of a script: one table for each.

Everybody who writes such lines reads them from there: the native script, the old interfaces in `compat/`. A table stands in the
order in which the native script writes its lines; the rows below those are for the old interfaces, which ask for more.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from ..description.resources import Resources
from ..description.schema import DescriptionError
from ..job.spec import JobToPlace

Row = str | Callable[[Resources], Sequence[str]]

_OF_SOME = ("account", "qos", "memory", "exclusive", "reservation", "dependency")
"""What not every batch system can be asked for."""


@dataclass(frozen=True)
class Directives:
    """The table of one batch system.

    Attributes:
        prefix: what each line begins with.
        rows: what is asked for -> words with `{}` for the value, or a function where several wishes make one directive (or one
            makes several). Empty words: another row asks for it. What has no row is refused.
        always: rows that are written whatever is asked for.
        values: what is counted or called otherwise than in the resources, by row; None leaves a row out.
        name_limit, name_prefix: longest name of a job, and what goes before one that does not begin with a letter.
        minutes: time limits are whole minutes, not HH:MM:SS.
        id, between_ids: how the jobs that must have ended well are listed.
        bare_ids: takes out of a text what ids have that a directive does not take.
        option: how an option without a row is spelt: `--key=value`, `-l key=value` or `-key value`.
        by_nodes: cores are asked for as nodes and cores on each; else as slots, wherever they lie.
        one_program: keys of resources by which so many cores of a node belong to one program, not to a rank of MPI each.
    """

    prefix: str
    rows: Mapping[str, Row]
    always: tuple[str, ...] = ()
    values: Callable[[JobToPlace], Mapping[str, Any]] = field(default=lambda job: {})
    name_limit: int = 128
    name_prefix: str = ""
    minutes: bool = False
    id: str = "{}"
    between_ids: str = ":"
    bare_ids: Callable[[str], str] = str
    option: Literal["long", "listed", "dashed"] = "dashed"
    by_nodes: bool = True
    one_program: Callable[[int], Mapping[str, Any]] = field(default=lambda cores: {})

    def header(self, job: JobToPlace, kind: str) -> list[str]:
        """The lines for a job. Raises DescriptionError for a wish that this batch system, called `kind`, has no row for."""
        self._refuse(job.resources, kind)
        wishes = {**self._wishes(job), **self.values(job)}
        lines = [line for name in self.rows for line in self._row(name, job.resources, wishes)]
        return [line if line.startswith("#") else f"{self.prefix} {line}" for line in lines if line]

    def _row(self, name: str, resources: Resources, wishes: Mapping[str, Any]) -> Sequence[str]:
        row, value = self.rows[name], wishes.get(name)
        if name == "gpus" and row != "" and resources.kwargs.get("custom_gpu_line") is not None:
            return [str(resources.kwargs["custom_gpu_line"])]
        if callable(row):
            return row(resources)
        if name in self.always:
            return [row]
        return [self.words(name, value)] if value and row else []

    def words(self, name: str, value: Any = True) -> str:
        """The directive of a row of words, without the prefix."""
        row = self.rows[name]
        assert isinstance(row, str)
        return row.format(value)

    def has(self, name: str) -> bool:
        return name in self.rows

    def limit(self, seconds: float) -> str:
        """A time limit, rounded up."""
        return str(-int(-seconds // 60)) if self.minutes else clock(seconds)

    def shown_name(self, job: JobToPlace) -> str:
        """What the batch system shows for a job; empty for no name."""
        return job_name(job.name or None, job.hash, self.name_limit, self.name_prefix)

    def _wishes(self, job: JobToPlace) -> dict[str, Any]:
        resources = job.resources
        ids = self.between_ids.join(self.id.format(name) for name in resources.dependency)
        return {
            "nodes": resources.number_node,
            "gpus": max(0, resources.gpu_per_node),
            "queue": resources.queue_name,
            "name": self.shown_name(job),
            "walltime": self.limit(resources.walltime_s) if resources.walltime_s else None,
            "account": resources.account,
            "qos": resources.qos,
            "memory": resources.memory_mib,
            "exclusive": resources.exclusive,
            "reservation": resources.reservation,
            "dependency": self.bare_ids(ids),
        }

    def _refuse(self, resources: Resources, kind: str) -> None:
        refuse(resources, kind, [name for name in _OF_SOME if name not in self.rows])


def tasks_and_threads(resources: Resources) -> tuple[int | None, int]:
    """(processes on a node, cores of each): as `tasks_per_node` in `kwargs` asks; None where it is not given."""
    tasks = resources.kwargs.get("tasks_per_node")
    return tasks, -(-resources.cpu_per_node // tasks) if tasks else 1


def refuse(resources: Resources, kind: str, names: Sequence[str]) -> None:
    """Raise DescriptionError for wishes that are set and that this batch system cannot be asked for."""
    given = {**vars(resources), "memory": resources.memory_mib}
    for name in names:
        if given[name]:
            remedy = "leave it out, or write the site's own directive into custom_flags"
            raise DescriptionError(f"{kind} has nothing for {name!r}", where=f"resources.{name}", remedy=remedy)


def clock(seconds: float) -> str:
    """HH:MM:SS, rounded up; hours may have more than two digits."""
    whole = -int(-seconds // 1)
    return f"{whole // 3600:02d}:{whole // 60 % 60:02d}:{whole % 60:02d}"


def job_name(task_name: str | None, job_hash: str, limit: int, prefix: str) -> str:
    """What the batch system shows for a job of one task; empty for no name."""
    if task_name is None or not limit:
        return ""
    name = re.sub(r"[^A-Za-z0-9_.-]+", "-", task_name).strip("._-") or f"dp-{job_hash[:8]}"
    if prefix and not name[0].isalpha():
        name = prefix + name
    if len(name) > limit:
        mark = hashlib.sha1(task_name.encode(), usedforsecurity=False).hexdigest()[:8]
        name = f"{name[: limit - 9].rstrip('._-')}-{mark}"
    return name
