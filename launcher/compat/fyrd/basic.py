"""fyrd's functions around jobs: make, submit, wait, get, clean."""

from __future__ import annotations

import os
import re
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from ...contexts.lazy_local import LazyLocalContext
from ...contexts.shell import sh, word
from ...description.machine import parse_machine
from ...description.resources import Resources
from ...job.single import JobRecord, new_hash
from ...machines import registry
from ...submission.job_options import ClusterError
from ...submission.queues import qtypes
from ...submission.single import Script, SingleJob
from . import batch_systems, conf
from . import notify as mailing
from .job import Job, wait_for
from .local import default_queue
from .queue import Queue
from .queue_job import QueueJob

__all__ = [
    "clean",
    "clean_dir",
    "clean_work_dirs",
    "get",
    "kill_ids",
    "make_job",
    "make_job_file",
    "submit",
    "submit_file",
    "wait",
]


def make_job(command: str | Callable[..., Any], *args: Any, **options: Any) -> Job:
    """A Job; arguments as Job. Nothing is written."""
    return Job(command, *args, **options)


def make_job_file(command: str | Callable[..., Any], *args: Any, **options: Any) -> Job:
    """A Job whose scripts are written; where a path is wanted it is that of its script."""
    return Job(command, *args, **options).write()


def submit(command: str | Callable[..., Any], *args: Any, **options: Any) -> Job:
    """A Job that is submitted."""
    return Job(command, *args, **options).submit()


def submit_file(
    script_file: str | os.PathLike[str],
    dependencies: Job | str | int | Sequence[Job | str | int] | None = None,
    qtype: str | None = None,
    submit_args: str | Sequence[str] | None = None,
    threads: int | None = None,
) -> str:
    """Hand over a script as it is, with its own directives; its id. `pilotfish job` and `wait` know it by that.

    Args:
        dependencies: jobs, or their ids, that must have ended well.
        submit_args: more directives, without their prefix: `--mem=4G`.
        threads: cores, where the queue is that of this machine.

    Raises FileNotFoundError, ClusterError, SubmitRefusedError.
    """
    path = Path(script_file).resolve(strict=True)
    given = dependencies if isinstance(dependencies, list | tuple) else [dependencies] if dependencies else []
    kind = qtype or batch_systems.get_cluster_environment()
    if kind == "local":
        options: dict[str, Any] = {"cores": threads} if threads else {}
        job = Job(f"bash {word(str(path))}", qtype="local", depends=list(given), name=path.stem, **options).submit()
        return str(job.id)
    machine = parse_machine({"batch_type": qtypes()[kind], "context_type": "LazyLocal", "local_root": "."})
    placed = SingleJob(JobRecord(new_hash(), machine, ".", path.name, "fyrd"))
    placed.enter(".")
    ids = [str(each.id) if isinstance(each, Job) else str(each) for each in given]
    placed.submit(_script(placed, path, ids, [submit_args] if isinstance(submit_args, str) else submit_args or ()))
    return placed.id


def _script(placed: SingleJob, path: Path, ids: Sequence[str], more: Sequence[str]) -> Script:
    """A file of the user's with the directives at its top; the job runs a copy of its own."""
    text = path.read_text()
    directives = registry.build_machine(placed.record.machine.batch_type).directives
    assert directives is not None
    own = [line for line in text.splitlines() if line.startswith(f"{directives.prefix} ")]
    after = tuple(placed.known(ids))
    needs = directives.between_ids.join(directives.id.format(directives.bare_ids(each)) for each in ids)
    wishes = [directives.words("dependency", needs)] if ids and directives.has("dependency") else []
    header = [f"{directives.prefix} {each}" for each in [*wishes, *more]]
    copy = f".{placed.hash}.script"
    placed.context.write({os.path.join(placed.folder, copy): text.encode()}, mode=0o700)
    file = word(f"./{copy}")
    return Script(
        sh("exec {file}", file=file) if text.startswith("#!") else sh("exec bash {file}", file=file),
        path.stem,
        header=(*header, *own),
        resources=Resources(dependency=tuple(ids)),
        after=after,
    )


def kill_ids(job_ids: Iterable[str | int], qtype: str | None = None) -> bool:
    """End jobs by their ids; False where one of this machine's queue is not known."""
    kind = qtype or batch_systems.get_cluster_environment()
    names = [str(each) for each in job_ids]
    if kind != "local":
        context = LazyLocalContext(Path.cwd(), None, {})
        registry.build_machine(qtypes()[kind]).cancel(context, names)
        return True
    known = default_queue().jobs
    for name in names:
        if name in known:
            known[name].kill(confirm=False)
    return set(names) <= known.keys()


def wait(
    jobs: Job | QueueJob | str | int | Iterable[Job | QueueJob | str | int],
    notify: bool = True,
    queue: Queue | None = None,
) -> bool:
    """Until these, or those with these ids, are over; whether all ended well.

    With `notify` a message goes to the address of the settings, if there is one and it took longer than they say.
    """
    wanted = [jobs] if isinstance(jobs, Job | QueueJob | str | int) else list(jobs)
    begun_s = time.monotonic()
    local = default_queue().jobs
    own = [found for each in wanted if isinstance(found := local.get(str(each), each), Job)]
    others = [each for each in wanted if not isinstance(each, Job) and str(each) not in local]
    good = wait_for(own)
    waited = not others or bool((queue or Queue()).wait(others))
    good = waited and good
    if notify:
        tell_after(begun_s, len(wanted), good)
    return good


def tell_after(begun_s: float, count: int, good: bool) -> None:
    """Write to the user when waiting since then took longer than the settings say."""
    settings = conf.get_option("notify")
    took_s = time.monotonic() - begun_s
    if settings["notify_address"] and took_s >= float(settings["wait_time"]):
        how = "All have ended well." if good else "Not all have ended well."
        mailing.notify(f"{count} jobs are over, after {took_s:.0f} s. {how}\n", subject="Your jobs are over")


def get(jobs: Job | Iterable[Job], queue: Queue | None = None) -> Any:
    """What these return: of one job itself, of several a list in their order. Raises ClusterError for what is no Job."""
    if isinstance(jobs, Job):
        return jobs.get()
    listed = [jobs] if isinstance(jobs, str) else list(jobs)
    for each in listed:
        if not isinstance(each, Job):
            remedy = "keep the Job; `wait` takes ids"
            raise ClusterError(f"{each!r} is no Job, and only a Job has a result", where="get", remedy=remedy)
    wait_for(listed)
    return [job.get() for job in listed]


# --- cleaning -----------------------------------------------------------------------------------------------------------------


def clean(jobs: Job | Iterable[Job], clean_outputs: bool = False) -> None:
    """Remove the scripts of these jobs, and with `clean_outputs` what they have printed."""
    for job in [jobs] if isinstance(jobs, Job) else list(jobs):
        job.clean(delete_outputs=clean_outputs)


_SCRIPTS = r"(?:\.script|_func\.py|_func\.pickle\.in)"
_OUTPUTS = r"(?:\.out|\.err|\.out\.func\.pickle)"


def clean_dir(
    directory: str | os.PathLike[str] = ".",
    suffix: str | None = None,
    qtype: str | None = None,
    confirm: bool = False,
    delete_outputs: bool | None = None,
) -> list[str]:
    """Remove what jobs have left in a folder: the paths that were removed.

    Only files whose names no one but us gives are meant: NAME, 12 hex digits, the suffix (default: of the settings) and an end.

    Args:
        qtype: taken; our files have the same names whatever the queue.
        confirm: show them, and ask on the terminal.
        delete_outputs: also what the jobs have printed and returned; default: the setting `clean_outputs`.
    """
    wanted = conf.get_option("jobs", "clean_outputs") if delete_outputs is None else delete_outputs
    end = f"(?:{_SCRIPTS}|{_OUTPUTS})" if wanted else _SCRIPTS
    name = re.compile(rf".*\.[0-9a-f]{{12}}\.{re.escape(suffix or conf.get_option('jobs', 'suffix'))}{end}")
    found = sorted(path for path in Path(directory).iterdir() if name.fullmatch(path.name) and path.is_file())
    if confirm and found:
        print("\n".join(map(str, found)))
        if not sys.stdin.isatty() or input("Remove these files? [y/N] ").strip().lower() not in ("y", "yes"):
            return []
    for path in found:
        path.unlink(missing_ok=True)
    return [str(path) for path in found]


def clean_work_dirs(outputs: bool = False, confirm: bool = False) -> list[str]:
    """`clean_dir` for the folders of scripts and of output in the settings."""
    folders = dict.fromkeys(
        str(each) for key in ("scriptpath", "outpath") if (each := conf.get_option("jobs", key)) is not None
    )
    return [path for folder in folders for path in clean_dir(folder, confirm=confirm, delete_outputs=outputs)]
