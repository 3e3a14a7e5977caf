"""From here to the running pilot of a submission: its own connection file, with addresses that lead through the context.

The pilot's endpoints stay locked: its keys come over the context, and are in a file of mode 0600 in a private folder as long
as the tunnel is there.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from ...api.manager import Manager
from ...pilot.model.errors import LostError, UsageError
from ...pilot.wire import connection
from ...pilot.wire.connection import ConnectionFile
from ..contexts.base import Context
from ..contexts.shell import sh, word
from .pilot_jobs import IS_OURS
from .placement import Placement

_NEWEST = sh(
    """\
{is_ours}
ls -t {prefix}*/{file} 2>/dev/null | while IFS= read -r file; do
  is_ours "${file%/*}" d && is_ours "$file" f && exec cat -- "$file"
done""",
    is_ours=IS_OURS,
    prefix=word(connection.AUX_PREFIX),
    file=word(connection.FILE_NAME),
)


@contextmanager
def remote_pilot(submission: Placement) -> Iterator[Path]:
    """A connection file here for the pilot of the submission's running job; gone at the end, and with it the tunnel.

    All that takes a connection file takes this one: `Manager(str(path))`, `pilotfish status -c PATH`. A pilot that follows in
    another allocation needs a tunnel of its own.

    Raises:
        UsageError: the submission has no pilot.
        LostError: no pilot has been started yet, or the machine cannot be reached.
        RefusedError: the machine does not connect to it: the pilot has ended, or sshd does not allow forwarding.
    """
    if submission.description.pilot is None:
        raise UsageError("this submission has no pilot", where=submission.hash, remedy='add "pilot": {} to it')
    with ExitStack() as stack:
        context = stack.enter_context(submission.context())
        found = connection_there(context, submission.work(context).root)
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="pilotfish-tunnel-"))
        path = Path(folder, connection.FILE_NAME)
        connection.write(path, led_through(found, context, stack, path.parent))
        yield path


@contextmanager
def remote_manager(submission: Placement, connect_timeout_s: float = 20.0) -> Iterator[Manager]:
    """The pilot of the submission's running job as a `Manager`, wherever it is.

    Raises as `remote_pilot`, and ConnectionError when the pilot does not answer in `connect_timeout_s` seconds.
    """
    with remote_pilot(submission) as path:
        manager = Manager(str(path), {"connect_timeout": connect_timeout_s, "log_file": os.devnull})
        try:
            yield manager
        finally:
            manager.close()


def connection_there(context: Context, root: str) -> ConnectionFile:
    """Of the newest pilot in this folder there. Raises LostError when there is none, UsageError for what is no such file."""
    done = context.run(_NEWEST, cwd=root)
    if done.code or not done.out:
        remedy = "its job may still wait: see `pilotfish submissions status`"
        raise LostError("no pilot has been started there yet", where=root, remedy=remedy)
    return connection.decode(done.out.encode(), f"{root}/{connection.AUX_PREFIX}*")


def led_through(found: ConnectionFile, context: Context, stack: ExitStack, folder: Path) -> ConnectionFile:
    """The same pilot, at this end of tunnels, which `stack` closes; as it is where the machine is this one.

    `folder`: where its connection file will be here. Raises LostError, RefusedError as `remote_pilot`.
    """
    if context.local:
        return found

    def lead(address: str) -> str:
        host, _, port = address.removeprefix("tcp://").rpartition(":")
        return f"tcp://{stack.enter_context(context.tunnel(host.strip('[]'), int(port))).address}"

    made = connection.through_tunnels(found, lead, folder)
    if not made.request_addresses:
        raise LostError(f"the pilot on {found.host} has no endpoint to the network", remedy="start it with --net")
    return made
