"""The page docs/tutorial-workstation.md: its commands, one after another; what they print looks like it."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
from pathlib import Path

from console_pages import examples, shape
from patience import PATIENCE_S

PAGE = Path(__file__).parents[1] / "docs/tutorial-workstation.md"


def squeezed(text: str) -> set[str]:
    """Columns are as wide as what is in them."""
    return {re.sub(r"[ -]+", " ", line) for line in shape(text)}


def test_the_page_is_what_happens(wd: Path) -> None:
    """With fewer rows, as the page itself proposes."""
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    environ = {name: value for name, value in os.environ.items() if not name.startswith("PILOTFISH_HOME")}
    for command, printed in examples(PAGE):
        if command.startswith("cat ") and printed:
            (wd / command.removeprefix("cat ")).write_text(printed)
        done = subprocess.run(
            ["bash", "-c", command.replace("N=10000", "N=1000").replace("python3 ", f"{sys.executable} ")],
            cwd=wd,
            env=environ | {"PATH": path, "COLUMNS": "120"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
            timeout=PATIENCE_S,
        )
        found = done.stdout.replace(str(wd), "/home/ann").replace(socket.gethostname(), "desk")
        assert done.returncode in (0, 1), f"{command}: {found}"
        assert squeezed(found) == squeezed(printed), f"{command} prints\n{found}"
