"""The core of the manager: events in, decisions out, no I/O, no clock, no randomness."""

# `on_*` and the client calls note what happened; `plan` decides what starts, once per turn of the loop; `take_decisions`
# hands over all that has to be recorded, ordered and told. Every `now` is in seconds since the epoch. Equal calls give
# equal decisions, so replaying a journal gives the state back.
#
# The scheduler itself owns nothing but the order of things: jobs are in the Registry, what waits in the Queue, cores in
# Nodes, who runs where in Dispatch, what an end means in Lifecycle, what an earlier life left in Recovery, and what clients
# stop in Cancellation; which jobs can be accepted is in acceptance.py. It is the only one of them that others call for
# events, so each event has one method here that can be read from top to bottom.
#
# Why nothing is decided in `on_*`: five thousand results that come in one turn then cost one plan and not five thousand,
# and a core that was freed goes to the work that is first by the end of the turn, not to whatever was looked at first.
#
# An event about something that is not known (any more) is ignored: agents report what they knew then. An event that the
# tables do not allow for something that *is* known is our mistake: it raises before anything is changed.
#
# Anybody may look at `jobs`, `nodes` and `dispatch`. Changes are made by calling a method here, except those that concern
# a node alone (its state, the names of its cores).
#
# Example. One turn: `on_finished(a:0)` frees a core and notes the result; `on_finished(a:1)` likewise; `submit(b)` queues
# b; `plan` gives both cores to the next two tasks; `take_decisions` has two results to be recorded, then two starts to be
# sent, then the changes to be published.

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from typing import TypeVar

from . import acceptance
from .acceptance import Checked, plan_of
from .attempts import Attempt, End, LostAttempts
from .cancellation import Cancellation
from .decisions import Change, Decisions
from .dispatch import Dispatch
from .errors import RefusedError
from .ids import GrantId, JobNo, NodeNo, TaskKey
from .job_spec import JobSpec
from .jobs import Job
from .lifecycle import Lifecycle
from .nodes import Nodes
from .plain_ends import EndReport, PlainEnds, StartReport, SuccessReport
from .queue import Queue
from .recovery import Recovery
from .registry import Registry
from .resources import NamedResource, NodeSpec
from .states import AttemptEvent, Cause, Fate, NodeEvent, State
from .steps import SLICE, Pause, Steps, finish

_End = TypeVar("_End", bound=EndReport)
_Start = TypeVar("_Start", bound=StartReport)


class Scheduler:
    """All jobs, all nodes, and what runs where.

    Args:
        nodes: the allocation; all start out unusable, until `on_node_up`.
        crash_limit: a task whose agent was lost this many times under it has FAILED.
        reserve_after_s: how long work may be passed before nodes are held for it.
        system_core: keep core 0 of the first node free.
        of_pool: the named resources that no node has.
        life: another number in each life of the manager, below 2**20; grants and pools are numbered by it.
    """

    def __init__(
        self,
        nodes: Iterable[NodeSpec] = (),
        *,
        crash_limit: int = 5,
        reserve_after_s: float = 10.0,
        system_core: bool = False,
        of_pool: Iterable[NamedResource] = (),
        life: int = 0,
    ) -> None:
        self.nodes = Nodes(nodes, system_core, of_pool)
        self.jobs = Registry()
        self.queue = Queue()
        self._decisions = Decisions()
        self.dispatch = Dispatch(self.nodes, self.jobs, self.queue, self._decisions, reserve_after_s, life)
        self._life = Lifecycle(self.jobs, self.queue, self._decisions, crash_limit, self.nodes.most_mem)
        self._plain_ends = PlainEnds(self.dispatch, self.jobs, self._life.lost, self._decisions)
        self._cancellation = Cancellation(self.dispatch, self._life, self._decisions)
        self.most_per_turn: int | None = None
        """How many consequences of what has happened are followed in one turn; None: all, as in a replay."""
        self._followed = 0
        self._was_busy = False
        self.recovery = Recovery(self.nodes, self.jobs, self.dispatch, self._life, self._decisions)

    # --- clients --------------------------------------------------------------------------------------------------------

    def submit(self, specs: Sequence[JobSpec], now: float) -> list[Job]:
        """Accept all of `specs` or none, at once."""
        checked = finish(self.check(specs))
        return finish(self.accept(checked, now, self.jobs.take_numbers(len(specs))))

    def check(self, specs: Sequence[JobSpec]) -> Steps[Checked]:
        """Whether these jobs can be accepted as they are; nothing but their names is taken, until `accept` or `give_up`.

        Raises JobExistsError, NotEnoughResourcesError or InvalidJobError.
        """
        return acceptance.check(specs, self.jobs, self.nodes)

    def give_up(self, checked: Checked) -> None:
        """These jobs are not going to be accepted: their names are free again. Harmless when they were."""
        if checked.entering in self.jobs.entering:
            self.jobs.entering.remove(checked.entering)

    def may_be_removed(self, name: str) -> bool:
        """Whether no submit on its way in counts on this job being there."""
        return self.jobs.entering_that_needs(name) is None

    def accept(self, checked: Checked, now: float, first_no: JobNo, numbers: Iterable[JobNo] = ()) -> Steps[list[Job]]:
        """Take in what `check` let pass, as jobs with numbers from `first_no` on, or with `numbers` from an earlier life.

        It cannot fail. Clients see the jobs, and work on them begins, as they come to be connected.
        """
        jobs = []
        their_numbers = iter(numbers)
        for place, spec in enumerate(checked.specs):
            job = self.jobs.add(spec, now, next(their_numbers, JobNo(first_no + place)))
            self._life.enter(job, plan_of(spec, self.nodes))
            jobs.append(job)
            if not (place + 1) % SLICE:
                yield Pause.MORE
        self._was_busy = True
        for place, job in enumerate(jobs, 1):
            yield from self._life.connect(job)
            if not place % SLICE:
                self._settle(now)
                yield Pause.MORE
        self.give_up(checked)
        self._settle(now)
        return jobs

    def replay_submitted(self, specs: Sequence[JobSpec], now: float, numbers: Iterable[JobNo] = ()) -> list[Job]:
        """A submit that was accepted before. Jobs that no longer fit this allocation wait for one that is larger."""
        return finish(self.accept(Checked(specs), now, self.jobs.next_no, numbers))

    def _settle(self, now: float) -> None:
        """Follow what has happened, as far as there is room in this turn."""
        if self._life.settled:
            return
        most = None if self.most_per_turn is None else max(0, self.most_per_turn - self._followed)
        self._followed += self._life.settle(now, most)

    @property
    def settled(self) -> bool:
        """Whether all consequences of past events have been followed; if not, `plan` continues with them."""
        return self._life.settled

    @property
    def planned(self) -> bool:
        """Whether the last `plan` has started all that can be started; otherwise the next one goes on with it."""
        return self.dispatch.planned

    @property
    def unfinished(self) -> bool:
        """Whether there is work, or work is on its way in."""
        return self.jobs.unfinished > 0 or bool(self.jobs.entering)

    def cancel(self, job: Job, now: float) -> None:
        """Cancel a whole job: queued tasks are CANCELED at once, running ones when they have been stopped.

        Raises RefusedError when the job has ended or was cancelled before.
        """
        finish(self.cancel_in_steps(job, now))

    def cancel_in_steps(self, job: Job, now: float) -> Steps[None]:
        """The same in slices, as very many tasks may be running. It is accepted, or refused, in the first.

        What has come back to the queue by the time it would have been stopped is CANCELED there.
        """
        yield from self._cancellation.cancel_job(job, now)
        self._settle(now)

    def cancel_task(self, job: Job, pos: int, now: float) -> None:
        """Cancel one task. Raises RefusedError when it has ended."""
        self._cancellation.cancel_task(job, pos, now)
        self._settle(now)

    @property
    def being_canceled(self) -> Set[JobNo]:
        """Cancelled jobs of which some tasks may not have been ordered to stop yet."""
        return self._cancellation.jobs

    def remove(self, job: Job) -> None:
        """Forget a job that has ended; its name becomes free. Raises RefusedError when it has not ended."""
        if not job.state.final:
            raise RefusedError(f"Job '{job.spec.name}' not finished - can not be removed")
        self.jobs.remove(job)
        self._decisions.removed.append(job.no)

    def attempt_of(self, job: Job, pos: int) -> Attempt | None:
        """The attempt at this task that is in flight."""
        return self.dispatch.attempt_of(job, pos)

    # --- agents ---------------------------------------------------------------------------------------------------------

    def node_of(self, key: TaskKey) -> NodeNo | None:
        """The node that an attempt was sent to, even if it has counted as lost since; None: the attempt is not known."""
        attempt = self.dispatch.attempts.get(key) or self._life.lost.get(key)
        return None if attempt is None else attempt.node

    @property
    def lost(self) -> LostAttempts:
        """Attempts of agents that have fallen silent and may yet report them."""
        return self._life.lost

    def on_node_joined(self, spec: NodeSpec) -> NodeNo:
        """A node becomes part of the pilot; usable from `on_node_up` on. Its name is that of no other node that is here."""
        return self.nodes.add(spec)

    def on_node_left(self, node: NodeNo, now: float) -> None:
        """The node will not come back: what it held goes back to the queue, and that does not count as a crash."""
        self.nodes.move(node, NodeEvent.LEAVE)
        # What an agent had brought back in this very turn has not been recorded yet, and now need not be.
        self._decisions.sent.pop(node, None)
        for attempt in self.dispatch.drop_node(node):
            del self.dispatch.attempts[attempt.key]
            self._life.attempt_taken(attempt, now)
        if not self.nodes.specs[node].joined:
            self._life.lost.forget_node(node)
        self._settle(now)

    def on_agent(self, node: NodeNo, agent_id: str) -> None:
        """This agent speaks for the node from now on.

        Attempts that were lost there are excused if they are its own: it had only been cut off. Another's are forgotten.
        """
        if agent_id != self.nodes[node].agent and not self.nodes.specs[node].joined:
            self._life.lost.forget_node(node)
        self.nodes[node].agent = agent_id
        for namesake in self.nodes.namesakes(node, self._life.lost.nodes):
            for attempt in self._life.lost.of_node(namesake):
                self._life.excuse(attempt)

    def on_node_up(self, node: NodeNo) -> None:
        """Its agent has reported all it holds, and takes work."""
        self.nodes.move(node, NodeEvent.REPORT)

    def on_node_draining(self, node: NodeNo) -> None:
        """The node takes nothing new; what runs there comes to its end."""
        self.nodes.move(node, NodeEvent.DRAIN)
        self.dispatch.release_hold(node)

    def on_node_silent(self, node: NodeNo) -> None:
        """The agent of the node lives but has been silent for too long: it keeps what it has until it ends."""
        self.nodes.move(node, NodeEvent.FALL_SILENT)
        self.dispatch.release_hold(node)

    def on_node_heard(self, node: NodeNo) -> None:
        """The agent that was silent is heard again; `on_node_up` follows when it has reported all it holds."""
        self.nodes.move(node, NodeEvent.HEAR)

    def on_node_dismissed(self, node: NodeNo) -> None:
        """The agent of the node was told to end; it keeps what it has until it has ended."""
        self.nodes.move(node, NodeEvent.DISMISS)
        self.dispatch.release_hold(node)

    def on_node_lost(self, node: NodeNo, now: float, silent: bool = False) -> None:
        """The agent of this node is gone, and everything it held with it: its tasks go back to the queue.

        `silent`: it is not known to be gone, but has been silent for so long that this is assumed. It may come back.
        A task over several nodes whose first node is still served is stopped there, and goes back when its end is reported.
        A node of another allocation that falls silent was taken back by the batch system, as far as anybody can tell: what
        kills an agent alone is reported by its watcher.
        """
        evicted = silent and self.nodes.specs[node].allocation != ""
        self.nodes.move(node, NodeEvent.LOSE)
        held = {grant.grant_id: grant for grant in self.dispatch.grants_at.of(node)}
        for attempt in self.dispatch.drop_node(node):
            del self.dispatch.attempts[attempt.key]
            self._life.attempt_lost(attempt, now, silent, evicted)
        if silent:
            self._life.lost.add_grants(node, held)
        else:
            self._life.lost.forget_node(node)
        self._settle(now)

    def on_node_given_up(self, node: NodeNo, now: float) -> None:
        """No agent can be started there: nobody will report what was lost with the last one."""
        self.on_node_lost(node, now)
        self.nodes.move(node, NodeEvent.GIVE_UP)

    def on_started(self, key: TaskKey, grant_id: GrantId, pid: int, started_s: float) -> None:
        """An agent has started the attempt `key`. Unknown attempts (of an earlier life) are ignored."""
        attempt = self.dispatch.attempts.get(key)
        if attempt is None or attempt.after(AttemptEvent.START) is not Fate.BEGIN:
            return
        if attempt.job.tasks.state(key.pos) is State.SCHEDULED:
            attempt.grant = self.dispatch.grants.get(grant_id, attempt.grant)
            self.dispatch.started(attempt)
            self._begin(attempt, pid, started_s)

    def on_all_started(self, node: NodeNo, starts: Iterable[_Start], otherwise: Callable[[_Start], None]) -> None:
        """The agent of `node` reports many starts: as `on_started` for each, and faster for those that nothing distinguishes.

        The others are left to `otherwise`, in their order: it asks what it has to, and calls `on_started`.
        """
        self._plain_ends.take_starts(node, starts, otherwise)

    def _begin(self, attempt: Attempt, pid: int, started_s: float) -> None:
        attempt.pid, attempt.started_s = pid, started_s
        job, pos = attempt.job, attempt.key.pos
        self.jobs.move_task(job, pos, State.EXECUTING)
        self._decisions.changes.append(Change(job, pos if job.is_iteration else None, State.EXECUTING, started_s))

    def on_ended(self, node: NodeNo, ends: Iterable[_End], otherwise: Callable[[_End], None]) -> None:
        """The same of ends, as `on_finished`. `otherwise` asks what it has to, and calls that."""
        self._plain_ends.take(node, ends, otherwise)

    def on_succeeded(self, node: NodeNo, ends: SuccessReport, otherwise: Callable[[int], None]) -> None:
        """The same of ends in columns; `otherwise` gets places in them."""
        self._plain_ends.take_alike(node, ends, otherwise)

    def on_finished(self, key: TaskKey, grant_id: GrantId, end: End, returns_grant: bool, now: float) -> None:
        """An attempt has ended, and perhaps its grant came back. An end that is known already is ignored."""
        grant = self.dispatch.grants.get(grant_id)
        attempt = self.dispatch.attempts.pop(key, None) or self.recovery.match_late_end(key, grant_id, end)
        if attempt is not None:
            self.dispatch.attempts_at.gone(attempt.node, key)
            attempt.grant = grant or attempt.grant
            pool = self.dispatch.remove_unstarted(attempt)
            # Of a short task the end is the first that is heard.
            if end.pid > 0 and attempt.job.tasks.state(key.pos) is State.SCHEDULED:
                self._begin(attempt, end.pid, end.started_s)
            if pool is not None and end.cause is Cause.EXITED:
                pool.pace.ran(end.ended_s - end.started_s)
            self._life.attempt_ended(attempt, end, now)
        if returns_grant and grant is not None:
            self.dispatch.returned(grant)
        self._settle(now)

    def on_returned(self, grant_id: GrantId) -> None:
        """An agent gives back a grant for which it has no task."""
        grant = self.dispatch.grants.get(grant_id)
        if grant is not None:
            self.dispatch.returned(grant)

    def on_revoked(self, key: TaskKey, now: float) -> None:
        """An agent gives back an attempt it has not started."""
        attempt = self.dispatch.attempts.pop(key, None)
        if attempt is not None:
            self.dispatch.remove_unstarted(attempt)
            self._life.attempt_taken(attempt, now)
            self._settle(now)

    def ends_at(self, ends_s: float | None, margin_s: float) -> None:
        """When the allocation ends (seconds since the epoch, None: never), and how long before that tasks must be over."""
        self.dispatch.ends_s, self.dispatch.margin_s = ends_s, margin_s

    def on_pause(self, seconds: float) -> None:
        """The whole job was suspended for so long: nothing has waited meanwhile, so nothing is held or taken back for it."""
        self.dispatch.on_pause(seconds)

    def on_stopping(self) -> None:
        """The pilot ends: tasks that are stopped from now on are `interrupted`."""
        if self._life.interrupted is None:
            self._life.interrupted = 0

    @property
    def interrupted(self) -> int:
        """Running tasks that went back to the queue since `on_stopping`."""
        return self._life.interrupted or 0

    @property
    def resting(self) -> Mapping[tuple[JobNo, int], float]:
        """Until when failed tasks pause before they start again, by job and position."""
        return self._life.retries.resting

    def stalled(self, now: float) -> bool:
        """Whether work is left that only another allocation can do."""
        idle = self.settled and not self.jobs.entering and not self.resting
        return idle and not self.nodes.elastic and self.jobs.unfinished > 0 and self.dispatch.stalled(now)

    # --- deciding -------------------------------------------------------------------------------------------------------

    def plan(self, now: float) -> None:
        """Start what can be started; call once per turn."""
        self._settle(now)
        self.dispatch.plan(now)

    def on_time(self, now: float) -> None:
        """Call about twice a second: takes back what was lent and could not start, and ends the pauses of what had failed."""
        self._life.retries.wake(now)
        self.dispatch.take_back_stale(now)

    def take_decisions(self) -> Decisions:
        """Everything decided since the last call, to be recorded, ordered and told, in this order."""
        self._followed = 0
        decisions = self._decisions.drain()
        decisions.idle = self._was_busy and self.jobs.unfinished == 0
        if decisions.idle:
            self._was_busy = False
        return decisions
