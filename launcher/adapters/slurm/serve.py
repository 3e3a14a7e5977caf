"""Run a program whose Slurm is a pilot: commands for its PATH, the controller, the end."""

from __future__ import annotations

import json
import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path

from ....api.manager import Manager
from ....pilot import own_python
from ....pilot.model.errors import UsageError
from ....pilot.systems import registry
from ...contexts.shell import sh, word
from . import client, connections, job_step
from .controller import COMMANDS, Controller
from .jobs import Queue
from .pilot_link import PilotLink
from .request import Site
from .spool import Spool, take_ids

_COMMAND = """\
#!/bin/sh
# Pilotfish: Slurm's command, answered by a pilot. See docs/workflow-managers.md.
exec {python} -I -S {program} {name} "$@"
"""
_BASH_ENV = """\
# A login shell (#!/bin/bash -l) makes its PATH anew; bash reads this file after its profiles.
case ":$PATH:" in *:{folder}:*) ;; *) PATH={folder}:$PATH ;; esac
[ -z "$PILOTFISH_SLURM_BASH_ENV" ] || . "$PILOTFISH_SLURM_BASH_ENV"
"""
_FILE_OF_BASH = "bash_env"
_USERS_BASH_ENV = "PILOTFISH_SLURM_BASH_ENV"
"""As `_BASH_ENV` reads it."""
_USUAL_PARTITION = _USUAL_ACCOUNT = "pilot"


def environment(environ: Mapping[str, str], folder: Path, path: str) -> dict[str, str]:
    """For the program: Slurm's commands are ours, and it is in no batch job itself."""
    private = registry.private_variables()
    kept = {name: value for name, value in environ.items() if not private.fullmatch(name.encode())}
    return {
        **kept,
        "PATH": f"{folder}{os.pathsep}{environ.get('PATH', os.defpath)}",
        "BASH_ENV": str(folder / _FILE_OF_BASH),
        **({_USERS_BASH_ENV: environ["BASH_ENV"]} if "BASH_ENV" in environ else {}),
        client.SOCKET: path,
        client.PYTHON: json.dumps(own_python.of_module(sys.executable, job_step.__name__)),
    }


def lay_commands(folder: Path) -> None:
    folder.mkdir(mode=0o700)
    program = Path(client.__file__)
    for name in COMMANDS:
        text = sh(_COMMAND, python=word(sys.executable), program=word(str(program)), name=word(name))
        (folder / name).write_text(text)
        (folder / name).chmod(0o700)
    (folder / _FILE_OF_BASH).write_text(sh(_BASH_ENV, folder=word(str(folder))))


def id_file(environ: Mapping[str, str]) -> Path:
    home = environ.get("XDG_STATE_HOME") or Path(environ.get("HOME") or Path.home()) / ".local" / "state"
    return Path(home) / "pilotfish" / "slurm-next-id"


def site_of(link: PilotLink, partitions: Sequence[str], accounts: Sequence[str]) -> Site:
    uid = os.getuid()
    try:
        user = pwd.getpwuid(uid).pw_name
    except KeyError:  # as in a container
        user = str(uid)
    names = tuple(partitions) or (_USUAL_PARTITION,)
    return Site(
        link.nodes(), names, tuple(accounts) or (_USUAL_ACCOUNT,), user=user, uid=uid, host=socket.gethostname()
    )


def run(
    manager: Manager,
    program: Sequence[str],
    partitions: Sequence[str],
    accounts: Sequence[str],
    environ: Mapping[str, str],
) -> int:
    """Returns the program's exit code, when it and all its jobs have ended.

    Jobs that cannot end by themselves then (held ones, those that wait for what never comes) are cancelled. Ctrl-C and SIGTERM
    reach the program; after its end they cancel the jobs.
    """
    with ExitStack() as stack:
        home = Path(tempfile.mkdtemp(prefix="pilotfish-slurm-"))
        stack.callback(shutil.rmtree, home, ignore_errors=True)
        where = Path(manager.where)
        if not where.is_file():
            raise UsageError(
                "this pilot is known by its address only", where=manager.where, remedy="name its connection file"
            )
        link = PilotLink(manager)
        site = site_of(link, partitions, accounts)
        session = secrets.token_hex(4)
        spool = Spool(where.parent / f"slurm-{session}", site)
        listener = connections.listen(str(home / "socket"))
        stack.callback(listener.close)
        queue = Queue(session, partial(take_ids, id_file(environ)))
        controller = Controller(link, site, spool, listener, queue)
        lay_commands(spool.root / "bin")  # where all nodes find them
        stack.callback(shutil.rmtree, spool.root / "bin", ignore_errors=True)
        of_program = environment(environ, spool.root / "bin", str(home / "socket"))
        of_program[client.RELAY] = f"{site.host}:{spool.root / 'relay'}"
        return _Program(controller, program, of_program).run()


class _Program:
    """The program and, after it, what is left of its jobs."""

    def __init__(self, controller: Controller, words: Sequence[str], environ: Mapping[str, str]) -> None:
        self._controller = controller
        self._words = words
        self._environ = environ
        self._interrupted = False

    def run(self) -> int:
        path = shutil.which(self._words[0], path=self._environ["PATH"])
        if path is None:
            raise UsageError(
                "there is no such program", where=self._words[0], remedy="give its path, or add its folder to PATH"
            )
        process = subprocess.Popen(self._words, executable=path, env=dict(self._environ), restore_signals=True)
        for number in (signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, lambda number, frame: process.send_signal(number))
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # the program has it from the terminal itself
        descriptor = os.pidfd_open(process.pid)
        self._controller.watch(descriptor)
        self._controller.run(lambda: process.poll() is not None)
        self._controller.unwatch(descriptor)
        os.close(descriptor)
        self._wait_for_jobs()
        code = process.returncode
        return 128 - code if code < 0 else code

    def _wait_for_jobs(self) -> None:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, self._interrupt)
        live = self._controller.queue.live()
        if live:
            print(f"pilotfish: {len(live)} jobs have not ended; Ctrl-C cancels them", file=sys.stderr)
        self._controller.run(self._all_over)

    def _interrupt(self, number: int, frame: object) -> None:
        self._interrupted = True

    def _all_over(self) -> bool:
        queue = self._controller.queue
        if self._interrupted:
            self._interrupted = False
            self._controller.cancel(queue.live())
        stuck = queue.stuck()
        for job in stuck:
            print(f"pilotfish: job {job.label} is cancelled: {job.reason}", file=sys.stderr)
        self._controller.cancel(stuck)
        return not queue.live()
