"""Submits: their jobs are checked, recorded in the journal, and taken in.

A submit takes its names when it begins: until its end nobody else can have them, and nobody sees jobs of these names. It may
be refused until its last record is in the journal. From then on it is accepted, and nothing refuses it any more: its jobs
enter, and they can be seen when all of them have. A pilot that is stopped or killed meanwhile has it whole in the journal, or
not at all. What waits for one of its jobs, or wants to remove a job that it waits for, waits until it is in: otherwise a
replay of the journal would see another order than we did.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import count

from ..model.acceptance import Checked
from ..model.errors import EndingError
from ..model.execution_models import STARTS_ONE_PROCESS
from ..model.ids import JobNo
from ..model.job_spec import JobSpec, Size
from ..model.steps import SLICE, Pause, Steps
from ..wire import replies, reply_bytes, requests
from ..wire.records import Submitted, SubmittedPart, portions
from .parts import Parts
from .request_server import Reply
from .shutdown import Shutdown


class Submits:
    """Takes in the jobs of clients, one submit after the other or side by side."""

    def __init__(self, parts: Parts, shutdown: Shutdown) -> None:
        self._parts = parts
        self._shutdown = shutdown
        self._scheduler = parts.scheduler
        self._numbers = count(1)
        self._warns_of_models = not parts.uses_models

    def accept(self, request: requests.Submit) -> Steps[Reply]:
        """All of its jobs, or none. Raises PilotfishError; nothing of it is left then."""
        if self._shutdown.stopping:
            raise EndingError("processing stopped")
        checked = yield from self._scheduler.check(request.jobs)
        yield from self._warn_of_models(request.jobs)
        try:
            now = self._parts.now()
            first_no = yield from self._record(request.jobs, now)
            for job in (yield from self._scheduler.accept(checked, now, first_no)):
                self._parts.outboxes.expect(job)
        finally:
            self._scheduler.give_up(checked)
        return (yield from _submitted(checked))

    def _warn_of_models(self, jobs: Sequence[JobSpec]) -> Steps[None]:
        """Once in the life of a pilot that ignores models, and only of a job that this makes a difference to."""
        for number, spec in enumerate(jobs if self._warns_of_models else (), 1):
            model, cores = spec.execution.model, spec.resources.need.cores
            if model not in STARTS_ONE_PROCESS and cores != Size.exactly(1):
                self._warns_of_models = False
                self._parts.status.warn(
                    f"job {spec.name}: models are ignored on one machine, so {model} starts its program once; "
                    "to start a rank on each core use --local-models use"
                )
                return
            if not number % SLICE:
                yield Pause.MORE

    def _record(self, jobs: list[JobSpec], now: float) -> Steps[JobNo]:
        """Put a submit into the journal, the last part as the one that makes it count; returns the number of its first job.

        Raises TransientError when the disk is full.
        """
        store, parts, submit_no = self._parts.store, 0, next(self._numbers)
        rest = portions(jobs)
        last = next(rest)
        for portion in rest:
            store.write_now(SubmittedPart(submit_no, parts, last))
            parts, last = parts + 1, portion
            yield Pause.MORE
        first_no = self._scheduler.jobs.next_no
        store.write_now(Submitted(first_no, now, last, None, submit_no if parts else 0, parts))
        return self._scheduler.jobs.take_numbers(len(jobs))


def _submitted(checked: Checked) -> Steps[Reply]:
    count = len(checked.specs)
    if count <= SLICE:
        names = [spec.name for spec in checked.specs]
        return Reply(reply_bytes.ok(f"{count} jobs submitted", replies.Submitted(count, names)), durable=True)
    stretches = []
    for start in range(0, count, 10 * SLICE):
        stretches.append(reply_bytes.stretch([spec.name for spec in checked.specs[start : start + 10 * SLICE]]))
        if start:
            yield Pause.MORE
    body = yield from reply_bytes.large(f"{count} jobs submitted", replies.Submitted(count, []), "jobs", stretches)
    return Reply(body, durable=True)
