"""The running manager: sockets and timers around the core, nothing clever.

Each turn of the loop ends in `_end_of_turn`, which is where the promise *record, act, tell* is kept: what the core has
decided goes to the journal, then to the agents, then to subscribers and the report; replies that promise durability leave
last, after the journal is on disk. When the disk is full, the turn waits, whole, and nothing new is decided or accepted.
"""

from __future__ import annotations

import logging
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime

from .. import clock, variable_names
from ..clock import Patience
from ..console import echo
from ..loop import Loop
from ..model import invariants
from ..model.decisions import Change, Decisions
from ..model.errors import EndingError, LostError, TransientError
from ..model.ids import NodeNo
from ..model.scheduler import Scheduler
from ..model.states import NodeEvent, NodeState
from ..systems import registry
from ..systems.base import Allocation
from ..wire import frames, records
from ..wire.requests import submit_variables
from .agent_processes import AgentProcesses, Recipe
from .agents import Agents
from .auxdir import AuxDir
from .compacting import WORTH_BYTES, compact, mostly_removed
from .config import Settings
from .ending import Ending
from .endpoints import Endpoints
from .handlers import Handlers
from .job_info import Views
from .publisher import Publisher
from .reporter import Reporter
from .request_server import RequestServer
from .status import Status
from .store import Store

log = logging.getLogger(__name__)

TICK_S = 0.5
SYNC_S = 0.2
RETRY_S = 1.0
IDLE_CHECK_S = 0.2
STOP_MARGIN_S = 5.0
_LEAST_SILENCE_S = 0.1
_BEATS_BEFORE_LOST = 6
"""How often at least an agent says that it lives in the time after which it counts as lost."""
_WINDOW = 0.6
"""For what part of that time an agent that hears nothing of us goes on starting tasks: over before it counts as lost here,
which is told from its last words, and they may be older than ours by one beat.
"""
_STEPS_BEFORE_LOST = 8
"""How often at least agents are listened to in that time."""


class Service:
    """One life of a manager. Built by app.py, which also does the start-up; `run` returns the exit code."""

    def __init__(
        self,
        settings: Settings,
        aux: AuxDir,
        allocation: Allocation,
        scheduler: Scheduler,
        store: Store,
        endpoints: Endpoints,
        views: Views,
        publisher: Publisher,
        reporter: Reporter | None,
        epoch: str,
        recipe: Recipe,
        now: Callable[[], float] = clock.now,
    ) -> None:
        self.settings = settings
        self.aux = aux
        self.allocation = allocation
        self.scheduler = scheduler
        self.store = store
        self.views = views
        self.publisher = publisher
        self.now = now
        self.loop = Loop()
        node_lost_s = max(settings.node_lost_s, _LEAST_SILENCE_S)
        self.patience = Patience(self.loop, min(TICK_S, node_lost_s / _STEPS_BEFORE_LOST))
        self._heartbeat_s = min(settings.heartbeat_s, node_lost_s / _BEATS_BEFORE_LOST)
        self.status = Status(settings, aux, endpoints, scheduler, publisher, now)
        self.resources = self.status.resources
        self.closing = False
        self.stopping = False
        self.held = False
        """Nothing is started yet (`--hold-fd`)."""
        self._doors = endpoints
        self._reporter = reporter
        self._exit_code = 0
        self._stuck: list[Decisions] = []
        """Turns that could not be written yet; only while the disk is full."""
        self._retry_at = 0.0
        self._facts: list[records.Record] = []
        self.ending = Ending(self, self._ends_s())
        self.handlers = Handlers(self)
        self.request_server = RequestServer(endpoints.requests, self.handlers.answer)
        agent_settings = frames.Settings(
            root_wd=str(settings.wd),
            aux_dir=str(aux.path),
            kill_grace_s=settings.kill_grace_s,
            heartbeat_s=self._heartbeat_s,
            manager_wait_s=settings.manager_wait_s,
            env={variable_names.ADDRESS: endpoints.address, variable_names.CONNECTION: str(aux.connection)},
            env_schemas=_schemas(settings.envschema, allocation.kind),
            batch=allocation.kind,
            here=recipe.starter.is_agent,
            bind=settings.cpu_bind != "none",
            models=_models(settings, allocation.kind),
            window_s=settings.node_lost_s * _WINDOW,
        )
        self.agents = Agents(endpoints.agents, scheduler, agent_settings, epoch, self._facts.append, now, self.patience)
        self.processes = AgentProcesses(
            scheduler.nodes,
            aux,
            recipe,
            self.loop,
            self.patience,
            self._expect,
            self._agent_died,
            self._node_given_up,
        )

    def _ends_s(self) -> float | None:
        """When we have to be gone: the allocation's end, or earlier by `--walltime`."""
        known = [] if self.allocation.ends_s is None else [self.allocation.ends_s]
        if self.settings.walltime is not None:
            known.append(self.now() + self.settings.walltime)
        return min(known, default=None)

    # --- running --------------------------------------------------------------------------------------------------------

    def run(self) -> int:
        """Serve until everything asked for is done, or a signal; returns the exit code."""
        for socket in self._doors.agents:  # first, so that a dead agent's last words are read before its death
            self.loop.on_readable(socket, self._read_agents)
        for socket in self._doors.requests:
            self.loop.on_readable(socket, self.request_server.read)
        for socket in self._doors.events:
            self.loop.on_readable(socket, self.publisher.read_subscriptions)
        if self._doors.authenticator is not None:
            self.loop.on_readable(self._doors.authenticator.socket, self._doors.authenticator.answer)
        self.loop.call_every(TICK_S, self._tick)
        self.loop.call_every(SYNC_S, self._sync_results)
        self.loop.call_every(self._heartbeat_s, self._heartbeat)
        self.patience.call_after(self.settings.nl_init_timeout_s, self._check_start)
        self.loop.run(self._end_of_turn)
        self._close()
        return self._exit_code

    def _end_of_turn(self) -> None:
        self._record_act_tell()
        self.request_server.send()  # with a full disk too: it is what a client then asks about
        if self.stopping and not (self._stuck or self.processes.running or self.agents.links):
            self.loop.stop()

    def _record_act_tell(self) -> None:
        if self._stuck and self.loop.clock() < self._retry_at:
            return
        if not (self.stopping or self.held or self._stuck):
            self.scheduler.plan(self.now())
        if self.settings.debug_checks:
            invariants.require(self.scheduler)
        self._note(self.scheduler.take_decisions())
        if not self._written():
            return
        self.agents.mark_written()
        done, self._stuck = self._stuck, []
        for decisions in done:
            if not self.stopping:
                self.agents.send(decisions.orders)
        self._report(done)
        for decisions in done:
            self._tell(decisions)
        if self.request_server.holds_replies and self._synced():
            self.request_server.release()

    def _note(self, decisions: Decisions) -> None:
        """Put the facts of a turn into the journal's buffer, in the order in which a replay needs them."""
        for fact in self._facts:
            self.store.append(fact)
        self._facts.clear()
        now = self.now()
        for job_no, pos in decisions.canceled:
            self.store.append(records.Canceled(job_no, pos, now))
        if decisions.taken:
            self.store.append(records.Taken(decisions.taken))
        if decisions.results:
            self.store.append(records.Ended(decisions.results))
        for node, keys in decisions.sent.items():
            self.store.append(records.Sent(node, now, keys))
        if decisions.removed:
            self.store.append(records.Removed(decisions.removed))
        self._stuck.append(decisions)

    def _written(self) -> bool:
        try:
            self.store.write()
        except TransientError as error:
            if not self._retry_at:
                log.error("journal.stuck: %s", error)
            self._retry_at = self.loop.clock() + RETRY_S
            self.loop.call_at(self._retry_at, lambda: None)
            return False
        if self._retry_at:
            log.warning("journal.recovered")
            self._retry_at = 0.0
        return True

    def _synced(self) -> bool:
        try:
            self.store.sync()
        except TransientError as error:
            log.error("journal.unsynced: %s", error)
            return False
        return True

    def _sync_results(self) -> None:
        if not self._stuck and (not self.store.needs_sync or self._synced()):
            self.agents.acknowledge()

    # --- telling --------------------------------------------------------------------------------------------------------

    def _report(self, turns: Iterable[Decisions]) -> None:
        """Bring the endings into the report, before anyone is told of them and may look there."""
        if self._reporter is None:
            return
        for decisions in turns:
            for change in decisions.changes:
                if change.state.final:
                    self._reporter.add(self.views.report_entry(change))
        self._reporter.write()

    def _tell(self, decisions: Decisions) -> None:
        """Publish the changes of a turn."""
        self.publisher.changed(decisions.changes)
        if self.settings.show_progress:
            for change in decisions.changes:
                self._show(change)
        ended = [change.job.no for change in decisions.changes if change.pos is None and change.state.final]
        if ended:
            self.agents.forget_jobs(ended)
        if decisions.idle:
            self.publisher.all_done(self.now())

    def _show(self, change: Change) -> None:
        spec, pos = change.job.spec, change.pos
        name = spec.name if pos is None else spec.task_name(pos)
        echo(f"{datetime.now().isoformat(sep=' ', timespec='seconds')} {name} {change.state.name}")

    # --- agents ---------------------------------------------------------------------------------------------------------

    def _read_agents(self) -> None:
        self.agents.read()
        while self.agents.to_replace:
            self._replace(*self.agents.to_replace.pop())
        self.processes.start_waiting()  # agents that have reported make room for others to be started

    def _expect(self, agents: Mapping[NodeNo, str]) -> None:
        """These are about to be started: on record before that, so that no later life meets agents it does not know of.

        Raises TransientError when they cannot be recorded.
        """
        for node, agent_id in agents.items():
            self.store.append(records.AgentExpected(node, agent_id))
        self.store.write()
        for node, agent_id in agents.items():
            self.scheduler.nodes[node].expected.add(agent_id)

    def _replace(self, node: NodeNo, agent_id: str) -> None:
        """This agent was told to end, or has; then another one is tried."""
        if self.scheduler.nodes.specs[node].guest:
            return
        if self.processes.lives(node, agent_id):  # its end is seen, and what follows from it
            patience_s = self.settings.kill_grace_s + STOP_MARGIN_S
            self.patience.call_after(patience_s, lambda: self.processes.kill(node, agent_id))
        elif not self.scheduler.nodes.is_served(node):  # else it is heard of its end, or given up for its silence
            self.processes.silent(node)

    def _agent_died(self, node: NodeNo, agent_id: str, certain: bool) -> None:
        self.agents.read()
        link = self.agents.links.get(node)
        if link is None:  # one of an earlier life that has not come back, or that had been silent before
            self.scheduler.on_node_lost(node, self.now(), silent=not certain)
        elif link.agent_id == agent_id:
            self.agents.lost(node, "its process ended")
        if certain:
            self.agents.gone(node, agent_id)
        if self.stopping and not self.scheduler.nodes.is_served(node):
            self.scheduler.nodes.move(node, NodeEvent.EXPECT)  # it ends because we do: nothing is wrong with the node

    def _node_given_up(self, node: NodeNo) -> None:
        nodes = self.scheduler.nodes
        self.scheduler.on_node_given_up(node, self.now())
        left = nodes.count - nodes.in_state[NodeState.GIVEN_UP]
        if left < self._fewest_nodes:
            self._too_few_nodes(left)

    @property
    def _fewest_nodes(self) -> int:
        """How many agents there must be for the pilot to go on (`--min-nodes`, `--nl-ready-threshold`); at least one, unless
        all of them come by themselves.
        """
        if self.settings.governor:
            return 0
        share = int(self.settings.nl_ready_threshold * self.scheduler.nodes.count)
        return max(1, self.settings.min_nodes, share)

    def _check_start(self) -> None:
        """All agents have had their time to report. One that has, and is gone now, is no failed start."""
        came = sum(self.scheduler.nodes[node].has_come for node in self.scheduler.nodes.here)
        if not self.stopping and came < self._fewest_nodes:
            self._too_few_nodes(came)

    def _too_few_nodes(self, count: int) -> None:
        nodes = self.scheduler.nodes
        given_up = [each for each in nodes if each.state is NodeState.GIVEN_UP]
        names = {nodes.specs[each.number].name: each.reason for each in given_up}
        error = LostError(
            f"agents on {count} of {self.scheduler.nodes.count} nodes, {self._fewest_nodes} are needed"
            + "".join(f"; node {name}: {why}" for name, why in list(names.items())[:3]),
            remedy=f"see agent-*.log in {self.aux.path}",
        )
        log.error("service.too_few_nodes: %s", error)
        echo(f"Error: {error}", err=True)
        self.status.problem = str(error)
        self.stop(3)

    def _heartbeat(self) -> None:
        self.agents.beat()
        for link in self.agents.silent_for(self.settings.node_lost_s):
            if self.processes.lives(link.node, link.agent_id):
                self.agents.hold(link)
                continue
            guest = self.scheduler.nodes.specs[link.node].guest
            self.agents.lost(link.node, f"not heard of for {self.settings.node_lost_s:g} s", silent=True)
            if not guest:
                self.processes.silent(link.node)
        for link in self.agents.silent_for(self.settings.node_lost_s + self.settings.manager_wait_s):
            self.processes.kill(link.node, link.agent_id)

    def await_guest(self, node: NodeNo) -> None:
        """A guest of an earlier life may still be there: it has as long to report as one that has fallen silent."""

        def look() -> None:
            left = self.scheduler.nodes[node].state is NodeState.LEFT
            if not left and not self.scheduler.nodes.is_served(node) and not self.stopping:
                self.scheduler.on_node_lost(node, self.now(), silent=True)
                self.agents.leave(node)

        self.patience.call_after(self.settings.node_lost_s, look)

    def _tick(self) -> None:
        self.scheduler.on_time(self.now())
        if self.store.size > WORTH_BYTES and mostly_removed(self.scheduler.jobs) and not self._stuck and self._synced():
            compact(self.store, self._reporter, self.scheduler.jobs)
        self.processes.look_around()

    # --- requests of clients --------------------------------------------------------------------------------------------

    def submit_variables(self, count: int) -> dict[str, str]:
        """Values of the submit phase for the `count`-th submit of this life (spec 8)."""
        return submit_variables(count, str(uuid.uuid4()), str(datetime.fromtimestamp(self.now())))

    def finish_when_idle(self) -> None:
        """End when nothing is queued or running any more. Raises EndingError when the end was asked for before."""
        self._begin_closing()
        self._end_when_idle()

    def finish_after(self, delay_s: float, kill: bool) -> None:
        """End after `delay_s`, when the work is done, or with `kill` after stopping it. Errors as `finish_when_idle`."""
        self._begin_closing()
        if kill:
            for job in list(self.scheduler.jobs):
                if not job.state.final and not job.canceling:
                    self.scheduler.cancel(job, self.now())
        self.loop.call_after(delay_s, self._end_when_idle)

    def _begin_closing(self) -> None:
        if self.closing:
            raise EndingError("Finish request already requested")
        self.closing = True

    def _end_when_idle(self) -> None:
        if not self._stuck and (self.scheduler.jobs.unfinished == 0 or self.scheduler.stalled(self.now())):
            self.ending.stop()
        else:
            self.loop.call_after(IDLE_CHECK_S, self._end_when_idle)

    # --- the end --------------------------------------------------------------------------------------------------------

    def stop(self, exit_code: int) -> None:
        """Stop agents, and tasks if there are any (they stay queued for a resume), then the loop."""
        if self.stopping:
            return
        self.closing = self.stopping = True
        self.scheduler.on_stopping()
        self._exit_code = exit_code
        log.info("service.stopping", extra={"unfinished": self.scheduler.jobs.unfinished})
        self.processes.stop_restarting()
        self.agents.stop(kill=True)
        self.patience.call_after(self.settings.kill_grace_s + STOP_MARGIN_S, self._stop_hard)

    def hurry(self) -> None:
        """The stop has been asked for again: tasks get no time to end by themselves."""
        self.agents.stop(kill=True, at_once=True)

    def _stop_hard(self) -> None:
        log.error("service.agents_do_not_end")
        self.processes.end_all()
        self.loop.stop()

    def _close(self) -> None:
        self._facts.append(records.Closed(self.now(), self.scheduler.jobs.unfinished > 0))
        self.processes.clear_left_overs()
        self._retry_at = 0.0
        self._end_of_turn()
        self._synced()
        if self._reporter is not None:
            self._reporter.close()
        self.status.write_final()
        self._doors.close()
        self.store.close()
        self.loop.close()


def _models(settings: Settings, kind: str) -> bool:
    """Plain TCP is for unmodified clients, some of which always name a model and count on its being ignored on one machine."""
    asked = settings.local_models or ("ignore" if settings.net_plain else "use")
    return asked == "use" or kind not in registry.VIRTUAL


def _schemas(asked: Sequence[str], kind: str) -> list[str]:
    """`auto` is what the allocation is: a task sees its own part in the variables of the batch system that gave it."""
    return sorted({registry.schema_of(kind) if word == registry.AUTO else word for word in asked})
