"""What holds for every command, whoever adds one: an example in its help, and a version in what `--json` prints."""

from __future__ import annotations

import ast
import inspect
import json
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from pilotfish.commands import cli


def _commands(group: click.Group, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None, name
        if command.hidden:
            continue
        yield (*path, name), command
        if isinstance(command, click.Group):
            yield from _commands(command, (*path, name))


COMMANDS = list(_commands(cli))
IDS = [" ".join(path) for path, _ in COMMANDS]
WITH_JSON = [(path, command) for path, command in COMMANDS if any("--json" in each.opts for each in command.params)]


@pytest.mark.parametrize(("path", "command"), COMMANDS, ids=IDS)
def test_the_help_of_a_command_has_an_example(path: tuple[str, ...], command: click.Command) -> None:
    """A whole command line, as somebody would type it."""
    lines = [line.strip() for line in (command.help or "").splitlines()]
    assert any(line.startswith(" ".join(("pilotfish", *path))) for line in lines)


@pytest.mark.parametrize(("path", "command"), WITH_JSON, ids=[" ".join(path) for path, _ in WITH_JSON])
def test_json_is_printed_in_one_way(path: tuple[str, ...], command: click.Command) -> None:
    """By `print_json`, which begins with the version: no module with such a command prints JSON of its own."""
    assert command.callback is not None
    module = sys.modules[inspect.unwrap(command.callback).__module__]
    tree = ast.parse(inspect.getsource(module))
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
    printed = [ast.unparse(each) for call in calls if ast.unparse(call.func) in ("show", "echo") for each in call.args]
    assert [text for text in printed if text.startswith("json.dumps")] == []


@pytest.mark.parametrize(
    "line",
    [
        "runs",
        "submissions",
        "job list",
        "job queue -M m.json",
        "job profile list",
        "job keywords",
        "job clean",
        "resources --here --nodes 1",
        "service --show-settings",
        "doctor m.json --no-job",
    ],
)
def test_the_version_comes_first(line: str, wd: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(wd)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(wd / "config"))
    machine = {"batch_type": "Shell", "context_type": "LazyLocal", "local_root": "."}
    (wd / "m.json").write_text(json.dumps(machine))
    done = CliRunner().invoke(cli, [*line.split(), "--json"])
    told = json.loads(done.stdout)
    assert (next(iter(told)), told["version"]) == ("version", 1)
