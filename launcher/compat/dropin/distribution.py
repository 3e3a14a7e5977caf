"""What `importlib.metadata` tells of a distribution that Pilotfish stands in for."""

from __future__ import annotations

from importlib.metadata import Distribution
from os import PathLike
from typing import Any


class Named(Distribution):
    """A name and a version; it has no files."""

    def __init__(self, name: str, version: str) -> None:
        self._text = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\nSummary: served by Pilotfish\n"

    def read_text(self, filename: str) -> str | None:
        return self._text if filename == "METADATA" else None

    def locate_file(self, path: str | PathLike[str]) -> Any:
        raise FileNotFoundError(path)
