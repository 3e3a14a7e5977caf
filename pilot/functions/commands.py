"""A command as a call: runs a program and tells how it went. Part of a function worker, so it imports nothing of ours."""

from __future__ import annotations

import os
import subprocess
import sys
from glob import glob
from typing import Any

MOST_OUTPUT = 16 << 20
"""Of what a command prints, the end is kept."""


def run(words: list[str], wd: str, env: dict[str, str], stdin: bytes, files: list[str]) -> dict[str, Any]:
    """Run it in the folder `wd`, which is made; returns what CommandResult needs."""
    if wd:
        os.makedirs(wd, exist_ok=True)
    folder = os.path.abspath(wd or ".")
    done = subprocess.run(
        words,
        cwd=folder,
        env={**os.environ, **env},
        input=stdin,
        capture_output=True,
        start_new_session=False,
        check=False,
    )
    sys.stdout.flush()
    found = sorted({path for pattern in files for path in glob(os.path.join(folder, pattern), recursive=True)})
    return {"code": done.returncode, "stdout": done.stdout[-MOST_OUTPUT:], "stderr": done.stderr[-MOST_OUTPUT:],
            "files": found, "wd": folder}  # fmt: skip
