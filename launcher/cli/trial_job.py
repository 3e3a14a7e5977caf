"""A job of one second, handed to a batch system as submissions hand over theirs: proof that jobs run and are seen to end."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

from ...pilot.model.errors import PilotfishError, TransientError
from ..contexts.base import Context
from ..contexts.shell import relatives, sh
from ..description.resources import Resources
from ..description.task import Task
from ..job import record
from ..job.record import JobResult
from ..job.spec import JobToPlace
from ..job.states import Listing
from ..machines.base import BatchSystem

_WALLTIME_S = 120.0
_LOOK_EVERY_S = 0.5
_LAST_WORDS = 10
"""Lines."""


@dataclass(frozen=True)
class Trial:
    """How it went. `waits`: it had not begun when we ended it, which says nothing against the machine."""

    ok: bool
    found: str
    remedy: str = ""
    waits: bool = False


def run_trial_job(
    machine: BatchSystem,
    context: Context,
    resources: Resources,
    folder: str,
    wait_s: float,
    now: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> Trial:
    """Run it in this folder, which is left as it is then, for at most `wait_s` seconds, the queue included.

    Of the resources counts where it may run (queue, account ...) and what its shell needs, not how large it is.
    """
    job = _job(resources, folder)
    began_s = now()
    try:
        context.write({f"{folder}/{name}": text.encode() for name, text in machine.script(job).items()})
        job_id = machine.submit(context, job)
    except PilotfishError as error:
        return Trial(False, f"was not taken: {error.what}", error.remedy or "is it the queue, the account, a limit?")
    native, gone_since_s = "", None
    while True:
        if (result := _result(context, job)) is not None:
            return _judged(context, job, result, now() - began_s)
        listing = _listing(machine, context, job_id)
        if listing is not None and job_id in listing and not listing[job_id].state.ended:
            native, gone_since_s = listing[job_id].native, None
        elif listing is not None:
            gone_since_s = now() if gone_since_s is None else gone_since_s
            result = _result(context, job)  # it may have ended since that was read
            if result is None and now() - gone_since_s > machine.settle_s:
                remedy = "do the nodes see this folder? Do start files there end or replace the shell?"
                return Trial(False, f"job {job_id} has ended without a word{_last_words(context, job)}", remedy)
        if now() - began_s > wait_s:
            machine.cancel(context, [job_id])
            what = f"job {job_id} was still {native or 'not to be seen'} after {wait_s:g} s, and was ended"
            return Trial(False, what, "wait for longer with --wait SECONDS, or leave it out with --no-job", waits=True)
        sleep(_LOOK_EVERY_S)


def _job(resources: Resources, folder: str) -> JobToPlace:
    name = secrets.token_hex(20)
    small = replace(
        resources,
        number_node=1,
        cpu_per_node=1,
        gpu_per_node=0,
        memory_mib=None,
        exclusive=False,
        dependency=[],
        walltime_s=_WALLTIME_S,
        strategy={},
        append_script=[],
    )
    task = Task("sleep 1", ".", outlog=None, errlog=None)
    return JobToPlace(name, f"dp-{name[:8]}", (task,), (name,), small, folder)


def _result(context: Context, job: JobToPlace) -> JobResult | None:
    path = f"{job.root}/{job.hash}_result.json"
    return record.parse(context.read([path]).get(path, b""))


def _listing(machine: BatchSystem, context: Context, job_id: str) -> Listing | None:
    """None when the batch system does not answer now."""
    try:
        return machine.query(context, [job_id])
    except TransientError:
        return None


def _judged(context: Context, job: JobToPlace, result: JobResult, took_s: float) -> Trial:
    if result.exit_code == 0 and result.tasks and result.tasks[0].exit_code == 0:
        return Trial(True, f"ran on {result.node}; its end was known {took_s:.0f} s after it was handed over")
    code = result.tasks[0].exit_code if result.tasks else result.exit_code
    return Trial(
        False, f"ended with code {code} on {result.node}{_last_words(context, job)}", "see prepend_script, modules"
    )


def _last_words(context: Context, job: JobToPlace) -> str:
    """The end of what the batch system has kept of its output."""
    names = [file.path for file in context.list_files(job.root, ["."]) if not file.path.startswith((".", job.hash))]
    if not names:
        return ""
    text = context.run(sh("tail -q -n {count} -- {files}", count=_LAST_WORDS, files=relatives(names)), cwd=job.root).out
    return f": {text.strip()}" if text.strip() else ""
