"""Commands on nodes where the controller's socket is not: requests and answers as files in the controller's own folder.

The folder is seen by all nodes, as jobs' folders are, and only its user may enter it. A client there writes `ID.N.request` in
one step and reads what is added to `ID.answer`, line by line; the controller looks once in a while.
"""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path
from typing import Any

LOOK_S = 0.3


class RelayedClient:
    """One client; like connections.Connection to the controller."""

    def __init__(self, answer: Path) -> None:
        self._answer = answer
        self.request: dict[str, Any] | None = None
        self.is_open = True

    def send(self, message: dict[str, Any], last: bool = False) -> None:
        with suppress(OSError), open(self._answer, "a", encoding="utf-8") as file:
            file.write(json.dumps(message) + "\n")
        self.is_open = self.is_open and not last


class Relay:
    """The controller's side."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(mode=0o700, exist_ok=True)
        self.folder = folder
        self._clients: dict[str, RelayedClient] = {}

    def requests(self) -> list[tuple[RelayedClient, dict[str, Any]]]:
        """What has come since the last look."""
        self._clients = {name: client for name, client in self._clients.items() if client.is_open}
        found = []
        for path in sorted(self.folder.glob("*.request")):
            name = path.name.partition(".")[0]
            try:
                message = json.loads(path.read_bytes())
                path.unlink()
            except (OSError, ValueError):
                continue
            if isinstance(message, dict):
                client = self._clients.setdefault(name, RelayedClient(self.folder / f"{name}.answer"))
                found.append((client, message))
        return found
