"""The `ptrace_*.log` files that agents write with `--enable-proc-stats`, in the form that the original gave them.

One object each: `node`, and `pids` with what was seen of each process: pid, name, cmdline, created, parent, childs and more.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ...pilot.systems import registry
from ...pilot.systems.base import StepProcesses

Seen = Mapping[str, Any]
"""What was seen of one process."""


class Traces:
    """All processes that were seen, by node and pid. False when there are none."""

    def __init__(self, files: Sequence[Path]) -> None:
        self._nodes: dict[str, dict[str, Seen]] = {}
        for path in files:
            try:
                content = json.loads(path.read_bytes())
                self._nodes.setdefault(str(content["node"]), {}).update(content["pids"])
            except (OSError, ValueError, KeyError, TypeError):  # torn: its agent was killed
                continue

    def __bool__(self) -> bool:
        return bool(self._nodes)

    def find(self, pid: object, node: str | None = None) -> Seen | None:
        if node is not None:
            return self._nodes.get(node, {}).get(str(pid))
        return next((found for found in (seen.get(str(pid)) for seen in self._nodes.values()) if found), None)

    def _all(self) -> Iterator[Seen]:
        return (seen for pids in self._nodes.values() for seen in pids.values())

    def below(self, seen: Seen) -> Iterator[Seen]:
        """Its children on its node, and what it has started on others as a step of the batch job."""
        for pid in seen.get("childs") or ():
            child = self.find(pid, seen.get("node"))
            if child is not None:
                yield child
        for kind in registry.step_processes():
            if seen.get("name") == kind.launcher:
                yield from self._on_other_nodes(seen, kind)

    def _on_other_nodes(self, launcher: Seen, kind: StepProcesses) -> Iterator[Seen]:
        """Open MPI's daemons know the id of their mpirun; else the step's daemons have its id in their title."""
        job = _word_after("ess_base_jobid", launcher)
        step = launcher.get(kind.id_key)
        for other in self._all():
            is_daemon = job is not None and other.get("name") == "orted" and _word_after("ess_base_jobid", other) == job
            is_step = (
                job is None
                and step is not None
                and other.get("name") == kind.daemon
                and (_word_after(f"{kind.daemon}:", other) or "").strip("[]") == str(step)
            )
            if is_daemon or is_step:
                yield other


def _word_after(word: str, seen: Seen) -> str | None:
    line = list(seen.get("cmdline") or ())
    place = line.index(word) + 1 if word in line else len(line)
    return str(line[place]) if place < len(line) else None
