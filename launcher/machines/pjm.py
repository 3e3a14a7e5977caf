"""Fujitsu's batch system (PJM), as on Fugaku: `pjsub`, `pjstat`, `pjstat -H`, `pjdel`."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import ClassVar

from ..contexts.shell import Text, sh, words
from ..job.spec import JobVariables
from ..job.states import JobState, Listing, Reason
from .commands import BatchMachine
from .dialect import Dialect, QueueRow, View, row_word, status_of
from .directives import Directives
from .lsf import owner

# pjstat(1), "ST".
STATES: dict[str, tuple[JobState, str]] = {
    "ACC": (JobState.waiting, ""),
    "QUE": (JobState.waiting, ""),
    "HLD": (JobState.waiting, ""),
    "RNA": (JobState.waiting, ""),
    "RNP": (JobState.waiting, ""),
    "SPP": (JobState.waiting, ""),
    "SPD": (JobState.waiting, ""),
    "RSM": (JobState.waiting, ""),
    "RUN": (JobState.running, ""),
    "RNE": (JobState.completing, ""),
    "RNO": (JobState.completing, ""),
    "EXT": (JobState.finished, ""),
    "CCL": (JobState.terminated, Reason.CANCELED),
    "ERR": (JobState.terminated, Reason.PROGRAM),
    "RJT": (JobState.terminated, Reason.LAUNCH),
}


# pjsub(1).
DIRECTIVES = Directives(
    "#PJM",
    {
        "queue": '-L "rscgrp={}"',
        "nodes": '-L "node={}"',
        "cores": '--mpi "max-proc-per-node={}"',
        "walltime": '-L "elapse={}"',
        "memory": '-L "node-mem={}Mi"',
        "account": "-g {}",
        "stdout": "-o {}",
        "stderr": "-e {}",
        "name": "",
    },
    values=lambda job: {"cores": job.resources.cpu_per_node},
)


def listing(ids: Sequence[str]) -> Text:
    return sh("pjstat {ids}", ids=words(ids))


def history(ids: Sequence[str]) -> Text:
    return sh("pjstat -H {ids} 2>/dev/null; true", ids=words(ids))


def read(text: str) -> Listing:
    """A summary and a header, then `JOB_ID JOB_NAME MD ST ...`."""
    found = Listing()
    for line in text.splitlines():
        row = line.split()
        if len(row) > 3 and re.fullmatch(r"\d+(\[\d+\])?", row[0]) and re.fullmatch("[A-Z]{3}", row[3]):
            found.add(row[0], status_of(row[3], STATES))
        elif row and row[0] not in ("ACCEPT", "JOB_ID") and not re.fullmatch(r"(\s*[a-z])?(\s+\d+)+\s*", f" {line}"):
            found.unread.append(line)
    return found


def _read_queue(text: str) -> Iterator[QueueRow]:
    """`JOB_ID JOB_NAME MD ST USER ...`; the resource group is in no column of it."""
    for line in text.splitlines():
        row = line.split()
        if len(row) > 4 and re.fullmatch(r"\d+(\[\d+\])?", row[0]) and row[3] in STATES:
            yield QueueRow(row[0], row[1], row[4], "", row_word(status_of(row[3], STATES)), "", 0)


DIALECT = Dialect(
    kind="Fugaku",
    directives=DIRECTIVES,
    submit="pjsub {script}",
    id_in_words=((r"^.*Job ([0-9]+) submitted.*$", r"\1"),),
    listing=listing,
    read_listing=read,
    history=history,
    read_history=read,
    cancel=lambda ids: sh("pjdel {ids}", ids=words(ids)),
    owner=owner,
    gone=("does not exist", "Not found"),
    busy=("Connection refused", "Connection timed out", "temporarily"),
    # As `[ERR.] PJM 0057 pjsub node=32 is greater than the upper limit (24).`
    refused=(r"\w+=\S+ is (greater|less) than the (upper|lower) limit",),
    full=(
        "limit of the number of jobs",
        r"number of (accepted )?jobs\b.*(limit|exceed)",
        r"exceeds? the limit .*\bjobs",
    ),
    outputs=lambda job_id: (f"*.{owner(job_id)}.out", f"*.{owner(job_id)}.err", f"*.[oe]{owner(job_id)}"),
)


class Fugaku(BatchMachine):
    kind = "Fugaku"
    aliases: ClassVar[tuple[str, ...]] = ("fugaku", "pjm")
    dialect = DIALECT
    variables = JobVariables(id=("PJM_JOBID",), element=("PJM_BULKNUM",), submit_folder=("PJM_O_WORKDIR",))
    commands = ("pjsub", "pjstat", "pjdel")
    views: ClassVar[tuple[View, ...]] = (View(lambda cluster, everybody: ["pjstat"], _read_queue),)
