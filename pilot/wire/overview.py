"""Data of `overview` (ours): what a pilot does now, in one reply of bounded size. `pilotfish top` and `watch` show it.

Every list has at most as many entries as the request says; beside it stands how many there are. Members without a value are
left out. Times are seconds since the epoch by the clock of the pilot, whose `now_s` tells what that shows.
"""

from __future__ import annotations

from msgspec import UNSET, Struct, UnsetType

VERSION = 1
MOST, USUAL = 1000, 100
"""The largest `limit`, and that of a request without one."""


class Pilot(Struct, omit_defaults=True):
    """`ends_s`: when its time is over; absent when that is not known. `problem`: why it has to end."""

    id: str
    host: str
    wd: str
    now_s: float
    started_s: float
    ends_s: float | None = None
    problem: str = ""
    warnings: list[str] = []


class Tasks(Struct, omit_defaults=True):
    """Counts of tasks. `sent`: at an agent, and not started; `rate`: how many end in a second, of late; `left_s`: in how many
    seconds all will have ended at that rate.
    """

    total: int
    queued: int
    sent: int
    running: int
    succeeded: int
    failed: int
    canceled: int
    omitted: int
    rate: float | None = None
    left_s: float | None = None

    @property
    def ended(self) -> int:
        return self.succeeded + self.failed + self.canceled + self.omitted


class Amount(Struct, omit_defaults=True):
    """Of cores, GPUs, MiB of memory or a named resource: how much tasks have, and how much they can have.

    `in_bytes`: so it is counted.
    """

    used: int
    total: int
    in_bytes: bool = False


class Node(Struct, omit_defaults=True):
    """`state`: READY, or why it takes no work (EXPECTED, STARTING, DRAINING, SILENT, LOST …); `reason`: why it has no agent."""

    name: str
    state: str
    running: int
    cores: Amount
    gpus: Amount
    mem_mib: Amount
    reason: str = ""
    named: dict[str, Amount] = {}


class Running(Struct, omit_defaults=True):
    """A task whose start has been reported. `cores`: how many it has; `attempt`: counts its starts.

    `stdout`, `stderr`: the absolute names of these files, if it has them; of failures too.
    """

    task: str
    node: str
    started_s: float
    cores: int
    attempt: int
    stdout: str = ""
    stderr: str = ""


class Waiting(Struct, omit_defaults=True):
    """What waits with the same needs. `first`: the task that is next; `reasons`: why it does not start.

    `more`: `tasks` and `jobs` count the first of them only, as there are very many jobs.
    """

    needs: str
    jobs: int
    tasks: int
    first: str
    reasons: list[str]
    more: bool = False


class Failure(Struct, omit_defaults=True):
    """A task that has failed. `last_lines`: of its stderr; absent until somebody has asked for them, and they were read."""

    task: str
    ended_s: float
    exit_code: int | None = None
    message: str = ""
    node: str = ""
    stdout: str = ""
    stderr: str = ""
    last_lines: list[str] | UnsetType = UNSET


class Overview(Struct):
    """Nodes that take no work come first, running tasks by age, what waits in the order in which it is looked at, failures with
    the latest first, lines of the log with the latest last.

    `depending`: tasks that wait for other jobs. `matching`: of how many running tasks `running` has the oldest. `named`: named
    resources of the nodes and of the pilot as a whole.
    """

    version: int
    pilot: Pilot
    tasks: Tasks
    cores: Amount
    gpus: Amount
    mem_mib: Amount
    node_count: int
    ready_count: int
    nodes: list[Node]
    matching: int
    running: list[Running]
    shape_count: int
    depending: int
    queue: list[Waiting]
    failures: list[Failure]
    log: list[str]
    named: dict[str, Amount] = {}
