"""`pilotfish completion`: the script that makes a shell complete our commands and options."""

from __future__ import annotations

import os
import shlex
from pathlib import Path

import click
from click.shell_completion import get_completion_class

from ..pilot.console import echo, show
from ..pilot.files import write_atomically
from ..pilot.model.errors import PilotfishError, UsageError

_SHELLS = ("bash", "zsh", "fish")


@click.command()
@click.argument("shell", type=click.Choice(_SHELLS), required=False)
@click.option("--install", is_flag=True, help="Put it where new shells read it, once for this user.")
def completion(shell: str | None, install: bool) -> None:
    """Print the completion script for your shell, or install it.

    SHELL is that of the variable SHELL where it is not given.

    \b
    pilotfish completion --install
    pilotfish completion bash >> ~/.bashrc
    """
    shell = shell or os.path.basename(os.environ.get("SHELL", ""))
    if shell not in _SHELLS:
        raise UsageError(f'"{shell}" is not known', where="SHELL", remedy=f"say one of {', '.join(_SHELLS)}")
    complete = get_completion_class(shell)
    assert complete is not None
    root = click.get_current_context().find_root().command
    script = complete(root, {}, "pilotfish", "_PILOTFISH_COMPLETE").source()
    if install:
        _install(shell, script)
    else:
        show(script)


def _install(shell: str, script: str) -> None:
    """fish reads a folder of its own; the others are told by a line in the file that they read at their start."""
    if shell == "fish":
        config = Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config")
        _write(config / "fish/completions/pilotfish.fish", script)
        return
    path = Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local/share") / f"pilotfish/completion.{shell}"
    _write(path, script)
    start = Path(os.environ.get("ZDOTDIR") or Path.home()) / ".zshrc" if shell == "zsh" else Path.home() / ".bashrc"
    file = shlex.quote(str(path))
    before = "autoload -Uz compinit; (( $+functions[compdef] )) || compinit; " if shell == "zsh" else ""
    line = f"[ ! -r {file} ] || {{ {before}. {file}; }}  # pilotfish completion --install"
    try:
        text = start.read_text(errors="surrogateescape") if start.exists() else ""
        if line not in text.splitlines():
            with open(start, "a", encoding="utf-8") as opened:
                opened.write(f"{'' if not text or text.endswith(chr(10)) else chr(10)}{line}\n")
            echo(f"added to {start}: {line}")
    except OSError as error:
        raise PilotfishError(f"cannot be changed: {error.strerror}", where=str(start), remedy=f"add: {line}") from error


def _write(path: Path, script: str) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, script.encode())
    except OSError as error:
        raise PilotfishError(f"cannot be written: {error.strerror}", where=str(path)) from error
    echo(f"written: {path}; new shells of yours complete with Tab")
