"""The link to the agents: frames in and out, acknowledgement, heartbeat; what they report of tasks: agent_reports.py.

Record, act, tell: nothing an agent reports is acknowledged before it is on disk, and an agent keeps a report until then. So
a manager that was killed gets again what it had not made durable, and drops what it had.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping

import msgspec
import zmq

from ..clock import Patience
from ..model.decisions import Orders
from ..model.ids import JobNo, NodeNo, TaskKey
from ..model.jobs import Job
from ..model.recovery import Had
from ..model.resources import NodeSpec
from ..model.scheduler import Scheduler
from ..model.states import NodeState
from ..model.topology import groups_of
from ..systems import registry
from ..wire import frames
from ..wire.records import AgentDown, AgentUp, NodeJoined, NodeLeft, Record
from .admission import Newcomer, other_name_for, why_not
from .agent_links import AgentLinks, Link, send_on
from .agent_reports import AgentReports
from .claims import Claims, GarbageError, named_in
from .inbox import Inbox, shares_of, things_in
from .work_frames import WorkFrames

log = logging.getLogger(__name__)

_MOST_OF_REASON = 500
_SERVES_AFTER_S = 1.0
"""An agent that still beats this long after its Hello counts as serving its node, even if it has had nothing to report."""


class Agents:
    """All agents of this pilot.

    Args:
        sockets: bound ROUTER sockets.
        record: notes a journal record.
        clock: seconds since the epoch.
        take_values: takes what calls have returned.
        inputs_of: what the calls have returned whose values a job of calls takes.
        patience: counts for how long a silent agent has been listened for.
    """

    def __init__(
        self,
        sockets: list[zmq.Socket[bytes]],
        scheduler: Scheduler,
        settings: frames.Settings,
        epoch: str,
        record: Callable[[Record], None],
        clock: Callable[[], float],
        patience: Patience,
        take_values: Callable[[Iterable[frames.Values]], None],
        inputs_of: Callable[[Job], list[bytes]],
    ) -> None:
        self.links = AgentLinks(patience)
        self.banned: set[str] = set()
        """Agents that came by themselves and sent garbage: they may not join again."""
        self.to_replace: list[tuple[NodeNo, str]] = []
        """Agents that are gone, or were told to end because they sent garbage."""
        self.on_hello: Callable[[NodeNo], None] = lambda node: None
        """Called when an agent of this node has been welcomed."""
        self.settings = settings
        self._scheduler = scheduler
        self._nodes = scheduler.nodes
        self._epoch = epoch
        self._stopping = False
        self._record = record
        self._clock = clock
        self._patience = patience
        self._numbers = {scheduler.nodes.specs[node].name: node for node in scheduler.nodes.here}
        self._claims = Claims(scheduler, self._numbers)
        self._orders = WorkFrames(scheduler, settings.bind, inputs_of)
        self._reports = AgentReports(scheduler, self._claims, self.links, settings, clock, take_values)
        self.inbox = Inbox(sockets, self._take_frame, clock)

    # --- in -------------------------------------------------------------------------------------------------------------

    def _take_frame(self, socket: zmq.Socket[bytes], identity: bytes, frame: bytes) -> Iterator[int]:
        """In shares; yields how many things each has reported."""
        try:
            yield from self._take_messages(socket, identity, frames.decode_to_manager(frame))
        except (msgspec.DecodeError, GarbageError) as error:
            why = str(error)[:_MOST_OF_REASON]  # it may quote what was sent
            log.warning("agent.garbage", extra={"bytes": len(frame), "reason": why})
            self._dismiss(socket, identity, why)
        except Exception:  # a bug of ours that shows with this agent: the others must not pay for it
            log.exception("agent.trouble")
            self._dismiss(socket, identity, "what it says leads to a mistake of the manager; please report this")

    def _dismiss(self, socket: zmq.Socket[bytes], identity: bytes, why: str) -> None:
        """This agent is of no use: it gets nothing more, and nothing it sends counts.

        What it holds is given to others once it is known to have ended, or has had its time to; until then it may run.
        """
        reason = f"it does not speak as an agent: {why}"
        send_on(socket, identity, [frames.Stop(kill=True, reason=reason)])
        link = self.links.of(identity)
        if link is not None:
            node, agent_id = link.node, link.agent_id
            self._nodes[node].expected.discard(agent_id)
            if self._nodes.specs[node].joined:
                self.banned.add(agent_id)
            self._scheduler.on_node_dismissed(node)
            self.to_replace.append((node, agent_id))

    def _take_messages(
        self, socket: zmq.Socket[bytes], identity: bytes, messages: Iterable[frames.ToManager]
    ) -> Iterator[int]:
        if self._is_dismissed(identity):
            self._take_last_words(identity, messages)
            return
        said_hello: Link | None = None
        hello: frames.Hello | None = None
        had: Had | None = None
        for message in messages:
            if isinstance(message, frames.Hello):
                said_hello, hello = self._welcome(socket, identity, message), message
                if said_hello is None:
                    return
                had = self._scheduler.recovery.had(said_hello.node)
                yield 1 + things_in(message)
                continue
            if isinstance(message, frames.Gone):
                lost = self._take_gone(message)
                send_on(socket, identity, [frames.Stop(kill=False)])
                yield things_in(message) + lost
                return
            link = self.links.of(identity)
            if link is None:
                send_on(socket, identity, [frames.WhoAreYou(self._epoch)])
                return
            yield from self._take(link, message)
        if said_hello is not None and hello is not None and had is not None and self._speaks_for_its_node(said_hello):
            # The reports it had kept came in the same frame; what it had, and has not named by now, it never got.
            self._scheduler.recovery.drop_unnamed(said_hello.node, named_in(hello), self._clock(), had.attempts)
            self._scheduler.recovery.drop_grants(
                said_hello.node, {grant.grant_id for grant in hello.grants}, had.grants
            )

    def _speaks_for_its_node(self, link: Link) -> bool:
        """Whether this agent is still the one that serves its node: between two shares of a frame it may have been lost."""
        return self.links.of(link.identity) is link and not self._is_dismissed(link.identity)

    def _is_dismissed(self, identity: bytes) -> bool:
        link = self.links.of(identity)
        return link is not None and self._nodes[link.node].state is NodeState.DISMISSED

    def _take_last_words(self, identity: bytes, messages: Iterable[frames.ToManager]) -> None:
        """Of a dismissed agent only its goodbye is believed: that costs no more than its silence would."""
        link = self.links.of(identity)
        assert link is not None
        for message in messages:
            if isinstance(message, frames.Bye):
                self._take_bye(link, message)
                self.to_replace.append((link.node, link.agent_id))
                return

    def _take_gone(self, message: frames.Gone) -> int:
        """An agent's watcher reports that it was killed. One that serves no node now was given up before.

        Returns how many attempts that has cost.
        """
        link = self.links.of_agent(message.agent_id)
        if link is None:
            return 0
        lost = self.lost(link.node, "it was killed")
        self.gone(link.node, link.agent_id)
        self.to_replace.append((link.node, link.agent_id))
        return lost

    def _take(self, link: Link, message: frames.ToManager) -> Iterator[int]:
        link.heard_s = self._patience.seconds
        if isinstance(message, frames.Report) or link.heard_s - link.hello_s > _SERVES_AFTER_S:
            self._nodes.serves(link.node)
        if self._nodes[link.node].state is NodeState.SILENT:  # its Hello makes the node usable again
            self._scheduler.on_node_heard(link.node)
            self.links.send(link, [frames.WhoAreYou(self._epoch)])
        if isinstance(message, frames.Report):
            if message.seq > link.seen_seq:
                yield from self._take_shares(link, message)
        elif isinstance(message, frames.Draining):
            log.info("agent.draining", extra={"node": self._nodes.specs[link.node].name})
            self._scheduler.on_node_draining(link.node)
        elif isinstance(message, frames.Bye):
            yield things_in(message) + self._take_bye(link, message)
        yield 1

    def _take_shares(self, link: Link, report: frames.Report) -> Iterator[int]:
        shares = shares_of(report)
        for share in shares:
            if not self._speaks_for_its_node(link):
                return
            self._reports.take(link.node, share)
            if share is shares[-1]:
                self.links.took(link, report.seq)  # only now: what is acknowledged, the agent forgets
            yield things_in(share)

    def _take_bye(self, link: Link, bye: frames.Bye) -> int:
        """Returns how many attempts that has cost."""
        log.info("agent.left", extra={"node": link.node, "reason": bye.reason})
        lost = self.lost(link.node, bye.reason)
        self.gone(link.node, link.agent_id)
        return lost

    def _welcome(self, socket: zmq.Socket[bytes], identity: bytes, hello: frames.Hello) -> Link | None:
        node = self._numbers.get(hello.node)
        connected = None if node is None else self.links.get(node)
        newcomer = Newcomer(hello, node, None if connected is None else connected.agent_id, self._stopping)
        other_name = other_name_for(newcomer, self._nodes, self._numbers)
        if other_name is not None:
            send_on(socket, identity, [frames.Rename(other_name)])
            return None
        refusal = "it does not speak as an agent" if hello.agent_id in self.banned else why_not(newcomer, self._nodes)
        if refusal:
            log.error("agent.refused", extra={"node": hello.node, "host": hello.host, "reason": refusal})
            send_on(socket, identity, [frames.Stop(kill=True, reason=refusal)])
            return None
        before = self.links.of(identity)
        if before is not None and before.node != node:
            raise GarbageError("it was the agent of another node")
        self._claims.check_hello(node, hello, connected is not None and connected.agent_id == hello.agent_id)
        if node is None:
            assert hello.joins is not None
            node = self._join(hello.joins)
        now_s = self._patience.seconds
        link = Link(socket, identity, node, hello.agent_id, hello.host, hello.pid, now_s, now_s)
        link.seen_seq = link.written_seq = link.syncing_seq = link.acked_seq = hello.next_seq - 1
        if connected is None:
            self._enter(node, hello)
        self.links.add(link)
        if connected is not None and connected.seen_seq > link.seen_seq:
            self.links.took(link, connected.seen_seq)
        send_on(socket, identity, self._answer(node, hello))
        self.on_hello(node)
        of_agent = {"node": hello.node, "agent": hello.agent_id, "running": len(hello.running)}
        if connected is None:
            log.info("agent.ready", extra=of_agent)
        else:
            log.info("agent.again", extra=of_agent)
        return link

    def _enter(self, node: NodeNo, hello: frames.Hello) -> None:
        """An agent that was not connected speaks for the node from now on: on record before anything follows from it."""
        core_ids = self._learn_cores(node, hello)
        spec = self._nodes.specs[node]
        sockets, domains = (groups_of(spec, parts, hello.near_gpus) for parts in (hello.sockets, hello.domains))
        self._nodes.set_groups(node, sockets, domains)
        self._record(AgentUp(node, hello.node, hello.agent_id, hello.host, hello.pid, core_ids))
        self._scheduler.on_agent(node, hello.agent_id)
        if hello.joins is None:
            self._nodes[node].expected = {hello.agent_id}  # the others have come too late

    def _answer(self, node: NodeNo, hello: frames.Hello) -> list[frames.ToAgent]:
        """The Welcome, and with it orders to kill what the agent no longer holds by right.

        That was given to others while the agent counted as lost, and must not run twice. After the Welcome it starts tasks.
        """
        answer: list[frames.ToAgent] = [frames.Welcome(self._epoch, self.settings, hello.number)]
        if self._stopping:
            answer.append(frames.Stop(kill=True))
        not_its_own = self._adopt(node, hello)
        if not_its_own:
            answer.append(frames.Kill(not_its_own))
        return answer

    def _join(self, spec: NodeSpec) -> NodeNo:
        """A node that came by itself; it leaves with its agent."""
        node = self._scheduler.on_node_joined(spec)
        self._record(NodeJoined(spec))
        self._numbers[spec.name] = node
        self._nodes.elastic = True
        of_node = {"node": spec.name, "cores": len(spec.core_ids), "tags": ",".join(spec.tags)}
        if spec.allocation:
            of_node["allocation"] = spec.allocation
        log.info("node.joined", extra=of_node)
        return node

    def leave(self, node: NodeNo) -> None:
        """A joined node's agent is gone for good, and the node with it."""
        spec, now = self._nodes.specs[node], self._clock()
        if self._nodes[node].state is NodeState.LEFT:
            return
        self._scheduler.on_node_left(node, now)
        self._record(NodeLeft(node, now))
        self._numbers.pop(spec.name, None)
        self._orders.forget_cores(node)
        log.info("node.left", extra={"node": spec.name})

    def _learn_cores(self, node: NodeNo, hello: frames.Hello) -> list[str]:
        """The real ids of the node's cores, which only an agent on it can know; none when they stay what they are.

        They are known when the batch system has confined the agent to as many as it has given. While tasks of an earlier
        life of the manager run, they stay what the journal says.
        """
        spec = self._nodes.specs[node]
        if self.settings.batch in registry.VIRTUAL:
            return []
        if not hello.grants:
            core_ids = next((slots for slots in hello.slots if len(slots) == len(spec.core_ids)), None)
            if core_ids is not None and not (spec.bind and tuple(core_ids) == spec.core_ids):
                self._nodes.name_cores(node, core_ids)
                self._orders.forget_cores(node)
        spec = self._nodes.specs[node]
        return list(spec.core_ids) if spec.bind else []

    def _adopt(self, node: NodeNo, hello: frames.Hello) -> list[TaskKey]:
        """Go on with what the agent holds; returns what of that is not its own any more."""
        scheduler, now = self._scheduler, self._clock()
        held = self._claims.held(node, hello)
        scheduler.recovery.adopt(node, held.grants, held.waiting, now)
        alone = {grant.grant_id for grant in hello.grants if len(grant.nodes) == 1}
        for job_no, pos, run, grant_id, pid, started_s in held.running:
            key = TaskKey(job_no, pos, run)
            if grant_id in alone:
                scheduler.recovery.still_running(node, key, grant_id)
            scheduler.on_started(key, grant_id, pid, started_s)
        scheduler.on_node_up(node)
        return [key for key in named_in(hello) if key not in scheduler.dispatch.attempts] + held.not_its_own

    # --- out ------------------------------------------------------------------------------------------------------------

    def send(self, orders: Mapping[NodeNo, Orders]) -> None:
        """Send each agent its orders, one frame each. Orders for an agent that has just gone are dropped with it."""
        for node, theirs in orders.items():
            link = self.links.get(node)
            if link is None:
                continue
            messages: list[frames.ToAgent] = []
            if theirs.grants or theirs.starts:
                messages.append(self._orders.work(theirs, link.jobs))
            if theirs.kills:
                messages.append(frames.Kill(theirs.kills))
            if theirs.revokes:
                messages.append(frames.Revoke(theirs.revokes))
            if messages:
                self.links.send(link, messages)

    def forget_jobs(self, numbers: Iterable[JobNo]) -> None:
        """These jobs have ended: agents need their definitions no more."""
        ended = set(numbers)
        for link in self.links:
            no_longer_needed = ended & link.jobs
            if no_longer_needed:
                link.jobs -= no_longer_needed
                self.links.send(link, [frames.Forget(sorted(no_longer_needed))])

    def hold(self, link: Link) -> None:
        """This agent lives but is silent: it gets nothing new until it is heard again."""
        if self._nodes[link.node].state in (NodeState.READY, NodeState.DRAINING):
            name = self._nodes.specs[link.node].name
            log.warning("agent.silent", extra={"node": name, "agent": link.agent_id})
            self._scheduler.on_node_silent(link.node)

    def silent_for(self, seconds: float) -> list[Link]:
        """Agents that have been listened for that long and were not heard; none while unread frames may be theirs."""
        return [] if self.inbox.waits_unread else self.links.silent_for(seconds)

    def stop(self, kill: bool, at_once: bool = False) -> None:
        """Tell all agents to end, also those that have yet to say Hello."""
        self._stopping = True
        for link in self.links:
            self.links.send(link, [frames.Stop(kill, at_once=at_once)])

    def gone(self, node: NodeNo, agent_id: str) -> None:
        """This agent is known to have ended, whether it had reported or not."""
        self._nodes[node].expected.discard(agent_id)
        self._record(AgentDown(node, agent_id))

    def lost(self, node: NodeNo, reason: str, silent: bool = False) -> int:
        """The agent of this node is gone; its tasks go back to the queue. Returns how many attempts there were.

        One that is only `silent` may come back, unless it was dismissed.
        """
        link = self.links.drop(node)
        if link is None:
            return 0
        name = self._nodes.specs[node].name
        log.warning("agent.lost", extra={"node": name, "agent": link.agent_id, "reason": reason})
        attempts = self._scheduler.dispatch.attempts_on(node)
        for attempt in attempts:
            if attempt.grant is not None:
                self._reports.sweep(attempt.grant, attempt.key)
        was_dismissed = self._nodes[node].state is NodeState.DISMISSED
        self._scheduler.on_node_lost(node, self._clock(), silent and not was_dismissed)
        if self._nodes.specs[node].joined:
            self.gone(node, link.agent_id)  # from this node: it may join again, as another
            self.leave(node)
        return len(attempts)
