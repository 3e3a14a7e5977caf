"""The page docs/walkthrough.md: its commands, one after another, on an emulated cluster; what they print looks like it."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

from console_pages import examples, shape
from emulated import Slurm
from patience import PATIENCE_S

PAGE = Path(__file__).parents[2] / "docs/walkthrough.md"


class Laptop:
    """A folder that is the home of somebody on the laptop; the page's paths lead to where they are here."""

    def __init__(self, cluster: Slurm, wd: Path) -> None:
        self.home = wd / "laptop"
        (self.home / ".ssh").mkdir(parents=True)
        (self.home / ".ssh/config").write_text((wd / "ssh_config").read_text())
        self._places = {"/scratch/ann": str(wd / "scratch"), "/opt/pilotfish/bin": str(Path(sys.executable).parent)}
        environ = {name: value for name, value in os.environ.items() if not name.startswith(("SLURM", "PILOTFISH"))}
        path = f"{Path(sys.executable).parent}:{environ['PATH']}"
        self._environ = environ | {"HOME": str(self.home), "PATH": path, "COLUMNS": "120"}
        self._host = cluster.hosts["node4"]

    def has(self, name: str, text: str) -> None:
        file = self.home / name.removeprefix("~/")
        file.parent.mkdir(parents=True, exist_ok=True)
        for there, here in self._places.items():
            text = text.replace(there, here)
        file.write_text(text)

    def runs(self, command: str) -> str:
        """What a command prints, as the page would show it."""
        done = subprocess.run(
            self._host.command("bash", "-c", f"cd {self.home}; {command}"),
            env=self._environ,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
            timeout=PATIENCE_S,
        )
        assert done.returncode in (0, 75), f"{command}: {done.stdout}"
        text = done.stdout
        for there, here in self._places.items():
            text = text.replace(here, there)
        return text.replace(str(self.home), "/home/ann")


def test_the_page_is_what_happens(cluster: Slurm, wd: Path) -> None:
    cluster.run("scontrol", "update", "nodename=node4", "state=drain", "reason=laptop")
    laptop = Laptop(cluster, wd)
    shown = []
    for command, printed in examples(PAGE):
        if command.startswith("cat ") and printed:
            laptop.has(command.removeprefix("cat "), printed)
        found = laptop.runs(command)
        deadline = time.monotonic() + PATIENCE_S
        while "status" in command and shape(found) != shape(printed) and time.monotonic() < deadline:
            found = laptop.runs(command)  # it depends on how far things are
        shown.append((command, printed, found))
    print("".join(f"$ {command}\n{found}" for command, _, found in shown))  # for whoever brings the page up to date
    for command, printed, found in shown:
        assert shape(found) == shape(printed), f"{command} prints\n{found}"
