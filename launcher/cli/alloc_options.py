"""The options of `pilotfish alloc`, and the spec that they describe."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import click

from ...pilot import variable_names
from ..allocations.reading import spec_of
from ..allocations.spec import AllocationSpec

_Command = TypeVar("_Command", bound=Callable[..., None])

connect_option = click.option(
    "--connect",
    "-c",
    envvar=variable_names.CONNECTION,
    help="The pilot: its connection file, its auxiliary folder, or a folder with some.",
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
names_argument = click.argument("names", metavar="NAME...", nargs=-1, required=True)


def spec_options(command: _Command) -> _Command:
    """What may be asked for; all as in `allocations:` of files."""
    for option in reversed(
        (
            click.option("--name", help="What it is called here; default: as the machine."),
            click.option("--nodes", help="Least and most nodes of one allocation, e.g. 1-8.  [default: 1]"),
            click.option("--walltime", help="The longest time limit to ask for, e.g. 4h.  [default: 1h]"),
            click.option(
                "--max-waiting", type=click.IntRange(1), help="Allocations that may wait at once.  [default: 2]"
            ),
            click.option("--max-nodes", type=click.IntRange(1), help="Nodes that may wait and run in all."),
            click.option("--idle", help="How long nodes may be idle before they are given up.  [default: 5m]"),
            click.option("--min-work", help="How long an allocation must be of use to be asked for.  [default: 10m]"),
            click.option("--budget", help="What all may use together, e.g. 500node-hours."),
            click.option("--cores", type=click.IntRange(1), help="Cores on each node; default: whole nodes."),
            click.option("--gpus", type=click.IntRange(0), help="GPUs on each node."),
            click.option("--memory", "--mem", help="Memory on each node, e.g. 64G."),
            click.option("--queue", "-q", help="Queue or partition."),
            click.option("--account", help="Account to be charged."),
            click.option("--qos", help="Quality of service."),
            click.option(
                "--flag", "flags", multiple=True, help="A directive line as it is, e.g. '#SBATCH --constraint=fast'."
            ),
            click.option("--tags", help="Tags of its nodes, which jobs can require (comma list)."),
            click.option(
                "--agents-connect",
                metavar="HOST:PORT",
                help="Where its nodes reach the pilot: the end of a tunnel to it.",
            ),
            click.option("--priority", type=int, help="Those of a higher one are asked first.  [default: 0]"),
        )
    ):
        command = option(command)
    return command


def spec_from_options(machine: str, options: dict[str, Any], taken: Sequence[str]) -> AllocationSpec:
    resources = {"queue_name": options.pop("queue"), "account": options.pop("account"), "qos": options.pop("qos")}
    flags, tags = options.pop("flags"), options.pop("tags")
    given = {name: value for name, value in options.items() if value is not None}
    given["resources"] = {name: value for name, value in resources.items() if value is not None}
    if flags:
        given["resources"]["custom_flags"] = list(flags)
    if tags:
        given["tags"] = [tag.strip() for tag in tags.split(",") if tag.strip()]
    return spec_of({"machine": machine, **given}, "alloc add", taken)
