"""The controller's side of the pilot: jobs to it, what becomes of them from it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import zmq

from ....api.manager import Manager
from ....pilot.wire import reply_texts
from ....pilot.wire.events import EVENT, Event
from ...machines import slurm_facts
from .request import Node


class End(NamedTuple):
    """What has become of a job of the pilot, in Slurm's words."""

    state: str
    reason: str
    exit_code: int
    signal: int


_BY_MESSAGE = {
    "wall time limit": End("TIMEOUT", "TimeLimit", 0, 15),
    "memory limit": End("OUT_OF_MEMORY", "OutOfMemory", 0, slurm_facts.OUT_OF_MEMORY_SIGNAL),
    "its agent was lost": End("NODE_FAIL", "NodeDown", 0, 0),
}
"""What the pilot says of a failure that was not the program's."""


class PilotLink:
    """Connected to one pilot. `events` after `socket` has something, or now and then."""

    def __init__(self, manager: Manager) -> None:
        self._manager = manager
        self._client = manager.client
        self.socket: zmq.Socket[bytes] = manager.event_socket(EVENT)
        self._after = self._client.events(0).last

    def nodes(self) -> tuple[Node, ...]:
        overview = self._client.overview(1000)
        return tuple(
            Node(one.name, one.cores.total, one.gpus.total, one.mem_mib.total) for one in sorted_nodes(overview.nodes)
        )

    def used(self) -> dict[str, tuple[int, int, int, str]]:
        """By node: cores, GPUs and MiB in use, and its state."""
        nodes = self._client.overview(1000).nodes
        return {one.name: (one.cores.used, one.gpus.used, one.mem_mib.used, one.state) for one in nodes}

    def submit(self, descriptions: Sequence[Mapping[str, Any]]) -> None:
        """Raises RequestRefusedError."""
        self._client.submit(descriptions)

    def cancel(self, names: Iterable[str]) -> None:
        wanted = list(names)
        if wanted:
            self._client.cancel(wanted)

    def events(self) -> list[Event]:
        """What has happened to jobs since the last call."""
        while self.socket.poll(0):
            self.socket.recv()
        found: list[Event] = []
        while True:
            page = self._client.events(self._after)
            found += page.events
            if not page.events or page.events[-1].seq >= page.last:
                self._after = max(self._after, page.last)
                return found
            self._after = page.events[-1].seq

    def nodes_of(self, names: Sequence[str]) -> dict[str, tuple[str, ...]]:
        """Where these jobs run, or have run."""
        infos = self._client.job_infos(list(names)) if names else {}
        places = {}
        for name, info in infos.items():
            allocation = info.runtime.allocation if info.runtime is not None else None
            places[name] = tuple(node for node, _ in reply_texts.parse_allocation(allocation or ""))
        return places


def sorted_nodes(nodes: Iterable[Any]) -> list[Any]:
    """In the order of their names, numbers by size: `n2` before `n10`."""
    import re

    def key(node: Any) -> list[Any]:
        return [(int(part), "") if part.isdigit() else (0, part) for part in re.split(r"(\d+)", node.name)]

    return sorted(nodes, key=key)


def end_of(event: Event, known: tuple[int, int] | None) -> End:
    """`known`: exit code and signal as the batch step has written them."""
    code = event.exit_code or 0
    exit_code, signal = known or ((code, 0) if code >= 0 else (0, -code))
    if event.state == "SUCCEED":
        return End("COMPLETED", "None", 0, 0)
    if event.state == "CANCELED":
        return End("CANCELLED", "None", 0, signal or (15 if event.exit_code is not None else 0))
    for words, end in _BY_MESSAGE.items():
        if words in event.message:
            return end
    if signal:
        return End("FAILED", "JobLaunchFailure", 0, signal)  # so says 22.05
    return End("FAILED", "NonZeroExitCode", exit_code or 1, 0)
