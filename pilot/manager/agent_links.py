"""The agents that have said Hello: what is sent to them, and how far their reports are on disk."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import islice

import zmq

from ..clock import Patience
from ..model.ids import JobNo, NodeNo
from ..wire import frames

_AT_ONCE = int(zmq.NOBLOCK)
_MORE = int(zmq.SNDMORE) | _AT_ONCE
"""As numbers, and in two calls: what pyzmq does with the names of flags costs twice as much as to send."""


@dataclass(slots=True)
class Link:
    """One agent that has said Hello."""

    socket: zmq.Socket[bytes]
    """Where it was heard."""
    identity: bytes
    node: NodeNo
    agent_id: str
    host: str
    pid: int
    hello_s: float
    """When it said so, in seconds of patience."""
    heard_s: float
    """When it was last heard of, likewise."""
    seen_seq: int = 0
    """Highest report taken in."""
    written_seq: int = 0
    """Highest report whose results are in the journal file."""
    syncing_seq: int = 0
    """Highest report whose results were in the file when the last sync began."""
    acked_seq: int = 0
    jobs: set[JobNo] = field(default_factory=set)
    """Jobs whose definition it has."""


class AgentLinks:
    """One for each node at most. `patience`: tells for how long an agent that is silent has been listened for.

    A turn looks only at the links whose agents have reported: they go from `_unwritten` to `_unsynced` to `_syncing`. With
    10,000 agents a look at all of them in each turn would take half of the manager's time.
    """

    def __init__(self, patience: Patience) -> None:
        self._patience = patience
        self._by_node: dict[NodeNo, Link] = {}
        self._by_identity: dict[bytes, Link] = {}
        self._by_agent: dict[str, Link] = {}
        self._unwritten: dict[bytes, Link] = {}
        self._unsynced: dict[bytes, Link] = {}
        self._syncing: dict[bytes, Link] = {}
        """Those of the last sync that has begun, and of failed ones before it."""
        self._to_tell: dict[bytes, None] = {}
        """Those that are to be told how far their reports are on disk, and with that, that we live."""

    def __iter__(self) -> Iterator[Link]:
        return iter(self._by_node.values())

    def __len__(self) -> int:
        return len(self._by_node)

    def get(self, node: NodeNo) -> Link | None:
        return self._by_node.get(node)

    def of(self, identity: bytes) -> Link | None:
        return self._by_identity.get(identity)

    def of_agent(self, agent_id: str) -> Link | None:
        return self._by_agent.get(agent_id)

    def add(self, link: Link) -> None:
        """From now on it is this one that serves its node."""
        self.drop(link.node)
        self._by_node[link.node] = self._by_identity[link.identity] = self._by_agent[link.agent_id] = link

    def drop(self, node: NodeNo) -> Link | None:
        """Returns what it was, if there was one."""
        link = self._by_node.pop(node, None)
        if link is not None:
            self._by_identity.pop(link.identity, None)
            self._by_agent.pop(link.agent_id, None)
        return link

    def send(self, link: Link, messages: list[frames.ToAgent]) -> None:
        known = self._by_identity.get(link.identity)
        if known is not None:
            send_on(known.socket, link.identity, messages)

    def took(self, link: Link, seq: int) -> None:
        """The reports of this agent up to number `seq` have been taken in."""
        link.seen_seq = seq
        self._unwritten[link.identity] = link

    def mark_written(self) -> None:
        """Everything taken in so far is in the journal file."""
        for link in self._unwritten.values():
            link.written_seq = link.seen_seq
        self._unsynced |= self._unwritten
        self._unwritten.clear()

    def mark_syncing(self) -> None:
        """A sync begins, of everything marked as written."""
        for link in self._unsynced.values():
            link.syncing_seq = link.written_seq
        self._syncing |= self._unsynced
        self._unsynced.clear()

    def acknowledge(self) -> None:
        """Everything marked as syncing is on disk now; `tell` says so."""
        for link in self._syncing.values():
            if link.syncing_seq > link.acked_seq:
                link.acked_seq = link.syncing_seq
                self._to_tell[link.identity] = None
        self._syncing.clear()

    def beat(self) -> None:
        """Let `tell` say to every agent that we live; call once per heartbeat interval."""
        self._to_tell.update(dict.fromkeys(self._by_identity))

    def tell(self, most: int | None = None) -> bool:
        """Say what is to be said, to at most so many agents; whether others are left."""
        for identity in list(islice(self._to_tell, most)):
            del self._to_tell[identity]
            link = self._by_identity.get(identity)
            if link is not None:
                self.send(link, [frames.Ack(link.acked_seq)])
        return bool(self._to_tell)

    def silent_for(self, seconds: float) -> list[Link]:
        """Agents that have been listened for so long and not been heard."""
        return [link for link in self._by_node.values() if self._patience.seconds - link.heard_s > seconds]


def send_on(socket: zmq.Socket[bytes], identity: bytes, messages: list[frames.ToAgent]) -> None:
    # A peer that went away, or reads nothing, shows by its silence: heartbeats decide, not a failed send.
    with suppress(zmq.ZMQError):
        socket.send(identity, _MORE)
        socket.send(frames.encode(messages), _AT_ONCE)
