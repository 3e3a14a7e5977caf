"""`pilotfish init`: a first submission, with a comment at each key, from a few answers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from ..pilot.model.errors import UsageError
from . import schema
from .description import CONTEXTS, MACHINES, parse_submission


@click.command()
@click.option("--machine", "batch_type", type=click.Choice(MACHINES, case_sensitive=False), help="The batch system.")
@click.option(
    "--context", "context_type", type=click.Choice(list(CONTEXTS), case_sensitive=False), help="How to reach it."
)
@click.option("--hostname", help="With SSH: the host, or an alias of ~/.ssh/config.")
@click.option("--username", help="With SSH: the user there.")
@click.option("--remote-root", help="The folder on the machine.")
@click.option("--queue", help="Queue or partition.")
@click.option("--pilot/--no-pilot", default=None, help="Run the tasks in a pilot.")
@click.option("--force", is_flag=True, help="Write over a file that is there.")
@click.argument("file", type=click.Path(path_type=Path), default="submission.yaml")
def init(file: Path, force: bool, **given: Any) -> None:
    """Write a commented submission file; asks what is not said by options.

    \b
    pilotfish init
    pilotfish init --machine Slurm --context SSH --hostname login --username ann --remote-root /scratch/ann run.yaml
    """
    if file.suffix not in (".yaml", ".yml"):
        raise UsageError("only YAML has comments", where=str(file), remedy="write a name that ends in .yaml")
    if file.exists() and not force:
        raise UsageError("is there already", where=str(file), remedy="give another name, or --force")
    text = render(**_asked(given))
    import yaml

    parse_submission(yaml.safe_load(text))
    file.write_text(text)
    click.echo(f"written: {file}; try `pilotfish submit {file} --dry-run`", err=True)


def _asked(given: dict[str, Any]) -> dict[str, Any]:
    found = dict(given)
    if found["batch_type"] is None:
        found["batch_type"] = click.prompt(
            "Batch system", type=click.Choice(MACHINES, case_sensitive=False), default="Slurm"
        )
    if found["context_type"] is None:
        choice = click.Choice(list(CONTEXTS), case_sensitive=False)
        found["context_type"] = click.prompt("How to reach it", type=choice, default="SSH")
    if found["context_type"] == "SSH":
        found["hostname"] = found["hostname"] or click.prompt("Host")
        found["username"] = found["username"] or click.prompt("User there")
    if found["context_type"] != "LazyLocal" and not found["remote_root"]:
        default = "~/pilotfish" if found["context_type"] == "SSH" else "/tmp/pilotfish"
        found["remote_root"] = click.prompt("Folder there", default=default)
    if found["queue"] is None:
        found["queue"] = click.prompt("Queue or partition", default="", show_default=False)
    if found["pilot"] is None:
        found["pilot"] = click.confirm("Run the tasks in a pilot (many small tasks in one job)?", default=True)
    return found


def render(
    *,
    batch_type: str,
    context_type: str,
    hostname: str | None,
    username: str | None,
    remote_root: str | None,
    queue: str,
    pilot: bool,
) -> str:
    """The text of a submission file that loads; keys that are not set stand there as comments."""
    machine: dict[str, Any] = {"batch_type": batch_type, "context_type": context_type, "local_root": "."}
    if remote_root is not None and context_type != "LazyLocal":
        machine["remote_root"] = remote_root
    lines = ["# See `pilotfish submit --help`. Lines with # are defaults.", "work_base: work", "", "machine:"]
    lines += _keys(schema.MACHINE, machine, "  ", skip=("remote_profile",))
    if context_type == "SSH":
        lines += ["  remote_profile:", *_keys(schema.SSH_PROFILE, {"hostname": hostname, "username": username}, "    ")]
    lines += ["", "resources:"]
    lines += _keys(schema.RESOURCES, {"group_size": 0 if pilot else 1, "queue_name": queue}, "  ", skip=("kwargs",))
    if pilot:
        lines += ["", "pilot:", *_keys(schema.PILOT, {"pilots": 1}, "  ")]
    task = {"command": "echo hello from $(hostname)", "task_work_path": "case1", "backward_files": ["log"]}
    lines += ["", "task_list:", *_item(_keys(schema.TASK, task, "    "))]
    return "\n".join(lines) + "\n"


def _keys(table: Sequence[schema.Key], given: dict[str, Any], indent: str, skip: Sequence[str] = ()) -> list[str]:
    """A line for each key: those given, and as comments the others with their defaults."""
    lines = []
    for key in table:
        if key.name in skip:
            continue
        value = given.get(key.name, None if key.default is schema.REQUIRED else key.default)
        mark = "" if key.name in given else "# "
        lines.append(f"{indent}{mark}{key.name}: {_yaml(value)}  # {key.meaning}")
    return lines


def _item(lines: list[str]) -> list[str]:
    """The lines as one item of a list."""
    first = next(number for number, line in enumerate(lines) if not line.lstrip().startswith("#"))
    lines[0], lines[first] = lines[first], lines[0]
    return [f"  - {lines[0].lstrip()}", *lines[1:]]


def _yaml(value: Any) -> str:
    import json

    return json.dumps(value)
