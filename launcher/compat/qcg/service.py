"""`python -m qcg.pilotjob.service`, `qcg-pm-service` and their classes: `pilotfish service` as old clients expect it.

Where the old service would have listened, this one does with plain TCP: programs that know nothing of Pilotfish connect by an
address and have no keys. It listens on this host only, unless `--net-interface` says otherwise.
"""

from __future__ import annotations

import os
import sys
import time
import traceback
from collections.abc import Sequence
from multiprocessing import Process
from typing import Any, NoReturn

from ....api.errors import ServiceError
from ....api.local import LocalManager
from ....pilot import own_python
from ....pilot.wire import connection

__all__ = ["QCGPMService", "QCGPMServiceProcess", "main", "service"]

_LOOK_S = 0.1


def with_plain_endpoint(arguments: Sequence[object]) -> list[str]:
    """These options of the old service, and the one for its kind of network interface where they ask for one."""
    words = [str(word) for word in arguments]
    wanted = any(word.startswith("--net") for word in words) and "--net-plain" not in words
    return [*words, "--net-plain"] if wanted else words


def main() -> NoReturn:
    """Become `pilotfish service`, with the options of this program's command line."""
    words = with_plain_endpoint(sys.argv[1:])
    os.execv(sys.executable, own_python.pilotfish(sys.executable, "service", *words))


service = main


class QCGPMService:
    """A pilot that this program starts and waits for. It runs in a process of its own, and ends with this one.

    Args:
        args: options of the old service; without, those of this program's command line.

    Raises:
        ServiceError: it did not start; the text says why.
    """

    def __init__(self, args: Sequence[object] | None = None) -> None:
        words = with_plain_endpoint(sys.argv[1:] if args is None else args)
        self.exit_code: int | None = None
        self._pilot = LocalManager(words, {"log_file": os.devnull})

    @property
    def addresses(self) -> list[str]:
        """Where plain clients reach it; empty without `--net`."""
        found = connection.read(self._pilot.connection_file).request_addresses
        return [found["plain"]] if "plain" in found else []

    def start(self) -> None:
        """Wait until it has ended; `exit_code` says how. Ctrl-C stops it and its tasks."""
        try:
            while self._pilot.exit_code is None:
                time.sleep(_LOOK_S)
            self.exit_code = self._pilot.exit_code
        finally:
            self._pilot.stop()


class QCGPMServiceProcess(Process):
    """A QCGPMService in a child of this process.

    Args:
        queue: gets `{"zmq_addresses": [...]}` when it serves, or `{"error": TEXT}` when it did not start.
    """

    def __init__(self, args: Sequence[object] | None = None, queue: Any = None) -> None:
        super().__init__()
        self.args = list(args or ())
        self.queue = queue

    def run(self) -> None:
        try:
            pilot = QCGPMService(self.args)
        except ServiceError as error:
            if self.queue is None:
                raise
            self.queue.put({"error": "".join(traceback.format_exception(error))})
            return
        if self.queue is not None:
            self.queue.put({"zmq_addresses": pilot.addresses})
        pilot.start()
        sys.exit(pilot.exit_code)
