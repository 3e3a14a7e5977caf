"""What differs between batch systems that are used by commands: data and a few pure functions."""

from __future__ import annotations

import hashlib
import re
import shlex
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from ..description.resources import Resources
from ..description.schema import DescriptionError
from ..job.spec import JobToPlace
from ..job.states import JobState, Listing, Reason, Status

Header = Callable[[JobToPlace], list[str]]
Command = Callable[[Sequence[str]], str]
Reader = Callable[[str], Listing]
Finder = Callable[[str], tuple[list[tuple[str, str]], list[str]]]
Words = tuple[tuple[str, str], ...]
"""Extended regular expressions for a whole line, each with what of it is the id (`\\1`); for sed and for Python."""


def plain(job_id: str) -> str:
    """Without the name of a server or cluster, which may be written short, long or not at all."""
    return re.split(r"[.;]", job_id, maxsplit=1)[0]


def cluster_of(job_id: str) -> str:
    """`east` of `101;east`: where several batch systems answer, ids only mean something together with their name."""
    return job_id.partition(";")[2]


@dataclass(frozen=True)
class Dialect:
    """One batch system.

    Attributes:
        header: the directives for a job, without shebang; empty lines are dropped.
        submit: shell text with `{script}` (quoted), run in the submission's folder.
        submit_dependent: the same for a job that needs others, where it is something else.
        id_in_words: lines of what submit prints that only a job that was taken has.
        id_alone: lines that have nothing but an id; a greeting may have such a line too.
        listing: the command that tells about these jobs, live ones at least.
        read_listing: its output.
        lists_all: the listing has the jobs of others too.
        without_history: (what the listing says where the server keeps no history, the command to use instead).
        probe: the command that tells about one job, or says that there is none; default: the listing.
        read_probe: its output.
        history: the command that tells about those that the listing does not show, or shows as ended; None when there is none.
        read_history: its output.
        find: the command that tells which scripts my living jobs were made of; None when there is none.
        read_find: its output: (id, path of the script) of each, and lines that were not understood.
        owner: which job a row of the listing belongs to (elements of an array, parts of a heterogeneous job).
        gone: texts (regular expressions, letter case does not matter) that say: there is no such job (any more).
        busy: texts of a batch system that does not answer now.
        refused: texts of a job that can never run; looked at before `full`.
        full: texts of a limit of jobs.
        cancel: the command that ends these jobs.
    """

    kind: str
    header: Header
    submit: str
    listing: Command
    read_listing: Reader
    cancel: Command
    id_in_words: Words = ()
    id_alone: Words = ()
    lists_all: bool = False
    without_history: tuple[str, Command] | None = None
    probe: Command | None = None
    read_probe: Reader | None = None
    submit_dependent: str = ""
    history: Command | None = None
    read_history: Reader | None = None
    find: str | None = None
    read_find: Finder | None = None
    owner: Callable[[str], str] = plain
    gone: tuple[str, ...] = ()
    busy: tuple[str, ...] = ()
    refused: tuple[str, ...] = ()
    full: tuple[str, ...] = ()


def quoted(ids: Sequence[str]) -> str:
    return " ".join(shlex.quote(name) for name in ids)


def status_of(
    word: str,
    table: Mapping[str, tuple[JobState, str]],
    *,
    exit_code: int | None = None,
    start_s: float | None = None,
    end_s: float | None = None,
    nodes: str = "",
) -> Status:
    """The status of a batch system's own word. One that the table lacks means: still there, ask again."""
    state, reason = table.get(word, (JobState.unknown, ""))
    if state is JobState.finished and exit_code not in (None, 0):
        state, reason = JobState.terminated, Reason.PROGRAM
    return Status(state, word, reason, exit_code, start_s, end_s, nodes)


def refuse(resources: Resources, kind: str, names: Iterable[str]) -> None:
    """Raise DescriptionError for keys that are set and that this batch system has no directive for."""
    for name in names:
        if getattr(resources, name):
            key = name.removesuffix("_s").removesuffix("_mib")
            remedy = "leave it out, or write the site's own directive into custom_flags"
            raise DescriptionError(f"{kind} has nothing for {key!r}", where=f"resources.{key}", remedy=remedy)


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
