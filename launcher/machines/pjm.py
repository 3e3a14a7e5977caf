"""Fujitsu's batch system (PJM), as on Fugaku: `pjsub`, `pjstat`, `pjstat -H`, `pjdel`."""

from __future__ import annotations

import re
from collections.abc import Sequence

from ..job.spec import JobToPlace
from ..job.states import JobState, Listing, Reason
from .commands import BatchMachine
from .dialect import Dialect, clock, quoted, refuse, status_of
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
    "CCL": (JobState.terminated, Reason.CANCELLED),
    "ERR": (JobState.terminated, Reason.PROGRAM),
    "RJT": (JobState.terminated, Reason.LAUNCH),
}


def header(job: JobToPlace) -> list[str]:
    resources = job.resources
    refuse(resources, "Fugaku", ["qos", "exclusive", "reservation", "dependency"])
    return [
        f'#PJM -L "rscgrp={resources.queue_name}"' if resources.queue_name else "",
        f'#PJM -L "node={resources.number_node}"',
        f'#PJM --mpi "max-proc-per-node={resources.cpu_per_node}"',
        f'#PJM -L "elapse={clock(resources.walltime_s)}"' if resources.walltime_s else "",
        f'#PJM -L "node-mem={resources.memory_mib}Mi"' if resources.memory_mib else "",
        f"#PJM -g {resources.account}" if resources.account else "",
    ]


def listing(ids: Sequence[str]) -> str:
    return f"pjstat {quoted(ids)}"


def history(ids: Sequence[str]) -> str:
    return f"pjstat -H {quoted(ids)} 2>/dev/null; true"


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


DIALECT = Dialect(
    kind="Fugaku",
    header=header,
    submit="pjsub {script}",
    id_in_words=((r"^.*Job ([0-9]+) submitted.*$", r"\1"),),
    listing=listing,
    read_listing=read,
    history=history,
    read_history=read,
    cancel=lambda ids: f"pjdel {quoted(ids)}",
    owner=owner,
    gone=("does not exist", "Not found"),
    busy=("Connection refused", "Connection timed out", "temporarily"),
    full=("exceeds? the limit", "limit of the number of jobs", "number of accepted jobs"),
)


class Fugaku(BatchMachine):
    kind = "Fugaku"
    dialect = DIALECT
