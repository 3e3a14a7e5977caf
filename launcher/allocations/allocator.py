"""The allocator: asks batch systems for nodes for one pilot, as its queue demands, and gives them up again.

Each turn goes the same way: read what others have written, ask the pilot what waits, look where the allocations are,
decide, and act. What is decided is a pure function of these (`decide.py`); what is done is written down before it is done
(`journal.py`). So the allocator may be killed between any two steps: the next one reads what was intended, and finds out
what came of it.

* Asked and killed: the batch job's record says whether the batch system was asked, and its listing, the job's id file and
  the job's claim whether it has it (`batch_jobs.py`). Nothing is asked for twice.
* The batch system is away: what is known of its allocations stays as it was, and they count; nothing is asked for in their
  place.
* The manager was killed: nothing is asked for, and what there is stays, because another manager may follow and agents wait
  for it. When none comes for as long as agents wait, this is the end of the pilot.
* The pilot has ended: what waits is cancelled, what runs has a while to end by itself, and the allocator ends last.

An allocation is *of no use* when it was refused, has ended before any agent joined, has ended at once though nobody wanted
that, or has no agent a while after its start. Three in a row pause the spec (`decide.py`). Loss by the batch system
(pre-emption, a node that went down) is nobody's failure.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from ...pilot.model.errors import PilotfishError
from ...pilot.wire.demand import Demand, NodeUse
from ..contexts.paths import printable
from ..job.states import JobState, Reason, Status
from ..machines.base import MachineBusyError, QueueFullError
from .batch_jobs import BatchJobs
from .decide import AllocationState, Decisions, KnownAllocation, size_of
from .events import Asked, Event, Joined, Leaving, NothingAsked, Over, Placed, Said, SpecPaused, Started
from .journal import AllocationJournal
from .pilot_link import PilotLink
from .spec import AllocationSpec
from .state import Allocation, SpecHistory
from .texts import text_of

Decide = Callable[[Sequence[AllocationSpec], Demand, Sequence[KnownAllocation], float], Decisions]

_FIRST_LOOK_S, _LAST_LOOK_S, _SLOWER = 1.0, 15.0, 1.5
"""How often the batch system is asked: soon after something has happened, then ever more rarely."""
_AGENTS_COME_S = 120.0
"""So long an allocation that runs may have no agent."""
_AGENTS_USUALLY_COME_S = 10.0
"""If none has come by then, what the job has said so far is told."""
_AT_ONCE_S = 30.0
"""An allocation that ends so soon after its start, without having been asked to, was of no use."""
_AGAIN_S = 60.0
"""When a batch system that takes no more now is asked again."""
_QUIET_EVERY_S = 30.0
"""Reasons for doing nothing are written down this often at most: they have numbers in them that change all the time."""
_MANAGER_GONE_S = 600.0
"""As long as agents wait for another manager, by default."""
_ENDS_BY_ITSELF_S = 30.0
"""What runs when the pilot has ended."""
_NOBODYS_FAULT = (Reason.PREEMPTED, Reason.NODE, Reason.TIME)


@dataclass(frozen=True)
class Clocks:
    """`now`: seconds since the epoch, for what is written down; `steady`: for durations."""

    now: Callable[[], float] = time.time
    steady: Callable[[], float] = time.monotonic


class Allocator:
    """One for each pilot: whoever makes it holds the lock (`process.py`)."""

    def __init__(
        self,
        journal: AllocationJournal,
        jobs: BatchJobs,
        pilot: PilotLink,
        decide: Decide,
        clocks: Clocks = Clocks(),
        tell: Callable[[str], None] = print,
    ) -> None:
        self._journal = journal
        self._jobs = jobs
        self._pilot = pilot
        self._decide = decide
        self._clocks = clocks
        self._tell = tell
        self._states: dict[str, AllocationState] = {}
        """Where allocations were when the batch system told it last; none yet: unknown."""
        self._look_s, self._next_look_s = _FIRST_LOOK_S, 0.0
        self._not_before_s: dict[str, tuple[float, str]] = {}
        """Specs whose batch system takes nothing now: until when, and why."""
        self._quiet_s: dict[str, float] = {}
        self._ended_since_s: float | None = None
        self._troubles: dict[str, str] = {}

    def remember(self) -> None:
        """Take in what was written before; nobody has to be told of that again."""
        self._journal.read()

    # --- the turn -------------------------------------------------------------------------------------------------------

    def turn(self) -> bool:
        """One round; False when there is nothing left to do, now or later."""
        self._read()
        demand = self._pilot.demand()
        self._say("pilot", self._pilot.trouble)
        if demand is not None:
            self._note_agents(demand.nodes)
        self._look()  # after the pilot: what ends together with it is no failure
        if self._is_over():
            self._end_all()
            return bool(self._journal.state.living)
        self._leave_removed()
        if demand is not None:
            self._act(self._decide(self._specs(), demand, self._known(), self._clocks.now()))
            self._keep_reachable()
        return bool(self._journal.state.asking or self._journal.state.living)

    def _read(self) -> None:
        for entry in self._journal.read():
            self._tell(text_of(entry))
            self._look_soon()

    def _write(self, *happened: Event) -> None:
        """Down on disk, and part of what we know."""
        self._journal.write(*happened)
        self._read()

    def _say(self, about: str, trouble: str) -> None:
        """Each change of a trouble once."""
        if self._troubles.get(about, "") != trouble:
            self._troubles[about] = trouble
            self._tell(f"{about}: {trouble or 'answers again'}")

    def _is_over(self) -> bool:
        if self._pilot.ended:
            return True
        since_s = self._pilot.silent_since_s
        return since_s is not None and self._clocks.steady() - since_s > _MANAGER_GONE_S

    # --- what decisions stand on ----------------------------------------------------------------------------------------

    def _specs(self) -> list[AllocationSpec]:
        return [each.spec for each in self._journal.state.asking]

    def _known(self) -> list[KnownAllocation]:
        state = self._journal.state
        found = []
        for each in state.allocations.values():
            history = state.specs.get(each.spec)
            if history is not None and each.asked_s >= history.added_s:
                found.append(each.known(self._states.get(each.id, AllocationState.UNKNOWN), history.since_s))
        return found

    # --- where they are -------------------------------------------------------------------------------------------------

    def _look_soon(self) -> None:
        self._look_s = _FIRST_LOOK_S
        self._next_look_s = min(self._next_look_s, self._clocks.steady() + _FIRST_LOOK_S)

    def _look(self) -> None:
        if self._clocks.steady() < self._next_look_s:
            return
        self._look_s = min(self._look_s * _SLOWER, _LAST_LOOK_S)
        self._next_look_s = self._clocks.steady() + self._look_s
        for history in list(self._journal.state.specs.values()):
            living = self._journal.state.living_of(history.spec.name)
            if not living:
                continue
            try:
                found = self._jobs.look(history.spec, [each.id for each in living])
            except (PilotfishError, OSError) as error:
                self._say(history.spec.name, str(error))
                self._states |= {each.id: AllocationState.UNKNOWN for each in living}
                continue
            self._say(history.spec.name, "")
            for each in living:
                self._note(history, each, found[each.id])

    def _note(self, history: SpecHistory, known: Allocation, status: Status | None) -> None:
        """What the batch system tells of one."""
        if status is None:
            self._states[known.id] = AllocationState.ENDED
            self._write(Over(known.id, "was not handed over: its allocator was ended just before"))
            return
        self._states[known.id] = _state_of(status)
        if status.state.ended:
            self._note_end(history, known, status)
            return
        if not known.job_id and (job_id := self._jobs.job_id(history.spec, known.id)):
            self._write(Placed(known.id, job_id))
        if status.state is JobState.running and known.started_s is None:
            self._write(Started(known.id, printable(status.nodes)))
        elif known.leaving == "cancel":  # the batch system was away when it was told, or we were killed before
            self._cancel(history.spec, known)
        elif status.state is JobState.running and known.joined_s is None and self._has_no_agents(known):
            reason = f"no agent has joined in {_AGENTS_COME_S:.0f} s"
            self._leave(history.spec, known, "cancel", reason, failed=True)
        elif status.state is JobState.running and known.joined_s is None and not known.leaving:
            self._note_words(history.spec, known)

    def _note_words(self, spec: AllocationSpec, known: Allocation) -> None:
        """Of one that should have an agent by now: why it has none is not told only when it has given up."""
        if self._clocks.now() - (known.started_s or 0.0) > _AGENTS_USUALLY_COME_S and not known.lines:
            lines = printable_lines(self._jobs.last_lines(spec, known.id))
            if lines:
                self._write(Said(known.id, lines))

    def _has_no_agents(self, known: Allocation) -> bool:
        answers = self._pilot.silent_since_s is None
        return answers and known.started_s is not None and self._clocks.now() - known.started_s > _AGENTS_COME_S

    def _note_end(self, history: SpecHistory, known: Allocation, status: Status) -> None:
        failed = known.of_no_use or self._was_of_no_use(known, status)
        lines = printable_lines(self._jobs.last_lines(history.spec, known.id)) if failed else ""
        reason = known.why_leaving or _how_it_ended(status)
        if failed and not known.leaving and known.joined_s is None:
            reason = f"ended before any agent had joined: {reason}"
        self._write(Over(known.id, reason, failed, lines))
        self._jobs.forget(history.spec, known.id)

    def _was_of_no_use(self, known: Allocation, status: Status) -> bool:
        if (
            known.leaving
            or status.reason in _NOBODYS_FAULT
            or self._pilot.silent_since_s is not None
            or self._is_over()
        ):
            return False
        if known.joined_s is None:
            return True
        lasted_s = self._clocks.now() - (known.started_s or known.joined_s)
        return status.state is not JobState.finished and lasted_s < _AT_ONCE_S

    def _note_agents(self, nodes: Iterable[NodeUse]) -> None:
        new: dict[str, NodeUse] = {}
        for node in nodes:
            known = self._journal.state.allocations.get(node.allocation)
            if known is not None and not known.over and known.joined_s is None:
                new.setdefault(known.id, node)
        if new:
            self._write(*(Joined(name, size_of(node)) for name, node in new.items()))
            self._states |= dict.fromkeys(new, AllocationState.RUNNING)

    # --- acting ---------------------------------------------------------------------------------------------------------

    def _act(self, decisions: Decisions) -> None:
        state = self._journal.state
        for pause in decisions.pause:
            self._write(SpecPaused(pause.spec, pause.reason))
        leaving = [(each.id, "release", each.reason) for each in decisions.release]
        leaving += [(each.id, "cancel", each.reason) for each in decisions.cancel]
        for name, how, reason in leaving:
            known = state.allocations.get(name)
            if known is not None and not known.over and known.spec in state.specs:
                self._leave(state.specs[known.spec].spec, known, how, reason)
        for submit in decisions.submit:
            history = state.specs.get(submit.spec)
            if history is None or history.removed or self._is_held(submit.spec):
                continue
            self._submit(history.spec, submit.nodes, submit.walltime_s, submit.reason)
        for quiet in decisions.quiet:
            self._note_quiet(quiet.spec, quiet.reason)
        for each in state.living:  # whoever released it may have been killed before the pilot had heard it
            if each.leaving == "release" and each.joined_s is not None:
                self._pilot.release(each.id)

    def _is_held(self, spec: str) -> bool:
        until_s, why = self._not_before_s.get(spec, (0.0, ""))
        if self._clocks.steady() >= until_s:
            return False
        self._note_quiet(spec, why)
        return True

    def _note_quiet(self, spec: str, reason: str) -> None:
        history = self._journal.state.specs.get(spec)
        if history is None or history.quiet == reason:
            return
        now_s = self._clocks.steady()
        if now_s - self._quiet_s.get(spec, -_QUIET_EVERY_S) >= _QUIET_EVERY_S:
            self._quiet_s[spec] = now_s
            self._write(NothingAsked(spec, reason))

    def _submit(self, spec: AllocationSpec, nodes: int, walltime_s: float, reason: str) -> None:
        name = self._jobs.new_id()
        self._states[name] = AllocationState.WAITING
        self._quiet_s.pop(spec.name, None)
        self._write(Asked(name, spec.name, nodes, walltime_s, reason))
        try:
            job_id = self._jobs.submit(spec, name, nodes, walltime_s)
        except MachineBusyError as error:  # it may have been taken: the next look finds out
            self._say(spec.name, str(error))
            self._hold(spec.name, str(error))
        except QueueFullError as error:
            self._hold(spec.name, f"the batch system takes no more now: {error}")
            self._write(Over(name, f"not taken: {error}"))
        except (PilotfishError, OSError) as error:
            self._hold(spec.name, str(error))
            self._write(Over(name, f"refused: {error}", failed=True))
        else:
            self._write(Placed(name, job_id))

    def _hold(self, spec: str, why: str) -> None:
        self._not_before_s[spec] = self._clocks.steady() + _AGAIN_S, printable(why)

    def _leave(self, spec: AllocationSpec, known: Allocation, how: str, reason: str, *, failed: bool = False) -> None:
        """Written down first: whoever comes after us goes on with it."""
        if known.leaving in (how, "cancel"):
            return
        self._write(Leaving(known.id, how, reason, failed))
        if how == "release":
            self._pilot.release(known.id)
        else:
            self._cancel(spec, known)

    def _cancel(self, spec: AllocationSpec, known: Allocation) -> None:
        try:
            self._jobs.cancel(spec, known.id)
        except (PilotfishError, OSError) as error:  # the next look tries again
            self._say(spec.name, str(error))
        self._look_soon()

    def _keep_reachable(self) -> None:
        """Agents on other machines find a manager that has taken the place of another one."""
        info = self._pilot.info
        for history in self._journal.state.specs.values():
            if info is None or not any(each.job_id for each in self._journal.state.living_of(history.spec.name)):
                continue
            try:
                self._jobs.send_connection(history.spec, info)
            except (PilotfishError, OSError) as error:
                self._say(history.spec.name, str(error))

    # --- the end --------------------------------------------------------------------------------------------------------

    def _leave_removed(self) -> None:
        """What waits for a spec that was removed is cancelled; what runs comes to the end of its tasks, or not."""
        for history in list(self._journal.state.specs.values()):
            for known in self._journal.state.living_of(history.spec.name) if history.removed else ():
                runs = self._states.get(known.id) is AllocationState.RUNNING or known.joined_s is not None
                how = "release" if runs and known.joined_s is not None and not history.kill else "cancel"
                self._leave(history.spec, known, how, f"{history.spec.name} was removed")

    def _end_all(self) -> None:
        self._look_soon()
        now_s = self._clocks.steady()
        self._ended_since_s = now_s if self._ended_since_s is None else self._ended_since_s
        patient = now_s - self._ended_since_s < _ENDS_BY_ITSELF_S
        why = "the pilot has ended" if self._pilot.ended else f"the pilot has been gone too long: {self._pilot.trouble}"
        for history in list(self._journal.state.specs.values()):
            for known in self._journal.state.living_of(history.spec.name):
                if self._states.get(known.id) is AllocationState.RUNNING and patient:
                    continue
                self._leave(history.spec, known, "cancel", why)

    def give_up(self) -> None:
        """The pilot's folder was removed, and with it all that is written down: cancel what is known to be left."""
        for known in self._journal.state.living:
            self._cancel(self._journal.state.specs[known.spec].spec, known)


def printable_lines(text: str) -> str:
    return "\n".join(printable(line) for line in text.splitlines())


def _state_of(status: Status) -> AllocationState:
    match status.state:
        case JobState.running | JobState.completing:
            return AllocationState.RUNNING
        case JobState.waiting | JobState.unsubmitted:
            return AllocationState.WAITING
        case JobState.unknown:
            return AllocationState.UNKNOWN
    return AllocationState.ENDED


def _how_it_ended(status: Status) -> str:
    if status.state is JobState.finished:
        return "its job has ended"
    code = "" if status.exit_code is None else f"exit code {status.exit_code}"
    return (
        ", ".join(filter(None, [status.reason or status.native, code, printable(status.why)])) or "its job has failed"
    )
