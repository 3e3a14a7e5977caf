"""`pilotfish job clean`: the files that single batch jobs have left in their folders."""

from __future__ import annotations

import os
import posixpath
import sys
from collections.abc import Sequence
from pathlib import Path

import click

from ...pilot.console import echo, print_json, show
from ...pilot.model.errors import UsageError
from ..description.machine import MachineDescription, machine_to_dict
from ..job import store
from ..job.single import JobRecord
from ..submission.machine import described_machine
from ..submission.single import SingleJob
from .single_jobs import look

_RESULTS = (".out.func.pickle",)
"""What a function of `fyrd` has returned is output, beside those that the record names."""


@click.command()
@click.argument("folder", default=".")
@click.option("--machine", "-M", help="Of the jobs on this machine; FOLDER is one there.")
@click.option("--outputs", "-o", is_flag=True, help="Also what the jobs have printed and returned.")
@click.option("--dry-run", "-d", is_flag=True, help="Only list the files.")
@click.option("--yes", "-y", "-n", is_flag=True, help="Do not ask.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def clean(folder: str, machine: str | None, outputs: bool, dry_run: bool, yes: bool, as_json: bool) -> None:
    """Remove the scripts that single batch jobs have left in FOLDER, of jobs that are over and known here.

    Nothing else is touched, whatever it is called: `pilotfish job list` shows the jobs.

    \b
    pilotfish job clean
    pilotfish job clean run1 --outputs --yes
    """
    described = None if machine is None else described_machine(machine)
    jobs = [SingleJob(record) for record in store.all_records() if _is_in(record, folder, described)]
    look([job for job in jobs if not job.record.over])
    found = {job: _files(job, outputs) for job in jobs if job.record.over}
    files = [posixpath.join(job.folder, name) for job, names in found.items() for name in names]
    if not dry_run and files and not yes and not as_json:
        _ask(files)
    if not dry_run:
        for job, names in found.items():
            job.context.delete(job.folder, names)
    for job in jobs:
        job.close()
    if as_json:
        print_json({"removed": not dry_run, "files": files})
        return
    for file in files:
        show(file)
    echo(f"{len(files)} files{' would be' if dry_run else ''} removed", err=True)


def _ask(files: Sequence[str]) -> None:
    if not sys.stdin.isatty():
        raise UsageError(
            f"{len(files)} files would be removed", where="job clean", remedy="give --yes, or see --dry-run"
        )
    for file in files:
        echo(file, err=True)
    click.confirm(f"Remove these {len(files)} files?", abort=True, err=True)


def _is_in(record: JobRecord, folder: str, machine: MachineDescription | None) -> bool:
    if machine is not None:
        there = folder == "." or posixpath.normpath(record.folder) == posixpath.normpath(folder)
        return there and machine_to_dict(record.machine) == machine_to_dict(machine)
    return SingleJob(record).context.local and os.path.realpath(record.folder) == os.path.realpath(
        Path(folder).expanduser()
    )


def _files(job: SingleJob, outputs: bool) -> list[str]:
    """Names below its folder: its own files, its scripts, and with `outputs` what it has printed and returned."""
    there = {file.path for file in job.context.list_files(job.folder, ["."])}
    printed = {os.path.relpath(name, job.folder) for name in (job.record.out, job.record.err) if name}
    stem = next((name.removesuffix(".out") for name in printed if name.endswith(".out")), "")
    beside = {
        name for name in there if stem and name.startswith((f"{stem}.", f"{stem}_func.")) and job.record.maker == "fyrd"
    }
    results = {name for name in beside if name.endswith(_RESULTS)}
    own = {name for name in there if name.startswith((f".{job.hash}.", job.hash))}
    found = own | (beside - printed - results)
    return sorted(found | ((printed | results) & there if outputs else set()))
