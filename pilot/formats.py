"""The forms in which people write files: how each is read, in one place.

Errors name the place and never quote the line: there may be a password in it. Nothing is imported that is not needed: an agent
reads no such file.
"""

from __future__ import annotations

import json
import re
import sys
from typing import Any

SUFFIXES = {".json": "json", ".yaml": "yaml", ".yml": "yaml", ".toml": "toml"}


_TRAILING_COMMA = re.compile(r",\s*[}\]]")


class FormatError(ValueError):
    """A text is not of its form; the words say where."""


def parse(text: str, form: str) -> Any:
    """The value of a text of the form `json`, `yaml` or `toml`. Raises FormatError, or RecursionError."""
    return _READERS[form](text)


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        comma = text.rfind(",", 0, error.pos + 1)
        if comma >= 0 and _TRAILING_COMMA.match(text, comma):  # Pythons before 3.13 point behind it
            error = json.JSONDecodeError("Trailing comma, which JSON does not allow", text, comma)
        raise FormatError(str(error) if text.strip() else "it is empty") from error


def _yaml(text: str) -> Any:
    import yaml

    try:
        return yaml.safe_load(text)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        place = f": line {mark.line + 1} column {mark.column + 1}" if mark else ""
        raise FormatError(f"{error.problem}{place}") from None
    except yaml.YAMLError as error:  # a character that YAML does not have
        raise FormatError(" ".join(str(error).split())) from None


def _toml(text: str) -> dict[str, Any]:
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib
    try:
        tables: dict[str, Any] = tomllib.loads(text)
    except ValueError as error:
        raise FormatError(str(error)) from error
    return tables


_READERS = {"json": _json, "yaml": _yaml, "toml": _toml}
