"""What batch systems answer about jobs that run, and what becomes of an answer on its way."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from random import Random

from pilotfish.launcher.contexts.base import Done

SAYS_GONE = {
    "Slurm": "slurm_load_jobs error: Invalid job id specified",
    "SlurmJobArray": "slurm_load_jobs error: Invalid job id specified",
    "PBS": "qstat: Unknown Job Id 101.srv",
    "Torque": "qstat: Unknown Job Id Error 101.srv",
    "SGE": "Following jobs do not exist: \n101",
    "LSF": "Job <101> is not found",
    "JH_UniScheduler": "Job <101> is not found",
    "Fugaku": "[ERR.] PJM 0112 pjstat Job 101 does not exist.",
}
NO_JOBS = {"SGE": "<?xml version='1.0'?>\n<job_info><queue_info></queue_info></job_info>"}

_PBS = "Job Id: {}.srv\n    Job_Name = x\n    job_state = R\n    queue = q\n\n"
LISTED = {  # head, row, tail
    "Slurm": ("", "{}|RUNNING|n[1-2]\n", ""),
    "SlurmJobArray": ("", "{}_0|RUNNING|n[1-2]\n", ""),
    "PBS": ("", _PBS, ""),
    "Torque": ("", _PBS, ""),
    "SGE": (
        "<?xml version='1.0'?>\n<job_info><queue_info>\n",
        "<job_list><JB_job_number>{}</JB_job_number><state>r</state></job_list>\n",
        "</queue_info></job_info>\n",
    ),
    "LSF": ("", "{}|RUN|-|-|h1\n", ""),
    "JH_UniScheduler": ("JOBID USER STAT QUEUE\n", "{} ann RUN q\n", ""),
    "Fugaku": ("JOB_ID JOB_NAME MD ST USER\n", "{} x NM RUN ann\n", ""),
    "Shell": ("", "alive {}\n", ""),
    "DistributedShell": (
        "Application-Id\tApplication-Name\tApplication-Type\tUser\tQueue\tState\tFinal-State\tProgress\tTracking-URL\n",
        "{}\tx\tYARN\tann\tq\tRUNNING\tUNDEFINED\t0%\tN/A\n",
        "",
    ),
}


def rows(kind: str, ids: Sequence[str]) -> str:
    """A true listing in which all these jobs run."""
    head, row, tail = LISTED[kind]
    return head + "".join(row.format(name) for name in ids) + tail


def garbled(text: str, random: Random) -> Done:
    """What terminals, wrappers, full disks and broken pipes make of an answer."""
    lines, at = text.splitlines(keepends=True), random.randrange(len(text) + 1)
    line = random.randrange(len(lines))
    shuffled = random.sample(lines, len(lines))
    return random.choice(
        [
            Done(0, text[:at], ""),
            Done(0, text[at:], ""),
            Done(0, text[:at] + random.choice("?#\x00\ufffd~ \n") + text[at + 1 :], ""),
            Done(0, "".join([*lines[:line], *lines[line + 1 :]]), ""),
            Done(0, "".join([*lines[:line], "Welcome to 42 nodes | have fun\n", *lines[line:]]), ""),
            Done(0, "".join(shuffled), ""),
            Done(random.choice([0, 1, 255]), "", random.choice(["", "Killed", "timeout"])),
            Done(1, text[:at], "Broken pipe"),
        ]
    )


def answered(command: str, answer: Callable[[str], Done]) -> tuple[list[str], Done]:
    """(the commands that this is, what they answer): several may be run together, each in a shell of its own."""
    parts = re.findall(r"^\(\n(.*?)\n\)$", command, re.MULTILINE | re.DOTALL)
    if not parts:
        return [command], answer(command)
    done = [answer(part) for part in parts]
    outs = "".join(f"{each.out}\n@pilotfish@{each.code}\n" for each in done)
    return parts, Done(0, outs, "".join(f"@pilotfish@\n{each.err}" for each in done))
