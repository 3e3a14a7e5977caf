"""An invented batch system, as somebody would add one: this file, and a line in the registry of machines."""

from __future__ import annotations

import re
from typing import ClassVar

from pilotfish.launcher.contexts.shell import sh, words
from pilotfish.launcher.description.schema import Key, KeysOfSystem
from pilotfish.launcher.job.spec import JobVariables
from pilotfish.launcher.job.states import JobState, Listing, Reason
from pilotfish.launcher.machines.commands import BatchMachine
from pilotfish.launcher.machines.dialect import Dialect, status_of
from pilotfish.launcher.machines.directives import Directives

STATES = {"LINE": (JobState.waiting, ""), "ON": (JobState.running, ""), "OK": (JobState.finished, "")}
STATES |= {"BAD": (JobState.terminated, Reason.PROGRAM)}

DIRECTIVES = Directives(
    "#TOY",
    {
        "nodes": "hosts={}",
        "cores": "cpus={}",
        "queue": "belt={}",
        "name": "label={}",
        "walltime": "minutes={}",
        "dependency": "after={}",
        "colour": "colour={}",
    },
    values=lambda job: {"cores": job.resources.cpu_per_node, "colour": job.resources.kwargs.get("colour")},
    minutes=True,
    between_ids=",",
)


def read_listing(text: str) -> Listing:
    found = Listing()
    for line in text.splitlines():
        words = line.split(" ", 2)
        if len(words) > 1 and re.fullmatch(r"t\d+", words[0]):
            found.add(words[0], status_of(words[1], STATES, why=words[2] if len(words) > 2 else ""))
        elif line.strip():
            found.unread.append(line)
    return found


class Toy(BatchMachine):
    kind = "Toy"
    aliases: ClassVar[tuple[str, ...]] = ("toy", "toybox")
    keys = KeysOfSystem((Key("colour", "str", "red", "of the toys"),))
    variables = JobVariables(id=("TOY_JOB",))
    commands = ("toysub", "toystat", "toydel")
    queue_check = "toystat --belt {queue}"
    script_suffix = ".toy"
    settle_s = 0.0
    dialect = Dialect(
        kind="Toy",
        directives=DIRECTIVES,
        submit="toysub {script}",
        id_in_words=((r"^toy (t[0-9]+) is on its way$", r"\1"),),
        listing=lambda ids: sh("toystat {ids}", ids=words(ids)),
        read_listing=read_listing,
        cancel=lambda ids: sh("toydel {ids}", ids=words(ids)),
        gone=("no such toy",),
        busy=("the toy box is shut",),
        full=("too many toys",),
        never=("^broken",),
        outputs=lambda job_id: (f"{job_id}.words",),
    )
