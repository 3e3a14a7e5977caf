"""Pages that show commands and what they print: read, and compared with what happens."""

from __future__ import annotations

import re
from pathlib import Path


def examples(page: Path) -> list[tuple[str, str]]:
    """(command, what it prints) in their order."""
    found: list[tuple[str, str]] = []
    for block in re.findall(r"```console\n(.*?)```", page.read_text(), re.DOTALL):
        for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            command, _, output = part.partition("\n")
            found.append((command, output))
    return found


def shape(text: str) -> set[str]:
    """The lines without numbers, hashes and the order of what happens at the same time; progress only some runs show."""
    plain = re.sub(r"[+-]?[0-9]+|[KMGT]iB", "0", re.sub(r"\b[0-9a-f]{8,}\b", "0", text))
    return {line.strip() for line in plain.splitlines() if " tasks done" not in line}
