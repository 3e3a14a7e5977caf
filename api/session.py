"""How a run begins: what its pilot has done is compared with what is wanted now, and only the difference is submitted."""

from __future__ import annotations

import os
from collections.abc import Mapping
from functools import cache, partial
from pathlib import Path
from typing import Any, NamedTuple

from msgspec import structs

from ..pilot.console import echo
from ..pilot.model.errors import PilotfishError, UsageError
from ..pilot.wire.replies import TaskCounts
from .identity import Wanted, identify
from .ledger import Ledger, read
from .local import LocalManager
from .outcome import failed_tasks, final_states
from .plan import Plan, Planner, unended
from .runjobs import COMMAND, Output, TaskOptions, Work
from .selection import Selection
from .task_records import parameters_of, params_of

_FAILED = ("FAILED", "OMITTED")


class Session(NamedTuple):
    """What a run begins with.

    `ledger`: its tasks. `failed_before`: how many of them had failed before. `dropped`, `dropped_failed`: how many tasks the
    pilot counts that are not part of the run any more, and how many of those have failed.
    """

    ledger: Ledger = Ledger()
    failed_before: int = 0
    dropped: int = 0
    dropped_failed: int = 0

    def counted(self, counts: TaskCounts) -> TaskCounts:
        """The pilot's counts of tasks without those that are not part of the run any more."""
        ended = self.dropped - self.dropped_failed
        return structs.replace(
            counts,
            total=counts.total - self.dropped,
            failed=counts.failed - self.dropped_failed,
            finished=max(0, counts.finished - ended),
        )


def begin(pilot: LocalManager, work: Work | None, options: TaskOptions, *, resumed: bool) -> Session:
    """Submit what is new in `work`, cancel what is no longer in it, and let the pilot start.

    Without `work` the run continues with all that is left. Raises UsageError for jobs that cannot be told apart, and whatever
    the pilot refuses them with.
    """
    aux = pilot.connection_file.parent

    @cache
    def states() -> Mapping[str, str]:
        return final_states(aux) if resumed else {}

    in_pilot = pilot.client.jobs() if resumed else {}
    if work is None and not in_pilot:
        remedy = "give the FILE or -- COMMAND again"
        raise UsageError("the earlier run was stopped before it had accepted any task", where=str(aux), remedy=remedy)
    ledger = read(aux, in_pilot) if resumed else Ledger()
    cancel = unended(ledger, states)
    if work is not None:
        output = Output(work, options, aux.parent)
        wanted = _identified(work, output, resumed)
        if wanted is None:  # which the pilot will refuse
            pilot.client.submit(work.jobs)
            return Session()
        _check_comparable(ledger, wanted, in_pilot)
        source = _source(work, aux.parent)
        selection = _selection(options.only, wanted)
        of_row = None if selection is None else selection.wants
        again = failed_tasks(aux, options.retry, of_row) if resumed and options.retry else ()
        wants = None if selection is None else partial(_is_selected, selection)
        planner = Planner(ledger, in_pilot, states, source, output.text, output.fill_in, again, wants)
        plan = planner.plan(wanted, {job["name"]: place for place, job in enumerate(work.jobs)})
        if plan.left_out:
            echo(f"--only leaves out {_tasks(plan.left_out)}: they wait for a later --continue", err=True)
        if len(ledger):
            _tell_difference(plan, source)
        _submit(pilot, plan, ledger, aux)
        ledger, cancel = plan.ledger, plan.cancel
    if cancel:
        pilot.client.cancel(cancel)
    session = _session(ledger, states, pilot) if resumed else Session(ledger)
    pilot.release()
    return session


def task_count(work: Work) -> int:
    """How many tasks this is; of descriptions that the pilot would refuse, how many jobs."""
    try:
        return sum(job.count for job in identify(work.jobs))
    except PilotfishError:
        return len(work.jobs)


def _identified(work: Work, output: Output, resumed: bool) -> list[Wanted] | None:
    """None for jobs that a first run leaves to the pilot: it refuses them, or gives them names."""
    try:
        return identify(work.jobs)
    except PilotfishError:
        if resumed:
            raise
    for job in work.jobs:
        output.fill_in(job, "${jname}")
    return None


def _selection(text: str | None, wanted: list[Wanted]) -> Selection | None:
    if text is None:
        return None
    if any(job.spec.after for job in wanted):
        raise UsageError("makes no sense with jobs that wait for others", where="--only", remedy="leave it out")
    return Selection(text, {name: None for job in wanted for name in parameters_of(job.spec)})


def _is_selected(selection: Selection, job: Wanted, pos: int) -> bool:
    return selection.wants_new(job.label, job.spec.index_of(pos), params_of(job.spec, pos))


def _check_comparable(ledger: Ledger, wanted: list[Wanted], in_pilot: Mapping[str, object]) -> None:
    same = next((job.label for job in wanted if job.label in in_pilot), None)
    if same is not None and not len(ledger):
        remedy = "continue without FILE, or start anew without --continue and --resume"
        raise UsageError("the earlier run has not written down what its tasks were", where=f"job {same}", remedy=remedy)


def _source(work: Work, wd: Path) -> str:
    """The file as seen from the working folder, so that both may be moved; a name need not be UTF-8."""
    if work.source in ("-", COMMAND):
        return work.source
    return os.path.relpath(Path(work.source).absolute(), wd).encode(errors="backslashreplace").decode()


def _submit(pilot: LocalManager, plan: Plan, before: Ledger, aux: Path) -> None:
    plan.ledger.write(aux)
    if not plan.submit:
        return
    try:
        pilot.client.submit(plan.submit)
    except PilotfishError:
        before.write(aux)  # nothing has been accepted
        raise


def _session(ledger: Ledger, states: Any, pilot: LocalManager) -> Session:
    dropped = ledger.task_count - ledger.wanted_count
    off = [entry.task(index) for entry in ledger for first, end in entry.dropped for index in range(first, end)]
    dropped_failed = sum(states().get(name) in _FAILED for name in off)
    failed = pilot.client.task_counts().failed
    return Session(ledger, failed - dropped_failed, dropped, dropped_failed)


def _tell_difference(plan: Plan, source: str) -> None:
    """One line, if anything has changed since the last run."""
    shown = {COMMAND: "the command", "-": "standard input"}.get(source, source)
    parts = [
        text
        for count, text in (
            (plan.new, f"{_tasks(plan.new)} new"),
            (plan.changed, f"{_tasks(plan.changed)} changed"),
            (plan.again, f"{_tasks(plan.again)} failed before and run again"),
            (plan.gone, f"{_tasks(plan.gone)} no longer in {shown}"),
        )
        if count
    ]
    if parts:
        echo(f"since the last run: {', '.join(parts)}; {plan.known} as before", err=True)
    others = sum(entry.wanted_count for entry in plan.ledger if entry.source != source)
    if others:
        echo(f"{_tasks(others)} of earlier files are part of this run too", err=True)


def _tasks(count: int) -> str:
    return "1 task" if count == 1 else f"{count} tasks"
