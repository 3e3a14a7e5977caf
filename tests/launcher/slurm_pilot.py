"""A pilot that answers to Slurm's commands, and what its users type."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from patience import PATIENCE_S, wait_until


class Cluster:
    """Two virtual nodes of four cores, partition `debug`. Commands run as those of a program below `pilotfish as slurm`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        os.mkfifo(folder / "end")
        script = "env -0 > environ.draft; mv environ.draft environ; read line < end; exit 7"
        options = ["--nodes", "4:4000M,4:4000M", "--partition", "debug", "--kill-grace", "1", "--wd", str(folder)]
        environ = {**os.environ, "XDG_STATE_HOME": str(folder)}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "pilotfish", "as", "slurm", *options, "--", "sh", "-c", script],
            cwd=folder,
            env=environ,
        )
        wait_until(lambda: (folder / "environ").exists() or self.process.poll() is not None, "the program has begun")
        words = (folder / "environ").read_bytes().split(b"\0")[:-1]
        self.environ = dict(os.fsdecode(word).split("=", 1) for word in words)

    def run(
        self, *words: str, cwd: Path | None = None, code: int = 0, stdin: str | None = None, **variables: str
    ) -> subprocess.CompletedProcess[str]:
        """A command, which must end with this code. What marks processes of the test is handed on."""
        environ = {**self.environ, **variables, "PILOTFISH_TEST": os.environ["PILOTFISH_TEST"]}
        done = subprocess.run(
            words,
            cwd=cwd or self.folder,
            env=environ,
            input=stdin,
            stdin=subprocess.DEVNULL if stdin is None else None,
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
            check=False,
        )
        assert done.returncode == code, (words, done)
        return done

    def __call__(self, *words: str, **options: object) -> str:
        """What a command prints."""
        return self.run(*words, **options).stdout  # type: ignore[arg-type]

    def submit(self, *words: str, **options: object) -> str:
        """The id."""
        return self("sbatch", "--parsable", *words, **options).strip()

    def state(self, job: str) -> str:
        return self("sacct", "-nXP", "-j", job, "-o", "State").strip()

    def until(self, job: str, *states: str) -> None:
        wait_until(lambda: set(self.state(job).split("\n")) <= set(states), f"job {job} is {states}")

    def close(self) -> int:
        (self.folder / "end").write_text("\n")
        return self.process.wait(PATIENCE_S)
