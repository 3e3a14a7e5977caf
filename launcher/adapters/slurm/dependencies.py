"""`--dependency`: `afterok:1:2,afterany:3`, `afterok:1?afternotok:2`, `singleton`."""

from __future__ import annotations

import re
from enum import Enum
from typing import NamedTuple

from .errors import failed_submit

KINDS = ("after", "afterany", "afternotok", "afterok", "aftercorr")
_JOB = re.compile(r"(\d+)(?:_(\d+|\*))?(?:\+(\d+))?", re.ASCII)


class Clause(NamedTuple):
    """One job that another waits for. `delay_s`: only for `after`, from its start."""

    kind: str
    job: int
    element: int | None = None
    delay_s: float = 0.0

    def __str__(self) -> str:
        part = f"_{self.element}" if self.element is not None else ""
        return f"{self.kind}:{self.job}{part}"


class Dependency(NamedTuple):
    """`any`: one clause is enough (`?` between them)."""

    clauses: tuple[Clause, ...] = ()
    singleton: bool = False
    any: bool = False

    def __bool__(self) -> bool:
        return bool(self.clauses) or self.singleton


class Verdict(Enum):
    MET = "met"
    WAITS = "waits"
    NEVER = "never"


NONE = Dependency()


def parse(text: str) -> Dependency:
    """Raises Refusal as sbatch does."""
    wrong = failed_submit("Job dependency problem")
    if "?" in text and "," in text:
        raise wrong
    clauses: list[Clause] = []
    singleton = False
    for part in re.split(r"[,?]", text):
        kind, mark, jobs = part.strip().partition(":")
        if kind == "singleton" and not mark:
            singleton = True
            continue
        if kind not in KINDS or not jobs:
            raise wrong
        for job in jobs.split(":"):
            match = _JOB.fullmatch(job.strip())
            if match is None or (match[3] and kind != "after"):
                raise wrong
            element = int(match[2]) if match[2] and match[2] != "*" else None
            clauses.append(Clause(kind, int(match[1]), element, 60.0 * int(match[3] or 0)))
    return Dependency(tuple(clauses), singleton, "?" in text)
