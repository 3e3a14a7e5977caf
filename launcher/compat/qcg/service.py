"""`python -m qcg.pilotjob.service`, `qcg-pm-service` and their classes: `pilotfish service` as old clients expect it.

Where the old service would have listened, this one does with plain TCP: programs that know nothing of Pilotfish connect by an
address and have no keys. It listens on this host only, unless `--net-interface` says otherwise.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
import traceback
from collections.abc import Sequence
from multiprocessing import Process
from pathlib import Path
from typing import Any, NoReturn

from ....api.local import LocalManager
from ....api.manager import Manager
from ....pilot import own_python, variable_names
from ....pilot.model.errors import PilotfishError, SettingsError
from ....pilot.wire import connection

__all__ = ["QCGPMService", "QCGPMServiceProcess", "main", "service"]

_LOOK_S = 0.1
_ANSWER_S = 5.0
_OPEN = ("--net", "--governor", "--slurm-partition-nodes")
"""Beginnings of options with which the old service listens."""


def with_plain_endpoint(arguments: Sequence[object]) -> list[str]:
    """These options of the old service, and the one for its kind of network interface where they ask for one."""
    words = _with_parent_file([str(word) for word in arguments])
    wanted = any(word.startswith(_OPEN) for word in words) and "--net-plain" not in words
    return [*words, "--net-plain"] if wanted else words


def _with_parent_file(words: list[str]) -> list[str]:
    """`--parent ADDRESS` names the connection file of the pilot there: who joins a pilot needs its keys.

    Raises ConnectionError where nobody answers, and SettingsError where that is no pilot of ours.
    """
    for place, word in enumerate(words[:-1]):
        address = words[place + 1]
        if word == "--parent" and not os.path.exists(address):
            parent = Manager(address, {"log_file": os.devnull, "connect_timeout": _ANSWER_S})
            try:
                folder = parent.system_status()["System"].get("AuxDir", "")
            finally:
                parent.close()
            if not os.path.isdir(folder):
                remedy = "start it with pilotfish, on this machine or with its working directory shared"
                raise SettingsError("no pilot whose connection file can be read", where=address, remedy=remedy)
            words[place + 1] = folder
    return words


def _python() -> str:
    """The interpreter that has Pilotfish: this one may have it only lent, which agents on other nodes would not have."""
    return os.environ.get(variable_names.DROPIN_PYTHON, sys.executable)


def main() -> NoReturn:
    """Become `pilotfish service`, with the options of this program's command line."""
    words = with_plain_endpoint(sys.argv[1:])
    os.execv(_python(), own_python.pilotfish(_python(), "service", *words))


service = main


class QCGPMService:
    """A pilot that this program starts and waits for. It runs in a process of its own, and ends with this one.

    With `--parent` none is started: the nodes join the parent while `start` runs.

    Args:
        args: options of the old service; without, those of this program's command line.

    Raises:
        ServiceError: it did not start; the text says why.
    """

    def __init__(self, args: Sequence[object] | None = None) -> None:
        words = with_plain_endpoint(sys.argv[1:] if args is None else args)
        self.exit_code: int | None = None
        self.joins = own_python.pilotfish(_python(), "service", *words) if "--parent" in words else None
        """The command that brings the nodes to the parent."""
        if self.joins is None:
            self._pilot = LocalManager(words, {"log_file": os.devnull})
            self._file = self._pilot.connection_file
        else:
            self._file = Path(words[words.index("--parent") + 1])

    @property
    def addresses(self) -> list[str]:
        """Where plain clients reach it, or the parent; empty without `--net`."""
        file = self._file / connection.FILE_NAME if self._file.is_dir() else self._file
        found = connection.read(file).request_addresses
        return [found["plain"]] if "plain" in found else []

    def start(self) -> None:
        """Wait until it has ended; `exit_code` says how. Ctrl-C stops it and its tasks."""
        if self.joins is not None:
            self.exit_code = subprocess.run(self.joins, check=False).returncode
            return
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
            service = QCGPMService(self.args)
        except PilotfishError as error:
            if self.queue is None:
                raise
            self.queue.put({"error": "".join(traceback.format_exception(error))})
            return
        if self.queue is not None:
            self.queue.put({"zmq_addresses": service.addresses})
        if service.joins is not None:  # its signals are for the nodes
            self._flush_queue()
            os.execv(service.joins[0], service.joins)
        service.start()
        sys.exit(service.exit_code)

    def _flush_queue(self) -> None:
        """A queue of multiprocessing writes in a thread, which would not live on."""
        if hasattr(self.queue, "join_thread"):
            self.queue.close()
            self.queue.join_thread()
