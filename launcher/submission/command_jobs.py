"""Shell commands and scripts as single batch jobs: from options to what is handed over.

A command is part of the batch script itself. A script that somebody has written is brought to the job's folder under a name
that no other job has, so that a later change of the file changes nothing, and runs as it would if it had been handed to the
batch system by hand: its own directives count, and of the options those that were given beside it.
"""

from __future__ import annotations

import posixpath
import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ...pilot.model.errors import UsageError
from ..contexts.shell import relative, sh
from ..description.machine import MachineDescription, parse_machine
from ..job.single import JobRecord, new_hash
from ..job.spec import Needed
from ..machines import registry
from .job_options import OPTIONS, OptionsError, options_to_string, to_resources
from .machine import described_machine
from .queues import get_cluster_environment, qtypes
from .single import Script, SingleJob

_HERE = {"context_type": "LazyLocal", "local_root": "."}
_WITHOUT_BATCH_SYSTEM = "Shell"
_FOR_PYTHON = ("imports", "syspaths", "python", "trust_pickle", "scriptpath", "clean_files", "clean_outputs", "depends")
"""Options of functions, and those for which the command line has words of its own."""
_OUTPUT = re.compile(r"(?:-o|--output)(?:\s+|=)(\S+)")


def machine_of(name: str | None) -> MachineDescription:
    """The machine of that name or file; without one the batch system of this host, or this host itself."""
    if name is not None:
        return described_machine(name)
    kind = get_cluster_environment()
    return parse_machine({**_HERE, "batch_type": qtypes().get(kind, _WITHOUT_BATCH_SYSTEM)})


def kind_of(machine: MachineDescription) -> str:
    """What options call its batch system; `local` for none."""
    return next((kind for kind, name in qtypes().items() if name == machine.batch_type), "local")


def fitting(options: Mapping[str, Any], machine: MachineDescription) -> tuple[dict[str, Any], list[str]]:
    """Of the options of a profile those that mean something on this machine, and the names of the others."""
    kind, batch = kind_of(machine), registry.build_machine(machine.batch_type)
    nothing_for = {name for name in options if OPTIONS[name].only and kind not in OPTIONS[name].only}
    if batch.directives is None:
        nothing_for |= {"mem"} & options.keys()
    return {name: value for name, value in options.items() if name not in nothing_for}, sorted(nothing_for)


@dataclass(frozen=True)
class CommandJob:
    """What is to be handed over: a command, or the file of a script.

    Attributes:
        options: all that count, checked.
        given: those that were given beside the script, which win over its directives.
        after: ids of jobs that must have ended well.
    """

    name: str
    command: str
    options: Mapping[str, Any]
    given: Mapping[str, Any]
    after: Sequence[str] = ()
    script: Path | None = None


def prepared(
    machine: MachineDescription, wanted: CommandJob, maker: str, beside: SingleJob | None = None
) -> tuple[SingleJob, Script]:
    """The job in its folder, and what is handed over. Nothing has been submitted.

    `beside`: a job on the same machine, whose way there is used.
    """
    for name in _FOR_PYTHON:
        if name in wanted.given:
            raise OptionsError("is an option of functions, or has a word of its own here", where=name)
    record = JobRecord(new_hash(), machine, ".", wanted.name, maker, created_s=time.time())
    job = SingleJob(record)
    if beside is not None:
        job.share(beside.context)
    if job.context.staged:
        what = f"{machine.batch_type} takes jobs together with their files, and gives no folder to run in"
        remedy = "write a submission, and place it with `pilotfish submit`: `pilotfish init` writes a first one"
        raise UsageError(what, where="machine", remedy=remedy)
    folder = wanted.options.get("runpath", ".")
    if not job.context.local:
        folder = posixpath.join(machine.remote_root or "~", folder)
    job.enter(folder)
    after = _needed(job, wanted.after)
    return job, _of_script(job, wanted, after) if wanted.script is not None else _of_command(job, wanted, after)


def _needed(job: SingleJob, ids: Sequence[str]) -> tuple[Needed, ...]:
    if ids and registry.build_machine(job.record.machine.batch_type).directives is None:
        remedy = "wait for it before: `pilotfish job wait JOB && pilotfish job run ...`"
        raise UsageError(
            "without a batch system a job starts at once, whatever it needs", where="--after", remedy=remedy
        )
    return tuple(job.known(ids)) if ids else ()


def _of_command(job: SingleJob, wanted: CommandJob, after: tuple[Needed, ...]) -> Script:
    kind = kind_of(job.record.machine)
    out, err = output_files(job, wanted)
    resources = to_resources(wanted.options, kind, tuple(each.id for each in after))
    return Script(wanted.command, wanted.name, resources=resources, out=out, err=err, after=after)


def output_files(job: SingleJob, wanted: CommandJob) -> tuple[str, str]:
    """Where its output goes: as the options say, or into files that no other job has."""
    folder, stem = wanted.options.get("outpath") or "", f"{file_name(wanted.name)}.{job.hash[:12]}"
    names = (wanted.options.get("outfile") or f"{stem}.out", wanted.options.get("errfile") or f"{stem}.err")
    out, err = (posixpath.join(job.folder, folder, name) for name in names)
    return out, err


def _of_script(job: SingleJob, wanted: CommandJob, after: tuple[Needed, ...]) -> Script:
    assert wanted.script is not None
    text = wanted.script.read_bytes()
    directives = registry.build_machine(job.record.machine.batch_type).directives
    own_name = f".{job.hash}.script"
    job.context.write({posixpath.join(job.folder, own_name): text}, mode=0o700)
    runs = sh("exec {file}", file=relative(own_name))
    if not text.startswith(b"#!"):
        runs = sh("exec bash {file}", file=relative(own_name))
    made = _of_command(job, replace(wanted, command=runs), after)
    own = _directives_in(text.decode(errors="replace"), "" if directives is None else directives.prefix)
    if not own:
        return made
    given = {name: value for name, value in wanted.given.items() if name not in ("outfile", "errfile")}
    ids = [each.id for each in after]
    more = _more_directives(kind_of(job.record.machine), {**given, **({"depends": ids} if ids else {})})
    redirected = {"outfile", "errfile"} & wanted.given.keys()
    printed = next((match[1] for line in own if (match := _OUTPUT.search(line)) and "%" not in match[1]), "")
    return replace(
        made,
        header=(*own, *more),
        out=made.out if redirected else None,
        err=made.err if redirected else None,
        prints=("", "") if redirected else (printed, ""),
    )


def _more_directives(kind: str, given: Mapping[str, Any]) -> list[str]:
    """The directives of these options alone: what all jobs get without any is left to the script."""
    usual = options_to_string({}, kind).splitlines()
    return [line for line in options_to_string(given, kind).splitlines() if line not in usual]


def _directives_in(text: str, prefix: str) -> list[str]:
    """As batch systems read them: up to the first line that is no comment."""
    found = []
    for line in text.splitlines():
        if line.strip() and not line.startswith("#"):
            break
        if prefix and line.startswith(prefix):
            found.append(line.rstrip())
    return found


def script_text(job: SingleJob, script: Script) -> str:
    """What would be handed over, for a person to look at."""
    batch, described = registry.build_machine(job.record.machine.batch_type), job.described(script)
    return batch.script(described)[described.script_name]


def short_name(command: str | Callable[..., Any]) -> str:
    """What a job is called that nobody has given a name."""
    if callable(command):
        return getattr(command, "__name__", "function").strip("<>")
    words = command.split()
    return posixpath.basename(words[0]) if words else "job"


def file_name(name: str) -> str:
    """A name as part of the name of a file, and of a job in a queue of ours."""
    return re.sub(r"[^A-Za-z0-9_.-]+", "_", name).lstrip(".-")[:100] or "job"
