"""The commands of the pilot itself: `service` (the manager) and `agent`."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from .console import echo, print_json, show
from .manager.config import OF_ALLOCATION, OPTIONS, Settings, build
from .manager.sources import Given, gather
from .model import walltime
from .model.errors import SettingsError, UsageError
from .options import with_options


class AbbreviatingCommand(click.Command):
    """Takes any unambiguous beginning of a long option, because old batch scripts use such."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        names = [name for parameter in self.get_params(ctx) for name in parameter.opts if name.startswith("--")]
        return super().parse_args(ctx, [_completed(arg, names, ctx) for arg in args])


_NEW = {f"--{option.name}" for option in OPTIONS if option.group in ("ours", "command", "hidden")}
"""Options that the old service does not have: they must not make an old abbreviation ambiguous."""


_OLD_NAMES = {f"--{alias}": f"--{option.name}" for option in OPTIONS for alias in option.aliases}


def _completed(arg: str, names: list[str], ctx: click.Context) -> str:
    name, equals, value = arg.partition("=")
    if name in _OLD_NAMES:
        return f"{_OLD_NAMES[name]}{equals}{value}"
    if not name.startswith("--") or name == "--" or name in names:
        return arg
    found = [known for known in names if known.startswith(name)]
    old = [known for known in found if known not in _NEW]
    found = old if len(old) == 1 else found
    if len(found) > 1:
        ctx.fail(f"{name} may be any of {', '.join(sorted(found))}")
    return f"{found[0]}{equals}{value}" if found else arg


@click.command(cls=AbbreviatingCommand)
@with_options(OPTIONS)
def service(**given: Any) -> None:
    """Start a manager with one agent per node, and serve clients until told to finish.

    All options of QCG-PilotJob's service are taken, so old batch scripts go on working. The pilot is found through its
    connection file, WD/.qcgpjm-service-ID/connection.json.

    \b
    pilotfish service --wd run1                      for clients on this machine
    pilotfish service --net                          for clients elsewhere, with keys
    pilotfish service --file-path requests.json      requests from a file, then end
    pilotfish service --resume run1                  go on where it was killed

    Each option may also be said by a variable (PILOTFISH_NET_PORT for --net-port) or in a file, by default
    ~/.config/pilotfish/config.toml (table [service], key net-port); an option wins over a variable, that over the file.
    """
    said = gather(given, os.environ, Path.home())
    settings = build(
        {name: entry.value for name, entry in said.items()}, {name: entry.origin for name, entry in said.items()}
    )
    if given["show_settings"]:
        _show(settings, said, given["json"])
        return
    if settings.parent is not None:
        sys.exit(_join_parent(settings, said))
    from .manager.app import run

    sys.exit(run(settings))


_NEED_A_MANAGER = ("file", "file-path", "resume", "governor")
_FOR_JOINING = OF_ALLOCATION | {"parent", "tags", "config", "agent-launcher", "agent-python", "agent-prelude"}


def _join_parent(settings: Settings, said: Mapping[str, Given]) -> int:
    """`--parent`: there is no manager here, so options for one are refused when they ask it for work, and named otherwise."""
    from .joining import Agents, Nodes, join

    for name in _NEED_A_MANAGER:
        if name in said:
            raise SettingsError(
                f"cannot be used with {said['parent'].origin}, which starts no manager of its own",
                where=said[name].origin,
                remedy="leave one of them out; requests go to the pilot that the nodes join (pilotfish submit)",
            )
    idle = [f"--{name}" for name, entry in said.items() if name not in _FOR_JOINING and entry.origin == f"--{name}"]
    if idle:
        echo(f"Warning: no effect together with {said['parent'].origin}: {', '.join(idle)}", err=True)
    assert settings.parent is not None
    nodes = Nodes(
        settings.nodes, settings.resources, settings.nodes_range, settings.resources_document, settings.resource
    )
    agents = Agents(settings.agent_launcher, settings.agent_python, settings.agent_prelude)
    return join(settings.parent, settings.tags, nodes, agents)


def _show(settings: Settings, said: Mapping[str, Given], as_json: bool) -> None:
    """Every setting with its value and where it was said."""
    rows = []
    for option in OPTIONS:
        if option.group in ("old", "ours"):
            origin = said[option.name].origin if option.name in said else "default"
            rows.append((option.name, getattr(settings, option.setting), origin))
    if as_json:
        shown = {name: {"value": value, "origin": origin} for name, value, origin in rows}
        print_json(shown)
        return
    widths = [max(len(str(row[column])) for row in rows) for column in range(2)]
    for name, value, origin in rows:
        show(f"{name:{widths[0]}}  {value!s:{widths[1]}}  {origin}")


def _seconds(text: str, option: str) -> float:
    try:
        return walltime.parse(text)
    except UsageError as error:
        raise SettingsError(error.what, where=option, remedy=error.remedy) from None


@click.command()
@click.option("--connect", "-c", required=True, help="The pilot: its connection file, or a folder with it.")
@click.option("--tags", help="Tags of these nodes, which jobs can require (resources.tags; comma list).")
@click.option("--nodes", help="What to bring instead of the allocation: [NAME:]CORES[:Ngpu][:MEM], comma list.")
@click.option(
    "--resource",
    multiple=True,
    metavar="NAME=VALUE",
    help="What each of these nodes has beside cores, GPUs and memory, as for `pilotfish service`; may be repeated.",
)
@click.option("--agent-launcher", help="How agents are started on the nodes; default: as the batch system does it.")
@click.option("--placement", hidden=True, help="The old name of --agent-launcher.")
@click.option("--allocation", help="What the pilot calls this allocation; default: the batch job's number.")
@click.option("--ends-in", help="How long these nodes may serve, e.g. 1h30m; default: until the batch job ends.")
@click.option("--node", hidden=True, help="The name of the node to serve.")
@click.option("--agent-id", hidden=True, help="The name of this agent.")
@click.option("--replaces", hidden=True, help="The dead agent whose tasks are to be cleared away.")
@click.option("--watched", is_flag=True, hidden=True, help="A watcher tells the manager when this agent is killed.")
@click.option("--gone", hidden=True, help="Tell the manager that this agent was killed.")
@click.option("--traces", hidden=True, help="Write which processes the agent's tasks start into this folder.")
@click.option("--joins", hidden=True, help="The nodes that join, as JSON.")
@click.option(
    "--workers",
    "--hands",
    "workers",
    type=int,
    hidden=True,
    help="The most processes that start tasks; default: one for each processor.",
)
def agent(
    connect: str,
    tags: str | None,
    nodes: str | None,
    resource: tuple[str, ...],
    agent_launcher: str | None,
    placement: str | None,
    allocation: str | None,
    ends_in: str | None,
    node: str | None,
    agent_id: str | None,
    replaces: str | None,
    watched: bool,
    gone: str | None,
    traces: str | None,
    joins: str | None,
    workers: int | None,
) -> None:
    """Bring nodes to a running pilot: those of this allocation, or this machine.

    They take work at once, and leave without loss: SIGTERM gives their tasks back, SIGUSR1 lets what runs end first, and
    before the batch job ends they leave by themselves. The command ends when the pilot does. The pilot's connection file must
    be readable here; for other hosts the pilot must have been started with --net or --governor, or in an allocation of several
    nodes.

    \b
    pilotfish agent --connect run1                 in a second job's script
    pilotfish agent --connect run1 --tags gpu      for jobs with resources.tags: [gpu]

    Exit code: 0 the pilot has ended or the nodes have left, 1 the pilot did not want them, 3 there is no such pilot.
    """
    from .agent.watcher import start as start_watcher
    from .agent.watcher import tell

    if gone is not None:
        sys.exit(tell(Path(connect), gone))
    if traces is not None and node is not None:
        from .agent import process_traces

        sys.exit(process_traces.run(traces, node))
    if node is None or agent_id is None:
        from .joining import Agents, Bounds, Nodes, join

        bounds = Bounds(allocation, None if ends_in is None else _seconds(ends_in, "--ends-in"))
        words = tuple(word.strip() for word in (tags or "").split(",") if word.strip())
        sys.exit(join(connect, words, Nodes(nodes, named=resource), Agents(agent_launcher or placement), bounds))
    from .agent.app import run
    from .joining import spec_of

    spec = spec_of(joins, node)
    if not watched:
        sys.exit(run(Path(connect), node, agent_id, replaces, spec, workers))
    watcher = start_watcher(Path(connect), agent_id)
    code = run(Path(connect), node, agent_id, replaces, spec, workers)
    watcher.dismiss()
    sys.exit(code)
