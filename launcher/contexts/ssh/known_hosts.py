"""Host keys that the user's known_hosts files hold for one host, as sshd(8) describes these files.

paramiko reads them too, but knows neither patterns nor markers, and gives up at the first line that it does not understand: one
host authority of another site and no host could be reached.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path


@dataclass
class KnownKeys:
    """Attributes:
    keys: of the host itself, as (type, key in its binary form), in the order of the files.
    revoked: keys that must not be accepted from it.
    authorities: how many authorities may vouch for it.
    by_pattern: some line names it by a pattern, not by its name.
    """

    keys: list[tuple[str, bytes]] = field(default_factory=list)
    revoked: set[bytes] = field(default_factory=set)
    authorities: int = 0
    by_pattern: bool = False

    @property
    def types(self) -> list[str]:
        return list(dict.fromkeys(kind for kind, _ in self.keys))


def look_up(names: Iterable[str], files: Iterable[str]) -> KnownKeys:
    """What the files say about the first of the names about which they say anything; files that are missing are skipped."""
    found, lines = KnownKeys(), [line for file in files for line in _lines(file)]
    for name in names:
        for marker, patterns, kind, key in lines:
            how = _matches(patterns, name)
            if not how:
                continue
            found.by_pattern |= how == "pattern"
            if marker == "@revoked":
                found.revoked.add(key)
            elif marker == "@cert-authority":
                found.authorities += 1
            elif not marker:
                found.keys.append((kind, key))
        if found != KnownKeys():
            break
    return found


def _lines(file: str) -> Iterator[tuple[str, str, str, bytes]]:
    """(marker, host patterns, type of the key, key); lines that are none are passed over."""
    try:
        text = Path(file).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return
    for line in text.splitlines():
        words = line.split()
        marker = words.pop(0) if words and words[0].startswith("@") else ""
        if len(words) < 3 or words[0].startswith("#"):
            continue
        try:
            key = base64.b64decode(words[2], validate=True)
        except (binascii.Error, ValueError):
            continue
        yield marker, words[0], words[1], key


def _matches(patterns: str, name: str) -> str:
    """Whether a line is about that host: "name" or "pattern", empty when it is not."""
    if patterns.startswith("|1|"):
        return "name" if _is_hash_of(patterns, name) else ""
    how = ""
    for pattern in patterns.lower().split(","):
        negated = pattern.startswith("!")
        plain = pattern.removeprefix("!")
        is_pattern = "*" in plain or "?" in plain
        # Brackets are part of a name ([host]:port), and no set of signs as in shells.
        if plain == name.lower() or (is_pattern and fnmatchcase(name.lower(), plain.replace("[", "[[]"))):
            if negated:
                return ""
            how = how or ("pattern" if is_pattern else "name")
    return how


def _is_hash_of(hashed: str, name: str) -> bool:
    try:
        _, _, salt, digest = hashed.split("|")
        made = hmac.new(base64.b64decode(salt), name.lower().encode(), hashlib.sha1).digest()
        return hmac.compare_digest(made, base64.b64decode(digest))
    except (ValueError, binascii.Error):
        return False
