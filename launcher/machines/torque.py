"""Torque: PBS's commands, other resource lines, states and exit codes."""

from __future__ import annotations

import re
from dataclasses import replace

from ..job.spec import JobToPlace
from ..job.states import JobState, Listing, Reason
from . import pbs
from .commands import BatchMachine

# qstat(1B) of Torque; C stays for keep_completed seconds.
STATES: dict[str, tuple[JobState, str]] = {
    **{word: pbs.STATES[word] for word in "QHWTRSE"},
    "C": (JobState.finished, ""),
}

# Of the server, below 0 (Administrator Guide, "Job exit status").
_SERVER_CODES = {
    -1: Reason.LAUNCH,
    -2: Reason.LAUNCH,
    -3: Reason.LAUNCH,
    -4: Reason.NODE,
    -5: Reason.NODE,
    -10: Reason.MEMORY,
    -11: Reason.TIME,
    -12: Reason.TIME,
}


def header(job: JobToPlace) -> list[str]:
    resources = job.resources
    gpus = f":gpus={resources.gpu_per_node}" if resources.gpu_per_node > 0 else ""
    memory = (resources.memory_mib or 0) * resources.number_node
    return [
        f"#PBS -l nodes={resources.number_node}:ppn={resources.cpu_per_node}{gpus}",
        *pbs.common(job, resources),
        f"#PBS -l mem={memory}mb" if memory else "",
        f"#PBS -l qos={resources.qos}" if resources.qos else "",
        f"#PBS -l advres={resources.reservation}" if resources.reservation else "",
        "#PBS -n" if resources.exclusive else "",
    ]


def read_listing(text: str) -> Listing:
    return pbs.listed(
        re.sub(r"^(\s+)exit_status = ", r"\1Exit_status = ", text, flags=re.MULTILINE), STATES, _SERVER_CODES
    )


class Torque(BatchMachine):
    kind = "Torque"
    dialect = replace(
        pbs.DIALECT,
        kind="Torque",
        header=header,
        listing=pbs.without_history,  # of jobs that have ended for `keep_completed` seconds
        without_history=None,
        read_listing=read_listing,
    )
