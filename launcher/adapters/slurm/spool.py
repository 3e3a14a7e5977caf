"""The folder of a job: what batch_step.py is to run there, and what it and the steps have left."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from . import request
from .jobs import Job
from .request import Site
from .view import default_output

_OF_A_JOB = re.compile(r"SLURM.*|PILOTFISH_SLURM_JOB|ENVIRONMENT")
"""What a job that submits another must not hand on."""


class Spool:
    """Of one controller: `root` must be seen by all nodes."""

    def __init__(self, root: Path, site: Site) -> None:
        root.mkdir(mode=0o700, exist_ok=True)
        self.root = root
        self._site = site

    def folder(self, job: Job) -> Path:
        return self.root / str(job.id)

    def write(self, job: Job) -> Path:
        """All that the job's start needs."""
        folder = self.folder(job)
        folder.mkdir(mode=0o700, exist_ok=True)
        with contextlib.suppress(FileNotFoundError):
            (folder / "end").unlink()
        for leftover in (folder / "steps").glob("state"):
            leftover.unlink()
        script = folder / "slurm_script"
        script.write_text(job.request.script, encoding="utf-8", errors="surrogateescape")
        script.chmod(0o700)
        text = json.dumps(self._facts(job, folder))
        descriptor = os.open(folder / "job.json", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with open(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
        return folder

    def _facts(self, job: Job, folder: Path) -> dict[str, Any]:
        asked = job.request
        own = asked.output == request.OWN_OUTPUT
        limit = asked.time_limit
        return {
            "folder": str(folder),
            "id": job.id,
            "array_id": job.array_id or job.id,
            "index": 4294967294 if job.index is None else job.index,
            "name": asked.name,
            "user": self._site.user,
            "work_dir": asked.work_dir,
            "arguments": list(asked.arguments),
            "output": str(folder / "srun-output").replace("%", "%%") if own else asked.output or default_output(job),
            "error": str(folder / "srun-error").replace("%", "%%") if own else asked.error,
            "input": asked.input or "/dev/null",
            "append": asked.append,
            "tasks": list(asked.shape.tasks),
            "restarts": job.restarts,
            "limit_s": None if limit is None else 60.0 * limit,
            "signal": None if asked.signal is None else vars(asked.signal),
            "login_environ": asked.login_environ,
            "environ": {name: value for name, value in asked.environ.items() if not _OF_A_JOB.fullmatch(name)},
            "slurm": variables(job, self._site),
        }

    def exit_status(self, job: Job) -> tuple[int, int] | None:
        """Exit code and signal, where the batch step knows better than its own exit code says."""
        try:
            code, _, signal = (self.folder(job) / "end").read_text().partition(":")
        except OSError:
            return None
        return int(code), int(signal)

    def signal(self, job: Job, number: int, whom: str) -> None:
        with open(self.folder(job) / f"signals-{job.restarts}", "a", encoding="ascii") as file:
            file.write(f"{number} {whom}\n")


def variables(job: Job, site: Site) -> dict[str, str]:
    """Slurm's variables that are known before the nodes are."""
    asked = job.request
    found = {
        "ENVIRONMENT": "BATCH",
        "SLURM_CLUSTER_NAME": site.name,
        "SLURM_JOB_ID": str(job.id),
        "SLURM_JOBID": str(job.id),
        "SLURM_JOB_NAME": asked.name,
        "SLURM_JOB_PARTITION": asked.partition,
        "SLURM_JOB_QOS": asked.qos,
        "SLURM_JOB_UID": str(site.uid),
        "SLURM_JOB_GID": str(os.getgid()),
        "SLURM_JOB_USER": site.user,
        "SLURM_NODE_ALIASES": "(null)",
        "SLURM_PRIO_PROCESS": "0",
        "SLURM_SUBMIT_DIR": asked.submit_dir,
        "SLURM_SUBMIT_HOST": site.host,
    }
    given: Mapping[str, object] = {
        "SLURM_JOB_ACCOUNT": asked.account or None,
        "SLURM_NTASKS": asked.ntasks
        if asked.ntasks is not None or asked.ntasks_per_node is None
        else sum(asked.shape.tasks),
        "SLURM_NTASKS_PER_NODE": asked.ntasks_per_node,
        "SLURM_CPUS_PER_TASK": asked.cpus_per_task,
        "SLURM_MEM_PER_CPU": asked.mem_per_cpu,
        "SLURM_MEM_PER_NODE": asked.shape.mem_mib if asked.shape.mem_mib and asked.mem_per_cpu is None else None,
        "SLURM_GPUS": asked.gpus or None,
    }
    found |= {name: str(value) for name, value in given.items() if value is not None}
    if "SLURM_NTASKS" in found:
        found["SLURM_NPROCS"] = found["SLURM_NTASKS"]
    if asked.array is not None and job.index is not None:
        indices = asked.array.indices
        found |= {
            "SLURM_ARRAY_JOB_ID": str(job.array_id),
            "SLURM_ARRAY_TASK_ID": str(job.index),
            "SLURM_ARRAY_TASK_COUNT": str(len(indices)),
            "SLURM_ARRAY_TASK_MIN": str(indices[0]),
            "SLURM_ARRAY_TASK_MAX": str(indices[-1]),
            "SLURM_ARRAY_TASK_STEP": str(asked.array.step),
        }
    return found


def take_ids(path: Path, count: int) -> int:
    """The first of `count` ids that this user's controllers have not given to a job yet: output files are named after them."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "a+", encoding="ascii") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.seek(0)
        text = file.read().strip()
        first = int(text) if text.isdigit() else 1
        if first + count > _LARGEST_ID:
            first = 1
        file.seek(0)
        file.truncate()
        file.write(str(first + count))
    return first


_LARGEST_ID = 67_000_000
"""Slurm's own are below 2**26."""
