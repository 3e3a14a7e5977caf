"""docs/batch-jobs.md: what it shows as typed and printed is what happens."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

from patience import PATIENCE_S

PAGE = Path(__file__).parents[3] / "docs/batch-jobs.md"


def test_the_page_is_true_word_for_word(wd: Path) -> None:
    """All its sessions, one after the other in one folder."""
    blocks = re.findall(r"^```console\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    steps = [step.partition("\n") for block in blocks for step in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]]
    script = [f'pilotfish() {{ "{sys.executable}" -m pilotfish "$@"; }}', "set -e"]
    script += [line for number, (command, _, _) in enumerate(steps) for line in (f"echo @{number}@", command)]
    home = {"HOME": str(wd), "PILOTFISH_HOME": str(wd / "h"), "XDG_CONFIG_HOME": str(wd / "c"), "PATH": "/usr/bin:/bin"}
    environ = {name: value for name, value in os.environ.items() if not name.startswith(("SLURM", "PILOTFISH"))}
    (wd / "work").mkdir()
    done = subprocess.run(
        ["bash", "-c", "\n".join(script)],
        cwd=wd / "work",
        env=environ | home,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert re.split(r"@\d+@\n", done.stdout)[1:] == [printed for _, _, printed in steps]
