"""Draws docs/pictures/top.svg: `pilotfish top` as a terminal of 100 x 32 shows a pilot that really runs.

python docs/pictures/top.py [FILE]
"""

from __future__ import annotations

import io
import re
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from rich.console import Console, Group
from rich.terminal_theme import TerminalTheme

from pilotfish import Jobs, LocalManager
from pilotfish.api.top import Files
from pilotfish.api.top_screen import screen
from pilotfish.api.top_view import View

SIZE = (100, 32)
_RUNNING = 6
"""Of the nodes below: two of `train`, and four of `sim` on what these leave."""
NODES = "node1:8:2gpu:64G,node2:8:2gpu:64G"
_COLOURS = (
    (40, 44, 52),
    (240, 100, 100),
    (120, 200, 110),
    (230, 190, 90),
    (100, 160, 240),
    (200, 130, 220),
    (90, 200, 210),
)
_THEME = TerminalTheme((24, 26, 31), (220, 223, 228), [*_COLOURS, (220, 223, 228)])


def main() -> None:
    file = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).with_name("top.svg")
    with _busy_pilot() as pilot:
        seen = pilot.client.overview()
        lines = screen(seen, View(pane="running", line=2), SIZE, Files(seen))
        console = Console(record=True, width=SIZE[0], file=io.StringIO(), force_terminal=True, color_system="truecolor")
        console.print(Group(*lines))
    text = console.export_svg(title="pilotfish top", theme=_THEME)
    file.write_text(re.sub(r",\s*url\([^)]*\) format\([^)]*\)", "", text))  # fonts of another site


@contextmanager
def _busy_pilot() -> Iterator[LocalManager]:
    """One that has done some work, has more, and of which something has failed."""
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="pf-"))
        words = ["--wd", folder, "--nodes", NODES, "--id", "night"]
        pilot = stack.enter_context(LocalManager(words, {"log_file": "/dev/null"}))
        program = 'sleep 0.4; test $it != 13 || { echo "solver: residual 3.1e+05 after 500 steps" >&2; exit 4; }'
        work = Jobs().add(
            name="train", exec="sleep", args=["600"], numNodes=1, numCores=4, gpus=2, mem="32G", iteration=3
        )
        pilot.submit(work.add(name="mesh", script=program, iteration=60, stderr="mesh-${it}.err"))
        pilot.wait4("mesh")
        work = Jobs().add(name="sim", exec="sleep", args=["600"], iteration=400, numCores={"exact": 2})
        pilot.submit(work.add(name="plot", exec="true", after=["sim", "train"]))
        while pilot.client.task_counts().executing < _RUNNING or pilot.client.overview(0).tasks.rate is None:
            time.sleep(0.1)
        yield pilot
        pilot.cancel(["sim", "train"])


if __name__ == "__main__":
    main()
