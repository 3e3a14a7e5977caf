"""fyrd's `batch_systems`: which kind of queue is here, words for states, and each kind's own tools."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from ....submission import queues
from ....submission.job_options import ClusterError
from ....submission.queues import ACTIVE, BAD, GOOD, qtypes
from .. import conf, options

__all__ = [
    "ACTIVE_STATES",
    "ALL_STATES",
    "BAD_STATES",
    "DEFINED_SYSTEMS",
    "DONE_STATES",
    "GOOD_STATES",
    "MODE",
    "UNCERTAIN_STATES",
    "check_queue",
    "get_batch_system",
    "get_cluster_environment",
    "options",
]

MODE: str | None = None
"""The kind of queue that jobs are for when they do not say; a program may set it. None: nobody has asked yet."""
_found: str | None = None
"""What MODE was set to by ourselves."""

DEFINED_SYSTEMS = {*qtypes(), "local"}
GOOD_STATES = ["complete", *GOOD, "special_exit"]
ACTIVE_STATES = ["configuring", *ACTIVE, "held"]
BAD_STATES = [*BAD, "killed", "disappeared"]
UNCERTAIN_STATES = ["preempted", "stopped", "suspended"]
ALL_STATES = [*GOOD_STATES, *ACTIVE_STATES, *BAD_STATES, *UNCERTAIN_STATES]
DONE_STATES = [*GOOD_STATES, *BAD_STATES]


def get_cluster_environment(overwrite: bool = False) -> str:
    """The kind of queue that jobs are for: MODE where a program has set it, the setting `queue.queue_type`, or what is here.

    `overwrite`: whatever MODE is.
    """
    global MODE, _found  # noqa: PLW0603 - programs read and set it
    if MODE is not None and _found != MODE and not overwrite:
        return MODE
    wanted = str(conf.get_option("queue", "queue_type"))
    kind = queues.get_cluster_environment() if wanted == "auto" else queues.kind_of_queue(wanted, None)
    MODE = _found = kind
    return kind


def check_queue(qtype: str | None = None) -> bool:
    """True for a kind of queue that jobs can be given to. Raises ClusterError."""
    kind = qtype or get_cluster_environment()
    if kind not in DEFINED_SYSTEMS:
        remedy = f"known are {', '.join(sorted(DEFINED_SYSTEMS))}"
        raise ClusterError(f"no kind of queue is called {kind!r}", where="qtype", remedy=remedy)
    if not get_batch_system(kind).queue_test(warn=False):
        remedy = "use qtype='local', the queue of this machine"
        raise ClusterError(f"{kind}: its commands are not here, or do not answer", where="qtype", remedy=remedy)
    return True


def get_batch_system(qtype: str | None = None) -> Any:
    """The tools of one kind of queue: `queue_test`, `submit`, `kill`, `queue_parser` and others (`plugin.Plugin`)."""
    kind = qtype or get_cluster_environment()
    if kind not in DEFINED_SYSTEMS:
        raise ClusterError(f"no kind of queue is called {kind!r}", where="qtype")
    return import_module(".plugin", __name__).Plugin(kind)
