"""Lets the tests of whole processes import their `real_pilot`."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
