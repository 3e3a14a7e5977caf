"""`pilotfish top` on a real terminal, which tmux is."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from msgspec import UNSET
from patience import PATIENCE_S, need

from pilotfish import Jobs, LocalManager
from pilotfish.api.top import Files


class Terminal:
    """A tmux of its own, with one command in it."""

    def __init__(self, folder: Path) -> None:
        self._socket = str(folder / "tmux")

    def tmux(self, *words: str) -> str:
        command = ["tmux", "-S", self._socket, "-f", "/dev/null", *words]
        return subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S, check=False).stdout

    def run(self, words: list[str], wd: Path) -> None:
        """In 80 x 24; what the command leaves on the screen stays there after its end."""
        environ = [f"-e{name}={os.environ[name]}" for name in ("PATH", "PILOTFISH_TEST") if name in os.environ]
        self.tmux(
            "new-session",
            "-d",
            "-x80",
            "-y24",
            f"-c{wd}",
            *environ,
            "sh",
            "-c",
            f"{' '.join(words)}; echo; echo left with $?; read x",
        )

    @property
    def screen(self) -> str:
        return self.tmux("capture-pane", "-p")

    def press(self, *keys: str) -> None:
        self.tmux("send-keys", *keys)


@pytest.fixture
def terminal(wd: Path) -> Iterator[Terminal]:
    need("tmux")
    terminal = Terminal(wd)
    yield terminal
    terminal.tmux("kill-server")


def test_a_pilot_can_be_looked_at_and_worked_on(wd: Path, terminal: Terminal, wait_until: Callable[..., None]) -> None:
    def sees(text: str) -> None:
        wait_until(lambda: text in terminal.screen, lambda: f"{text!r} in\n{terminal.screen}")

    with LocalManager(["--wd", str(wd), "--nodes", "n1:2,n2:1"], {"log_file": "/dev/null"}) as pilot:
        pilot.submit(Jobs().add(name="bad", script="echo it broke >&2; exit 3", stderr="bad.err"))
        pilot.submit(Jobs().add(name="sim", script="echo step $it; sleep 1000", stdout="${it}.out", iteration=3))
        wait_until(lambda: pilot.client.task_counts().executing == 3, "all cores to be in use")
        pilot.submit(Jobs().add(name="wide", exec="true", numCores=2, numNodes=1))
        terminal.run([sys.executable, "-m", "pilotfish", "top", "--interval", "0.1"], wd)
        sees("5 tasks: 0 done, 1 failed, 3 running, 1 waiting")
        sees(" sim:2  n")
        sees("exit code 3")
        sees("| it broke")
        terminal.press("j", "t")
        sees("  step ")
        terminal.press("Escape")
        sees("3 queue (1)")
        terminal.tmux("resize-window", "-x", "120", "-y", "40")
        sees("not enough cores are free: at most 0 on one node (the largest has 2), 0 of 3 in all")
        terminal.press("/", "sim:2", "Enter")
        sees("running (1)")
        terminal.press("c", "y")
        sees("1 cancelled or omitted")
        assert pilot.status("sim:2")["jobs"]["sim:2"]["data"]["status"] == "CANCELED"
        terminal.press("q")
        sees("left with 0")
        pilot.cancel(["sim", "wide"])


def test_without_a_terminal_the_picture_is_printed_once(wd: Path) -> None:
    with LocalManager(["--wd", str(wd), "--nodes", "n1:1"], {"log_file": "/dev/null"}) as pilot:
        pilot.submit(Jobs().add(name="a", exec="true").add(name="b", exec="sleep", args=["1000"]))
        pilot.wait4("a", PATIENCE_S)

        def top(*words: str) -> str:
            command = [sys.executable, "-m", "pilotfish", "top", *words]
            return subprocess.run(
                command, cwd=wd, capture_output=True, text=True, timeout=PATIENCE_S, check=True
            ).stdout

        plain = top(pilot.connection_file.parent.name)
        assert " 2 tasks: 1 done, 0 failed, 1 running, 0 waiting" in plain.splitlines()
        assert "\x1b" not in plain
        whole = json.loads(top("--json", "--filter", "b"))
        assert (whole["version"], [task["task"] for task in whole["running"]]) == (1, ["b"])
        pilot.cancel(["b"])


def test_the_last_lines_of_failures_come_from_the_pilot(wd: Path, wait_until: Callable[..., None]) -> None:
    """So they are seen where its files are not; of tasks without a file for stderr too. Other output is read here."""
    with LocalManager(["--wd", str(wd), "--nodes", "1"], {"log_file": "/dev/null"}) as pilot:
        work = Jobs().add(name="silent", script="exit 3").add(name="bad", script="echo it broke >&2; exit 3")
        pilot.submit(work.add(name="filed", script="printf '1\\n2\\n3\\n4' >&2; exit 3", stderr="err"))
        pilot.wait4(["silent", "bad", "filed"], PATIENCE_S)

        def lines() -> dict[str, object]:
            return {failure.task: failure.last_lines for failure in pilot.client.overview().failures}

        wait_until(lambda: UNSET not in (lines()["bad"], lines()["filed"]), "the lines")
        assert lines() == {"silent": UNSET, "bad": ["it broke"], "filed": ["2", "3", "4"]}
        seen = pilot.client.overview()
        assert Files(seen).tail("bad", "", True, 5) == "it broke"
        seen.pilot.id = "another"
        assert Files(seen).tail("bad", "", True, 5) == ""
