"""INI files with attributes and resources of job scripts."""

from __future__ import annotations

import configparser
import os
import re
from typing import Any

from ...description.schema import DescriptionError


class IniError(DescriptionError, configparser.Error):
    """An INI file has something that is no setting of job scripts."""

    code = "ini"

    def __init__(self, what: str, *, where: str = "", remedy: str = "") -> None:
        DescriptionError.__init__(self, what, where=where, remedy=remedy)
        self.message = str(self)  # which configparser's own have

    def __str__(self) -> str:
        return DescriptionError.__str__(self)


_ATTRIBUTE = re.compile(r"[A-Za-z]\w*")
_WHOLE = ("nodes", "ppn", "threads", "mem", "max_sleep_interval")
"""Values of INI files that are numbers."""


def read_ini(filename: str | os.PathLike[str]) -> tuple[dict[str, Any], dict[str, Any]]:
    """(attributes, resources). Raises configparser.Error."""
    parser = configparser.ConfigParser(default_section="")
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    with open(filename) as file:
        parser.read_file(file)
    remedy = "write [Attributes] and [Resources]"
    if unknown := sorted(set(parser.sections()) - {"Attributes", "Resources"}):
        raise IniError(f"Invalid section {unknown[0]!r}", where=os.fspath(filename), remedy=remedy)
    if not parser.sections():
        what = "must contain at least one of the sections Attributes and Resources"
        raise IniError(what, where=os.fspath(filename), remedy=remedy)
    found = [dict(parser[name]) if parser.has_section(name) else {} for name in ("Attributes", "Resources")]
    for name in found[0]:
        if not _ATTRIBUTE.fullmatch(name):
            raise IniError(f"Key {name!r} is invalid: it is no attribute", where=f"{os.fspath(filename)} [Attributes]")
    for name in ("resources", "backends"):
        if any(name in each for each in found):
            raise IniError(f"Key {name!r} is not allowed: it is set in Python", where=os.fspath(filename))
    attributes, resources = ({name: _number(name, text) for name, text in each.items()} for each in found)
    return attributes, resources


def _number(name: str, text: str) -> Any:
    return int(text) if name in _WHOLE and text.strip().isdigit() else text
