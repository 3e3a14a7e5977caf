"""The page docs/tutorial-cluster.md: its commands, one after another, on the login node of a real Slurm."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from console_pages import examples, shape
from emulated import Slurm
from patience import PATIENCE_S

PAGE = Path(__file__).parents[2] / "docs/tutorial-cluster.md"


def squeezed(text: str) -> set[str]:
    """Columns are as wide as what is in them; which task was slow, and where, is chance."""
    return {re.sub(r"[ -]+", " ", line) for line in shape(text) if not line.startswith(("slowest", "by node"))}


def test_the_page_is_what_happens(slurm: Slurm, wd: Path) -> None:
    """With fewer rows."""
    environ = slurm.environ | {"PATH": f"{Path(sys.executable).parent}:{slurm.environ['PATH']}", "COLUMNS": "120"}
    job = 0
    for command, printed in examples(PAGE):
        if command.startswith("cat ") and printed and "slurm-" not in command:
            (wd / command.removeprefix("cat ")).write_text(printed)
        here = re.sub(r"slurm-[0-9]+", f"slurm-{job}", command.replace("N=10000", "N=300"))
        done = subprocess.run(
            slurm.hosts.ctl.command("bash", "-c", f"cd {wd}; {here}"),
            env=environ,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
            timeout=PATIENCE_S,
        )
        found = done.stdout.replace(str(wd), "/home/ann")
        submitted = re.fullmatch(r"Submitted batch job ([0-9]+)\n", found)
        job = int(submitted[1]) if submitted else job
        if "pilotfish wait" in here:
            assert slurm.wait_for_end(str(job)) == "COMPLETED"
        assert done.returncode == 0, f"{command}: {found}"
        assert squeezed(found) == squeezed(printed), f"{command} prints\n{found}"
