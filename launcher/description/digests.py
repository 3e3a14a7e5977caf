"""How hashes of descriptions are made: as DPDispatcher makes them."""

from __future__ import annotations

import hashlib
import json
from typing import Any


def digest(value: Any) -> str:
    """sha1 of the value's JSON as Python writes it, keys in their order."""
    return hashlib.sha1(json.dumps(value).encode(), usedforsecurity=False).hexdigest()
