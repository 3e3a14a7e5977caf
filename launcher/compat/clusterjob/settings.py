"""INI files with attributes and resources of job scripts."""

from __future__ import annotations

import configparser
import os
import re
from typing import Any

from ...description.schema import DescriptionError

_ATTRIBUTE = re.compile(r"[A-Za-z]\w*")
_WHOLE = ("nodes", "ppn", "threads", "mem", "max_sleep_interval")
"""Values of INI files that are numbers."""


def read_ini(filename: str | os.PathLike[str]) -> tuple[dict[str, Any], dict[str, Any]]:
    """(attributes, resources). Raises DescriptionError, configparser.Error."""
    parser = configparser.ConfigParser(default_section="")
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    with open(filename) as file:
        parser.read_file(file)
    unknown = set(parser.sections()) - {"Attributes", "Resources"}
    if unknown or not parser.sections():
        what = f"has the section [{unknown.pop()}]" if unknown else "has no sections"
        raise DescriptionError(what, where=os.fspath(filename), remedy="write [Attributes] and [Resources]")
    found = [dict(parser[name]) if parser.has_section(name) else {} for name in ("Attributes", "Resources")]
    for name in found[0]:
        if not _ATTRIBUTE.fullmatch(name) or name in ("resources", "backends"):
            raise DescriptionError(f"{name!r} is no attribute", where=f"{os.fspath(filename)} [Attributes]")
    attributes, resources = ({name: _number(name, text) for name, text in each.items()} for each in found)
    return attributes, resources


def _number(name: str, text: str) -> Any:
    return int(text) if name in _WHOLE and text.strip().isdigit() else text
