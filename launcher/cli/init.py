"""`pilotfish init`: a first submission, with a comment at each key, from a few answers."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from ...pilot.console import echo
from ...pilot.model.errors import UsageError
from ..description import files as loading
from ..description import schema
from ..description.machine import parse_machine
from ..description.schema import CONTEXTS
from ..description.submission import parse_submission
from ..machines import registry

_NOT_ASKED = frozenset({"create_remote_root"})
"""Keys that are only taken for old files."""
_WORK = "work"
"""The tasks' folder of what is written."""
_PROFILES: dict[str, dict[str, Any]] = {
    "Bohrium": {
        "email": "you@example.org",
        "password": "env:BOHRIUM_PASSWORD",
        "program_id": 0,
        "input_data": {"job_type": "container", "platform": "ali", "machine_type": "", "image_name": ""},
    },
    "OpenAPI": {"access_key": "env:BOHRIUM_ACCESS_KEY", "project_id": 0, "machine_type": "", "image_address": ""},
}
"""What stands there until the user has written what is his."""
_OF_A_PILOT = frozenset({"resources", "dependencies", "iteration", "retries"})
"""Keys of a task that only a pilot knows."""


@click.command()
@click.option(
    "--machine", "batch_type", type=click.Choice(registry.names(), case_sensitive=False), help="The batch system."
)
@click.option(
    "--context", "context_type", type=click.Choice(list(CONTEXTS), case_sensitive=False), help="How to reach it."
)
@click.option("--hostname", help="With SSH: the host, or an alias of ~/.ssh/config.")
@click.option("--username", help="With SSH: the user there.")
@click.option("--remote-root", help="The folder on the machine.")
@click.option("--queue", help="Queue or partition.")
@click.option("--pilot/--no-pilot", default=None, help="Run the tasks in a pilot.")
@click.option("--nodes", type=click.IntRange(1), help="Nodes of one job.")
@click.option("--cores", type=click.IntRange(1), help="Cores on each node.")
@click.option("--walltime", help="Time limit of a job: 1h30m, HH:MM:SS, or seconds.")
@click.option("--save-machine", metavar="NAME", help="Keep the machine under this name, for other submissions too.")
@click.option("--force", is_flag=True, help="Write over a file that is there.")
@click.argument("file", type=click.Path(path_type=Path), default="submission.yaml")
def init(file: Path, force: bool, save_machine: str | None, **given: Any) -> None:
    """Write a commented submission file; asks what is not said by options.

    \b
    pilotfish init
    pilotfish init --machine PBS --context SSH --hostname login --username ann --remote-root /scratch/ann run.yaml
    """
    if file.suffix not in (".yaml", ".yml"):
        raise UsageError("only YAML has comments", where=str(file), remedy="write a name that ends in .yaml")
    if file.exists() and not force:
        raise UsageError("is there already", where=str(file), remedy="give another name, or --force")
    kept = None if save_machine is None else loading.machines_folder() / f"{save_machine}.yaml"
    if kept is not None and not save_machine_name(save_machine or ""):
        raise UsageError(f"{save_machine!r} is no name for a file", where="--save-machine")
    if kept is not None and kept.exists() and not force:
        raise UsageError("is there already", where=str(kept), remedy="give another name, or --force")
    found = _answers(given)
    text, machine = render(**found), _machine(**{name: found[name] for name in _OF_A_MACHINE})
    import yaml

    parse_submission(yaml.safe_load(text))
    if kept is not None:
        parse_machine(yaml.safe_load("\n".join(machine)))
        kept.parent.mkdir(parents=True, exist_ok=True)
        kept.write_text("\n".join(["# A machine of `pilotfish submit`. Lines with # are defaults.", *machine]) + "\n")
        text = text.replace("\n".join(["machine:", *_indented(machine)]), f"machine: {save_machine}")
        echo(f"written: {kept}", err=True)
    file.write_text(text)
    Path(_WORK).mkdir(exist_ok=True)  # nothing is submitted without it
    echo(f"written: {file}, and the folder {_WORK} for the tasks", err=True)
    echo(f"try `pilotfish doctor {file}`, then `pilotfish submit {file} --dry-run`", err=True)


def save_machine_name(name: str) -> bool:
    """Whether a machine may be kept under this name."""
    return bool(name) and name == Path(name).name and not name.startswith(".")


def _answers(given: dict[str, Any]) -> dict[str, Any]:
    try:
        return _asked(given)
    except click.Abort:
        if sys.stdin.isatty():
            raise
        remedy = "say all by options (`pilotfish init --help`), or run it in a terminal"
        raise UsageError("the input ended before all was answered", remedy=remedy) from None


def _asked(given: dict[str, Any]) -> dict[str, Any]:
    found = dict(given)
    if found["batch_type"] is None:
        choice = click.Choice(registry.names(), case_sensitive=False)
        found["batch_type"] = click.prompt("Batch system (Shell: none)", type=choice, default=registry.names()[0])
    ways = schema.ways_to(found["batch_type"])
    if found["context_type"] is None and len(ways) == 1:
        found["context_type"] = ways[0]
    if found["context_type"] is None:
        choice = click.Choice(ways, case_sensitive=False)
        text = "How to reach it (Local: you are logged in there)"
        found["context_type"] = click.prompt(text, type=choice, default="Local" if _plain(found) else "SSH")
    kind = CONTEXTS[found["context_type"]]
    if found["context_type"] == "SSH":
        found["hostname"] = found["hostname"] or click.prompt("Host, or an alias of ~/.ssh/config")
        if found["username"] is None:
            found["username"] = click.prompt(
                "User there (empty: as ~/.ssh/config says)", default="", show_default=False
            )
    if kind.has_root and not found["remote_root"]:
        text, default = ("Folder of HDFS", None) if kind.staged else ("Folder there, seen by all nodes", "~/pilotfish")
        found["remote_root"] = click.prompt(text, default=default)
    if found["queue"] is None:
        text = "Queue or partition (empty: the default one)"
        found["queue"] = "" if _plain(found) else click.prompt(text, default="", show_default=False)
    if found["pilot"] is None and kind.staged:
        found["pilot"] = False
    if found["pilot"] is None:
        found["pilot"] = click.confirm("Run the tasks in a pilot (many small tasks in one job)?", default=True)
    return found | _sizes(found)


def _sizes(found: dict[str, Any]) -> dict[str, Any]:
    """How large a job is. Without a batch system nobody has to be asked."""
    if _plain(found):
        return {}
    sizes = {
        "nodes": ("Nodes of one job", 1),
        "cores": ("Cores on each node", 1),
        "walltime": ("Time limit of a job", "1h"),
    }
    return {
        name: click.prompt(text, default=default, type=type(default))
        for name, (text, default) in sizes.items()
        if found.get(name) is None
    }


def _plain(found: dict[str, Any]) -> bool:
    return bool(found["batch_type"] == "Shell")


_OF_A_MACHINE = ("batch_type", "context_type", "hostname", "username", "remote_root")


def _machine(
    batch_type: str, context_type: str, hostname: str | None, username: str | None, remote_root: str | None
) -> list[str]:
    """The lines of a machine."""
    machine: dict[str, Any] = {"batch_type": batch_type, "context_type": context_type, "local_root": "."}
    kind = CONTEXTS[context_type]
    if remote_root is not None and kind.has_root:
        machine["remote_root"] = remote_root
    lines = _keys(schema.MACHINE, machine, "", skip=("remote_profile", *_NOT_ASKED))
    if context_type == "SSH":
        profile = {"hostname": hostname} | ({"username": username} if username else {})
        lines += ["remote_profile:", *_keys(schema.SSH_PROFILE, profile, "  ")]
    if context_type in _PROFILES and kind.profile:
        lines += ["remote_profile:", *_keys(kind.profile, _PROFILES[context_type], "  ")]
    return lines


def _indented(lines: Sequence[str]) -> list[str]:
    return [f"  {line}" for line in lines]


def render(
    *,
    batch_type: str,
    context_type: str,
    hostname: str | None,
    username: str | None,
    remote_root: str | None,
    queue: str,
    pilot: bool,
    nodes: int | None = None,
    cores: int | None = None,
    walltime: str | None = None,
) -> str:
    """The text of a submission file that loads; keys that are not set stand there as comments."""
    lines = ["# See `pilotfish submit --help`. Lines with # are defaults.", f"work_base: {_WORK}", "", "machine:"]
    lines += _indented(_machine(batch_type, context_type, hostname, username, remote_root))
    sizes = {"number_node": nodes, "cpu_per_node": cores, "walltime": walltime}
    given = {"group_size": 0 if pilot else 1, "queue_name": queue} | {k: v for k, v in sizes.items() if v is not None}
    lines += ["", "resources:", *_keys(schema.RESOURCES, given, "  ", skip=("kwargs",))]
    if pilot:
        lines += ["", "pilot:", *_keys(schema.PILOT, {"pilots": 1}, "  ")]
    task = {"command": "echo hello from $(hostname)", "task_work_path": "case1", "backward_files": ["log"]}
    lines += ["", "task_list:", *_item(_keys(schema.TASK, task, "    ", skip=() if pilot else tuple(_OF_A_PILOT)))]
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
