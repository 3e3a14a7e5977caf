"""Text with one shell command per line -> job descriptions; and what is refused, because it is something else.

A script cut into lines runs torn apart, each line in the working folder: `cd build` in one task, `rm -rf *` in another. A
table or a page of text would be run as commands. So a file counts as lines only when its name says so, and even then not
when its text shows that it was meant to be read from top to bottom.
"""

from __future__ import annotations

import os
import re
import shlex
from typing import Any

from ..pilot.model.errors import UsageError
from .script_job import as_a_task

SUFFIXES = (".txt", ".lst", ".list")
_TABLES = (".csv", ".tsv", ".tab", ".jsonl", ".ndjson", ".xlsx", ".ods", ".parquet")
_ASK_FOR_LINES = "if each of its lines is a command of its own, give --format lines"

_PARTS_OF_SHELL = frozenset(["do", "done", "then", "else", "fi", "esac", "{", "}", ";;", "EOF"])
"""Lines that no shell takes by themselves: they belong to what stands above or below them."""
_ONLY_FOR_LATER_LINES = re.compile(
    r"""(?:
        (?:cd|pushd|popd)(?:\s(?:[^;&|]|>&)*)?(?:\|\|\s*(?:(?:exit|return|die)\b[^;&|]*|\{.*\}\s*))?
        |set\s+[-+]\S+(?:\s+\w+)?
        |(?:module\s+(?:load|add|use|purge|unload|swap|switch)\b|ml\s+(?!avail|list|spider|show|help)[\w.+/-])[^;&|]*
        |(?:conda|mamba|micromamba)\s+(?:de)?activate\b[^;&|]*
        |(?:source|\.)\s+(?:[^\s;&|]*/)?activate
        |umask\s+\S+ |ulimit\s+-\w+\s+\w+ |unset\s+[\w\s]+ |shopt\s+-[su]\s[\w\s]+
        |(?:(?:export|declare|local|readonly)\s+)?
         [A-Za-z_]\w*=(?:(?:[^\s'"`$;&|()]|\$\w|\$\{)*|"(?:[^"`$]|\$(?!\())*"|'[^']*')
    )\s*;?
    """,
    re.VERBOSE,
)
"""Commands that only change the shell they run in."""


def refuse_by_name(source: str) -> None:
    """Raises UsageError unless the name of a file says that it holds command lines."""
    suffix = os.path.splitext(source)[1].lower()
    if suffix in SUFFIXES or not os.path.isfile(
        source
    ):  # a pipe, as from <(...); one that does not exist is told later
        return
    if suffix in _TABLES:
        reason = "is a table of parameters, not a file of tasks"
        remedy = f"say what is to run for each row: pilotfish run --params {shlex.quote(source)} -- COMMAND {{column}}"
    elif os.access(source, os.X_OK):
        reason = "is a program, not a file of tasks"
        remedy = f"to run it as a task: {as_a_task(source)}; {_ASK_FOR_LINES}"
    else:
        reason = f"is of no kind known here ({suffix or 'no suffix'})"
        remedy = f"job descriptions are .json, .yaml or .toml, command lines {', '.join(SUFFIXES)}; {_ASK_FOR_LINES}"
    raise UsageError(reason, where=source, remedy=remedy)


def jobs_of(text: str, source: str) -> list[dict[str, Any]]:
    """One task per line, run by bash; empty lines and those that begin with # are passed over.

    Raises UsageError when the text is a script, a page, data, or empty.
    """
    _refuse_by_content(text, source)
    jobs = []
    for number, raw in enumerate(text.split("\n"), 1):
        line = raw.strip()
        if not line or line.startswith("#"):
            continue
        _refuse_part_of_script(line, raw, f"{source}: line {number}", source)
        # A shell's own `$` must survive both passes of variable substitution (each halves it).
        jobs.append({"name": f"line-{number}", "execution": {"script": line.replace("$", "$$$$")}})
    if not jobs:
        raise UsageError("there is no task in it", where=source, remedy="write one command per line")
    return jobs


def _refuse_by_content(text: str, source: str) -> None:
    if "\0" in text:
        raise UsageError("there are NUL bytes in it: this is data, not text", where=source)
    start = text.lstrip()
    if start.startswith("#!"):
        raise UsageError(
            "begins with #!, so it is a script, not a file of tasks",
            where=source,
            remedy=f"to run it as a task: {as_a_task(source)}; if each line is a command of its own, remove that line",
        )
    if start[:2] in ("<!", "<?") or start[:5].lower() == "<html":
        raise UsageError("is a page, not a file of command lines", where=source)


def _refuse_part_of_script(line: str, raw: str, where: str, source: str) -> None:
    if (len(line) - len(line.rstrip("\\"))) % 2 and raw.rstrip("\r").endswith("\\"):
        reason = "goes on in the next line, but each line is a task of its own"
    elif line in _PARTS_OF_SHELL or line.split(maxsplit=1)[0].rstrip(";") in _PARTS_OF_SHELL - {"{"}:
        reason = f'"{line[:40]}" is a part of a script, but each line is a task of its own'
    elif _ONLY_FOR_LATER_LINES.fullmatch(line):
        reason = f'"{line[:40]}" does nothing for the lines that follow, because each line is a task of its own'
    else:
        return
    remedy = f"write what belongs together on one line, with && or ;, or run the whole as a script: {as_a_task(source)}"
    raise UsageError(reason, where=where, remedy=remedy)
