"""From settings and allocation to the way in which agents are started."""

from __future__ import annotations

import os
import socket
from dataclasses import replace

from .. import variable_names
from ..agent_launchers import command, process
from ..agent_launchers.base import AgentLauncher
from ..agent_launchers.ssh import SSH
from ..systems import registry
from ..systems.base import Allocation
from ..wire import connection
from .agent_processes import Recipe
from .auxdir import AuxDir
from .config import Settings

_BY_SSH = "ssh"
"""As `--nl-start-method` calls it."""


def launcher_for(settings: Settings, allocation: Allocation) -> AgentLauncher:
    """The launcher that the settings ask for, else that of the batch system; for a job on this host alone no more than fork.

    `--nl-start-method` is the old service's option. There it chose between the batch system's way and ssh, and only nodes of
    a batch system were asked; so here it says nothing of virtual nodes, which no ssh could find. Raises SettingsError for a
    name that does not exist.
    """
    asked = settings.agent_launcher
    if asked is None and settings.nl_start_method == _BY_SSH and allocation.kind not in registry.VIRTUAL:
        asked = SSH.name
    if asked is None and all(_is_here(node.name) for node in allocation.nodes):
        asked = process.FORK.name
    return registry.launcher_for(allocation.kind, asked)


def recipe_for(settings: Settings, launcher: AgentLauncher, nodes: int, aux: AuxDir) -> Recipe:
    """How to start the agents of `nodes` nodes, but for what they have to know of the open endpoints (see `with_endpoints`).

    Raises SettingsError when the launcher cannot do what is asked of it.
    """
    words = command.AgentCommand(
        process.default_python(settings.agent_python),
        aux.connection,
        settings.agent_prelude,
        settings.agent_connect == "variable",
        command.workers_for(launcher, nodes),
    )
    command.check(words, launcher)
    lifeline = settings.lifeline_fd if launcher.is_agent else None
    return Recipe(launcher, words, dict(os.environ), "", lifeline, settings.nl_init_timeout_s)


def with_endpoints(recipe: Recipe, info: connection.ConnectionFile) -> Recipe:
    """The recipe, with the way to the manager for agents that cannot read it from its file."""
    if not recipe.command.by_variable:
        return recipe
    text = connection.as_variable(info)
    if recipe.launcher.connect == "stdin":
        return replace(recipe, stdin_text=f"{text}\n")
    return replace(recipe, environ={**recipe.environ, variable_names.CONNECT: text})


def _is_here(node: str) -> bool:
    """A batch system may use the short name of a host that calls itself by its long one."""
    return node.partition(".")[0] == socket.gethostname().partition(".")[0]
