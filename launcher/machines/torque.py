"""Torque: PBS's commands, other resource lines, states and exit codes."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from typing import ClassVar
from xml.etree import ElementTree

from ..description.resources import Resources
from ..description.schema import Key, KeysOfSystem
from ..job.states import JobState, Listing, Reason
from . import pbs
from .dialect import QueueRow, View

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


def _nodes(resources: Resources) -> list[str]:
    gpus = f":gpus={resources.gpu_per_node}" if resources.gpu_per_node > 0 else ""
    features = "".join(f":{name}" for name in resources.kwargs.get("features") or ())
    return [f"-l nodes={resources.number_node}:ppn={resources.cpu_per_node}{gpus}{features}"]


# qsub(1B) of Torque, "Requesting Resources"; qos, advres and -n are Moab's and Maui's.
DIRECTIVES = replace(
    pbs.DIRECTIVES,
    rows={
        "nodes": _nodes,
        **pbs.COMMON,
        "memory": "-l mem={}mb",
        "qos": "-l qos={}",
        "reservation": "-l advres={}",
        "exclusive": "-n",
        "gpus": "",
        **pbs.FOR_OTHERS,
    },
    values=lambda job: {"one_output": True, "memory": (job.resources.memory_mib or 0) * job.resources.number_node},
)


def read_listing(text: str) -> Listing:
    return pbs.listed(
        re.sub(r"^(\s+)exit_status = ", r"\1Exit_status = ", text, flags=re.MULTILINE), STATES, _SERVER_CODES
    )


_WORDS = {
    "C": "completed",
    "E": "completing",
    "H": "held",
    "Q": "pending",
    "R": "running",
    "S": "suspended",
    "T": "pending",
    "W": "pending",
}


def _read_queue(text: str) -> Iterator[QueueRow]:
    """Of `qstat -x`; what the environment has in it is not always XML."""
    if not text.strip():
        return
    for job in ElementTree.fromstring(re.sub(r"<Variable_List>.*?</Variable_List>", "", text, flags=re.DOTALL)):
        told = {each.tag: (each.text or "").strip() for each in job.iter()}
        hosts = [host.partition("/") for host in told.get("exec_host", "").split("+") if host]
        code = told.get("exit_status")
        letter = told.get("job_state", "")
        word = _WORDS.get(letter, letter.lower())
        yield QueueRow(
            told.get("Job_Id", "").partition(".")[0],
            told.get("Job_Name", ""),
            told.get("Job_Owner", "").partition("@")[0],
            told.get("queue", ""),
            "failed" if word == "completed" and code not in (None, "0") else word,
            ",".join(dict.fromkeys(name for name, _, _ in hosts)),
            sum(_cores(numbers) for _, _, numbers in hosts),
            None if code is None else int(code),
        )


def _cores(numbers: str) -> int:
    """Of `0-3` or `5`."""
    first, dash, last = numbers.partition("-")
    return int(last) - int(first) + 1 if dash and first.isdigit() and last.isdigit() else 1


class Torque(pbs.PBS):
    kind = "Torque"
    aliases: ClassVar[tuple[str, ...]] = ("torque",)
    keys = KeysOfSystem((Key("features", "list[str]", None, "what all nodes must have", ours=True),))
    answers: ClassVar[tuple[tuple[str, ...], str]] = ((), "")
    views = (View(lambda cluster, everybody: ["qstat", "-x"], _read_queue),)
    variables = replace(pbs.PBS.variables, element=("PBS_ARRAYID",))
    dialect = replace(
        pbs.DIALECT,
        kind="Torque",
        directives=DIRECTIVES,
        listing=pbs.without_history,  # of jobs that have ended for `keep_completed` seconds
        without_history=None,
        read_listing=read_listing,
    )
