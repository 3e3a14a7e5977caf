"""Makes the simulated site, and the world of the core that it is made of, importable."""

from __future__ import annotations

import sys
from pathlib import Path

HERE = Path(__file__).parent
for folder in (HERE, HERE.parents[1] / "pilot" / "model"):
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))
