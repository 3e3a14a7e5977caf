"""What differs between batch systems that are used by commands: data and a few pure functions."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from ..contexts.shell import Text
from ..description.schema import Key
from ..job.spec import JobToPlace
from ..job.states import JobState, Listing, Reason, Status
from .directives import Directives

Command = Callable[[Sequence[str]], Text]
Reader = Callable[[str], Listing]
Finder = Callable[[str], tuple[list[tuple[str, str]], list[str]]]
Words = tuple[tuple[str, str], ...]
"""Extended regular expressions for a whole line, each with what of it is the id (`\\1`); for sed and for Python."""


@dataclass(frozen=True)
class QueueRow:
    """One job in the queue, of whoever it is.

    Attributes:
        state: the word that the old interface has for it: pending, running, completed, failed ...
        cores: on all nodes.
    """

    id: str
    name: str
    owner: str
    queue: str
    state: str
    nodes: str
    cores: int
    exit_code: int | None = None


@dataclass(frozen=True)
class View:
    """A command that shows what is in the queue: its words for (a cluster, or empty; whether for everybody), and its output."""

    command: Callable[[str, bool], list[str]]
    read: Callable[[str], Iterable[QueueRow]]


GPU_LINE = Key("custom_gpu_line", "str|null", None, "the line of the header that asks for GPUs")


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
        directives: how it is asked for nodes, time and the like.
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
        parts: the jobs of the batch system that one of ours is, where one is too large for it.
        owner: which job a row of the listing belongs to (elements of an array, parts of a heterogeneous job).
        gone: texts (regular expressions, letter case does not matter) that say: there is no such job (any more).
        busy: texts of a batch system that does not answer now.
        refused: texts of a job that can never run; looked at before `full`.
        full: texts of a limit of jobs, or of a queue that is closed for a while.
        reasons: the command that tells what these jobs wait for, where the listing does not; None when there is none.
        read_reasons: its output, by id.
        never: what a job waits for that can never start.
        outputs: where it puts what the script of the job with this id prints: patterns of files in the submission's folder.
        cancel: the command that ends these jobs.
    """

    kind: str
    directives: Directives
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
    find: Text | None = None
    read_find: Finder | None = None
    parts: Callable[[str], tuple[str, ...]] = field(default=lambda job_id: (job_id,))
    owner: Callable[[str], str] = plain
    gone: tuple[str, ...] = ()
    busy: tuple[str, ...] = ()
    refused: tuple[str, ...] = ()
    full: tuple[str, ...] = ()
    reasons: Command | None = None
    read_reasons: Callable[[str], Mapping[str, str]] | None = None
    never: tuple[str, ...] = ()
    outputs: Callable[[str], tuple[str, ...]] = field(default=lambda job_id: ())

    def header(self, job: JobToPlace) -> list[str]:
        """The directives for a job, without shebang."""
        return self.directives.header(job, self.kind)


_ROW_WORDS = {
    JobState.unsubmitted: "pending",
    JobState.waiting: "pending",
    JobState.running: "running",
    JobState.completing: "completing",
    JobState.finished: "completed",
}
_BAD_ROW_WORDS = {
    Reason.CANCELED: "cancelled",
    Reason.TIME: "timeout",
    Reason.MEMORY: "out_of_memory",
    Reason.NODE: "node_fail",
    Reason.PREEMPTED: "preempted",
}


def row_word(status: Status) -> str:
    """The state of a row of the queue; an unknown one keeps the batch system's own word."""
    if status.state is JobState.unknown:
        return status.native.lower()
    if status.state.ended and status.reason:
        return _BAD_ROW_WORDS.get(status.reason, "failed")
    return _ROW_WORDS.get(status.state, "failed")


def status_of(
    word: str,
    table: Mapping[str, tuple[JobState, str]],
    *,
    exit_code: int | None = None,
    start_s: float | None = None,
    end_s: float | None = None,
    nodes: str = "",
    why: str = "",
) -> Status:
    """The status of a batch system's own word. One that the table lacks means: still there, ask again."""
    state, reason = table.get(word, (JobState.unknown, ""))
    if state is JobState.finished and exit_code not in (None, 0):
        state, reason = JobState.terminated, Reason.PROGRAM
    return Status(state, word, reason, exit_code, start_s, end_s, nodes, why if state is JobState.waiting else "")
