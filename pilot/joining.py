"""Nodes that join a pilot which runs already: another allocation's, or this machine.

The pilot counts them as its own from then on. They leave with their agents: nothing that was given to them is lost.
"""

from __future__ import annotations

import os
import secrets
import signal
import socket
import subprocess
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import msgspec

from .agent_launchers import command, process
from .agent_launchers.base import AgentLauncher
from .console import echo
from .model.errors import SettingsError, UsageError
from .model.resources import NodeSpec, is_tag
from .reach import check_reach
from .systems import registry
from .systems.base import Allocation, HostEnvironment
from .systems.detect import detect
from .systems.gpus import Gpus
from .systems.host_env import this_host
from .systems.named_resources import parse_all, with_own
from .wire import connection

_LONGEST_NAME = 255
_NOT_ASKED = Gpus((), "nobody was asked")
"""To look for GPUs takes a moment, and here they do not matter."""


class Nodes(NamedTuple):
    """Which nodes join, as the service's options of these names say it; without any, those of the allocation."""

    nodes: str | None = None
    resources: str = registry.AUTO
    part: tuple[int | None, int | None] = (None, None)
    file: str | None = None
    named: Sequence[str] = ()
    """What each of them has beside cores, GPUs and memory, as `--resource`."""


class Bounds(NamedTuple):
    """Of which allocation the nodes are a part, and when that ends; by default what the batch system says.

    `allocation`: what the pilot calls it, as whoever asked for it does. `ends_in_s`: from now on.
    """

    allocation: str | None = None
    ends_in_s: float | None = None


_NO_BOUNDS = Bounds()


class Agents(NamedTuple):
    """How their agents are started: `--agent-launcher`, `--agent-python`, `--agent-prelude`."""

    launcher: str | None = None
    python: str | None = None
    prelude: str = ""


def join(pilot: str, tags: Sequence[str], bring: Nodes, agents: Agents, bounds: Bounds = _NO_BOUNDS) -> int:
    """Let these nodes serve that pilot, until it ends or a signal comes.

    Returns an exit code: 0, or 1 when the pilot refused them. Raises SettingsError, and LostError when there is no such pilot.
    """
    for tag in tags:
        if not is_tag(tag):
            raise SettingsError(f"{tag!r} is not a tag", where="--tags", remedy="use letters, digits and ._-")
    info = connection.discover(pilot, {}, Path.cwd())
    if isinstance(info, str):
        raise UsageError("is an address, which has no keys", where=pilot, remedy="give the pilot's connection file")
    # A copy may be at the end of a tunnel, or on a host that does not see the pilot's folder.
    file = Path(pilot).absolute() if Path(pilot).is_file() else Path(info.aux_dir) / connection.FILE_NAME
    check_reach(lambda: connection.read(file), lambda text: echo(text, err=True))
    host_env = this_host(os.environ)
    named = parse_all(bring.named, "--resource")
    allocation = detect(host_env, bring.nodes, bring.resources, bring.part, bring.file)
    name, ends_s = _bounded(bounds, allocation, host_env)
    specs = [
        replace(spec, tags=tuple(tags), joined=True, allocation=name, ends_s=ends_s, named=with_own(spec, named))
        for spec in allocation.nodes
    ]
    launcher = _launcher(allocation, agents.launcher)
    if launcher.is_agent and len(specs) == 1:
        from .agent import watcher
        from .agent.app import run

        agent_id = f"{specs[0].name}-{secrets.token_hex(6)}"
        watched = watcher.start(file, agent_id)
        code = run(file, specs[0].name, agent_id, None, specs[0])
        watched.dismiss()
        return code
    return _Joined(file, specs, launcher, agents).run()


def _bounded(bounds: Bounds, allocation: Allocation, host_env: HostEnvironment) -> tuple[str, float | None]:
    """The name of the allocation and its end; of nodes that were given (`--nodes`) that of the batch job around us, too."""
    if allocation.kind == registry.GIVEN:
        with suppress(SettingsError):  # then its variables are of no use, and nobody has asked for them
            allocation = detect(replace(host_env, find_gpus=lambda: _NOT_ASKED))
    name = bounds.allocation if bounds.allocation is not None else allocation.job_id or ""
    if not name.isprintable() or len(name) > _LONGEST_NAME:
        raise SettingsError(
            f"{name[:40]!r} is not a name", where="--allocation", remedy=f"use at most {_LONGEST_NAME} printable signs"
        )
    return name, allocation.ends_s if bounds.ends_in_s is None else host_env.now_s + bounds.ends_in_s


def _launcher(allocation: Allocation, asked: str | None) -> AgentLauncher:
    here = socket.gethostname().partition(".")[0]
    if asked is None and all(node.name.partition(".")[0] == here for node in allocation.nodes):
        asked = process.FORK.name
    return registry.launcher_for(allocation.kind, asked)


def spec_of(joins: str | None, node: str) -> NodeSpec | None:
    """What `--joins` says of this node."""
    if joins is None:
        return None
    return next((spec for spec in msgspec.json.decode(joins, type=list[NodeSpec]) if spec.name == node), None)


class _Joined:
    """The agents of several nodes, watched until they have ended."""

    def __init__(self, file: Path, specs: Sequence[NodeSpec], launcher: AgentLauncher, agents: Agents) -> None:
        self._names = [spec.name for spec in specs]
        self._launcher = launcher
        more = ("--joins", msgspec.json.encode(list(specs)).decode(), *command.workers_for(launcher, len(specs)))
        more += ("--watched",) if launcher.is_agent else ()  # the manager may be on another host
        python = process.default_python(agents.python)
        self._command = command.AgentCommand(python, file, agents.prelude, more=more)

    def run(self) -> int:
        token = secrets.token_hex(6)
        if self._launcher.at_once:
            lines = [self._launcher.argv(self._names, self._command.for_all(self._launcher, token))]
        else:
            lines = [self._launcher.argv([name], self._words(name, token)) for name in self._names]
        # Each in a session of its own: a signal is meant for us, and we pass on what it means.
        running = [subprocess.Popen(line, stdin=subprocess.DEVNULL, start_new_session=True) for line in lines]

        def pass_on(number: int, frame: object) -> None:
            for process_ in running:
                process_.send_signal(signal.SIGTERM if number != signal.SIGUSR1 else signal.SIGUSR1)

        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1):
            signal.signal(number, pass_on)
        codes = [process_.wait() for process_ in running]
        return 0 if not any(codes) else 1

    def _words(self, name: str, token: str) -> list[str]:
        return self._command.for_node(self._launcher, name, f"{name}-{token}", None)
