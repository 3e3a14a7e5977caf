"""What is in the queue of a batch system, of whoever it is: by the commands of its machine, on this host or another one."""

from __future__ import annotations

from xml.etree.ElementTree import ParseError

from ..contexts.base import Context
from ..contexts.shell import sh, words
from ..machines import registry
from ..machines.dialect import QueueRow, View
from .job_options import ClusterError

_ANSWERS_IN_S = 120.0


class QueueError(ClusterError):
    """The queue cannot be read, or has no such job."""

    code = "queue"


def rows(context: Context, batch_type: str, *, everybody: bool = True) -> list[QueueRow]:
    """All jobs in the queue, or at least mine. Raises QueueError, and what `Context.run` raises.

    Without accounting its command fails or is missing, and nothing is known of jobs that have left the queue.
    """
    system, told = registry.system(batch_type), []
    if not system.views:
        remedy = "`pilotfish job list` has the jobs that you have submitted from here"
        raise QueueError(f"{batch_type} has no queue that can be listed", where="machine", remedy=remedy)
    for view in system.views:
        command = view.command("", everybody)
        done = context.run(sh("LC_ALL=C {command}", command=words(command)), timeout_s=_ANSWERS_IN_S)
        if done.code and command[0] not in system.helpful_commands:
            what = (done.err.strip() or done.out.strip())[-300:] or f"ended with code {done.code}"
            remedy = "name another machine with --machine" if "not found" in what else ""
            raise QueueError(what, where=" ".join(command[:1]), remedy=remedy)
        told.append(_read(view, done.out, command[0]) if not done.code else [])
    return list({row.id: row for some in reversed(told) for row in some}.values())


def _read(view: View, text: str, command: str) -> list[QueueRow]:
    try:
        return list(view.read(text)) if text.strip() else []
    except (ParseError, ValueError) as error:
        raise QueueError(f"what it prints cannot be read: {error}", where=command) from error
