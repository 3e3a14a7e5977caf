"""Files of work: job descriptions or requests as JSON, YAML or TOML, or one shell command per line."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any, NamedTuple

from ..pilot.model.errors import UsageError

FORMATS = ("json", "yaml", "toml", "lines")
_SUFFIXES = {".json": "json", ".yaml": "yaml", ".yml": "yaml", ".toml": "toml"}


class JobFile(NamedTuple):
    """What a file holds, and in which of FORMATS it was written."""

    form: str
    jobs: list[dict[str, Any]]


def load(source: str, form: str | None = None) -> JobFile:
    """The job descriptions in a file, or on standard input for `-`.

    A file holds an array of descriptions, an object `{jobs: [...]}`, one description, or an array of requests of which the
    `submit` ones count. Without `form` the suffix decides; a file with another suffix has one command per line.

    Raises UsageError naming file, place and remedy.
    """
    text = _read(source)
    form = form or _SUFFIXES.get(Path(source).suffix.lower()) or _sniffed(source, text)
    if form == "lines":
        return JobFile(form, _from_lines(text, source))
    return JobFile(form, _jobs_of(_parse(text, form, source), source))


def _read(source: str) -> str:
    try:
        return sys.stdin.read() if source == "-" else Path(source).read_text(encoding="utf-8")
    except OSError as error:
        raise UsageError(f"cannot be read: {error.strerror}", where=source) from error
    except UnicodeDecodeError as error:
        raise UsageError(f"is not UTF-8 text: byte {error.start}", where=source) from error


def _sniffed(source: str, text: str) -> str:
    """Standard input has no suffix; JSON shows by its first character."""
    return "json" if source == "-" and text.lstrip()[:1] in ("[", "{") else "lines"


def _parse(text: str, form: str, source: str) -> Any:
    try:
        if form == "json":
            return json.loads(text)
        if form == "toml":
            return _toml(text)
        import yaml

        return yaml.safe_load(text)
    except ValueError as error:  # json.JSONDecodeError and TOMLDecodeError are such; both name the place
        raise UsageError(f"is not {form.upper()}: {error}", where=source) from error
    except Exception as error:
        if type(error).__module__.partition(".")[0] != "yaml":
            raise
        raise UsageError(f"is not YAML: {' '.join(str(error).split())}", where=source) from error


def _toml(text: str) -> Any:
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib
    return tomllib.loads(text)


def _from_lines(text: str, source: str) -> list[dict[str, Any]]:
    """One task per line, run by bash; empty lines and those that begin with # are passed over."""
    lines = [(number, line.strip()) for number, line in enumerate(text.splitlines(), 1)]
    jobs = [
        # A shell's own `$` must survive both passes of variable substitution (each halves it).
        {"name": f"line-{number}", "execution": {"script": line.replace("$", "$$$$")}}
        for number, line in lines
        if line and not line.startswith("#")
    ]
    if not jobs:
        raise UsageError("there is no task in it", where=source, remedy="write one command per line")
    return jobs


def _jobs_of(value: Any, source: str) -> list[dict[str, Any]]:
    if isinstance(value, dict):
        value = value.get("jobs", [value])
    if not isinstance(value, list) or not value:
        raise UsageError("there are no jobs in it", where=source, remedy="write an array of job descriptions")
    jobs: list[dict[str, Any]] = []
    for number, element in enumerate(value):
        if not isinstance(element, dict):
            raise UsageError(f"element {number} is not an object", where=source)
        if "request" not in element:
            jobs.append(element)
        elif element["request"] == "submit":
            jobs += _jobs_of(element.get("jobs"), f"{source}: request {number}")
        elif element["request"] != "control":  # the end of the file is the end of the work anyway
            remedy = "send it with `pilotfish service --file-path`"
            raise UsageError(f"request {element['request']!r} makes no sense here", where=source, remedy=remedy)
    return jobs
