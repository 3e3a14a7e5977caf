"""From settings and allocation to the way in which agents are started."""

from __future__ import annotations

import os
import socket
from dataclasses import replace

from ..agent_launchers import choose, command, process
from ..agent_launchers.base import Starter
from ..systems.base import Allocation
from ..wire import connection
from .agent_processes import Recipe
from .auxdir import AuxDir
from .config import Settings

_OLD_METHODS = {"slurm": "srun", "ssh": "ssh", None: None}


def starter_for(settings: Settings, allocation: Allocation) -> Starter:
    """The starter that the settings ask for, else that of the batch system; for a job on this host alone no more than fork.

    Raises SettingsError for a name there is not.
    """
    asked = settings.placement or _OLD_METHODS[settings.nl_start_method]
    if asked is None and all(_is_here(node.name) for node in allocation.nodes):
        asked = "fork"
    return choose.choose(allocation.kind, asked)


def recipe_for(settings: Settings, starter: Starter, nodes: int, aux: AuxDir) -> Recipe:
    """How to start the agents of so many nodes, but for what they have to know of the open endpoints (see `with_endpoints`).

    Raises SettingsError when the starter cannot do what is asked of it.
    """
    words = command.AgentCommand(
        process.default_python(settings.agent_python),
        aux.connection,
        settings.agent_prelude,
        settings.agent_connect == "variable",
        command.workers_for(starter, nodes),
    )
    command.check(words, starter)
    lifeline = settings.lifeline_fd if starter.is_agent else None
    return Recipe(starter, words, dict(os.environ), "", lifeline, settings.nl_init_timeout_s)


def with_endpoints(recipe: Recipe, info: connection.ConnectionFile) -> Recipe:
    """The recipe with what agents are told of the manager, if they cannot read it from its file."""
    if not recipe.command.by_variable:
        return recipe
    text = connection.as_variable(info)
    if recipe.starter.connect == "stdin":
        return replace(recipe, stdin_text=f"{text}\n")
    return replace(recipe, environ={**recipe.environ, connection.CONNECT_VARIABLE: text})


def _is_here(node: str) -> bool:
    """Batch systems tell some hosts' short names, some hosts tell their long one."""
    return node.partition(".")[0] == socket.gethostname().partition(".")[0]
