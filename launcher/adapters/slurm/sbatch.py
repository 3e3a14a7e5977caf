"""`sbatch`, and `srun` outside of a job: a job of one step whose output is passed on."""

from __future__ import annotations

import os

from ...contexts import shell
from ...machines import slurm_facts
from . import arguments, request
from .desk import NEEDS_STDIN, Answer, Call, Desk, version
from .errors import Refusal
from .options import SBATCH, SRUN, Treatment


def sbatch(desk: Desk, call: Call) -> Answer:
    given = arguments.read("sbatch", call.words, SBATCH)
    if "version" in given.values:
        return version("sbatch")
    if "help" in given.values or "usage" in given.values:
        return Answer(_help("sbatch"))
    script, path = "", ""
    if "wrap" not in given.values:
        if given.rest:
            path = given.rest[0]
            script = _read(os.path.join(call.cwd, path), path)
        elif call.stdin is None:
            return NEEDS_STDIN
        else:
            script = call.stdin
        arguments.check_script(script)
    words = arguments.of_sbatch(call.words, script, call.environ, SBATCH)
    line = shell.words(["sbatch", *call.words])
    number = desk.submit(request.build(words, script, path, call.cwd, call.environ, desk.site, desk.now(), line))
    if "parsable" in words.values:
        text = f"{number};{desk.site.name}" if words.values.get("clusters") else str(number)
    else:
        text = slurm_facts.SUBMITTED.format(number)
    out = "" if "quiet" in words.values and "parsable" not in words.values else f"{text}\n"
    return Answer(out, wait_for=(number,) if "wait" in words.values else ())


def _read(path: str, name: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as file:
            return file.read()
    except (OSError, ValueError):
        raise Refusal(f"sbatch: error: Unable to open file {name}") from None


def srun(desk: Desk, call: Call) -> Answer:
    """The resources are those of sbatch; the step gets its own options again when the job has started."""
    values, command = arguments.read("srun", call.words, SRUN)
    if "version" in values:
        return version("srun")
    if "help" in values or "usage" in values:
        return Answer(_help("srun"))
    if not command:
        raise Refusal("srun: fatal: No command given to execute.")
    steps = {name: value for name, value in values.items() if name in _OF_STEP}
    if "ntasks" not in values and "nodes" in values and "ntasks-per-node" not in values:
        steps["ntasks"] = values["nodes"].partition("-")[0]
    of_job = {name: value for name, value in values.items() if name not in _OF_STEP or name in ("ntasks",)}
    of_job.setdefault("job-name", os.path.basename(command[0]))
    options = [f"--{name}={value}" if value else f"--{name}" for name, value in steps.items()]
    script = shell.sh("#!/bin/sh\nexec srun --quiet {words}\n", words=shell.words([*options, "--", *command]))
    words = arguments.Words(of_job, [])
    line = shell.words(["srun", *call.words])
    asked = request.build(words, script, "", call.cwd, call.environ, desk.site, desk.now(), line)
    from dataclasses import replace

    folderless = replace(asked, output=request.OWN_OUTPUT, error=request.OWN_ERROR, requeue=False)
    number = desk.submit(folderless)
    return Answer(wait_for=(number,), follow=True)


_OF_STEP = (
    "cpu-bind", "exact", "kill-on-bad-exit", "label", "mpi", "overlap", "unbuffered", "output", "error", "ntasks",
    "ntasks-per-node", "cpus-per-task", "open-mode",
)  # fmt: skip


def _help(command: str) -> str:
    lines = [
        f"Usage: {command} [OPTIONS...] {'[SCRIPT [ARGUMENTS...]]' if command == 'sbatch' else 'COMMAND [ARGUMENTS...]'}"
    ]
    lines += ["", "Answered by a pilot (pilotfish as slurm):", ""]
    for option in SBATCH if command == "sbatch" else SRUN:
        short = f"-{option.short}, " if option.short else "    "
        note = "" if option.treatment is Treatment.HONOURED else f"{option.treatment.value}: {option.why}".rstrip(": ")
        lines.append(f"  {short}--{option.name:<22}{note}".rstrip())
    return "\n".join(lines) + "\n"
