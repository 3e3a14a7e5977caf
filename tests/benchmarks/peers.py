"""The peers, each in an installation of its own: qcg-pilotjob and hyperqueue from PyPI, GNU parallel from Debian."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

CACHE = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "pilotfish-bench"


def measure(slots: int, tasks: int) -> Iterator[tuple[str, float]]:
    """(name, seconds per no-op task); a peer that cannot be had is said on stderr and left out."""
    for name, run in (("qcg-pilotjob", _qcg), ("hyperqueue", _hyperqueue), ("GNU parallel", _parallel)):
        try:
            yield name, run(slots, tasks)
        except (OSError, subprocess.SubprocessError) as error:
            print(f"{name} could not be measured: {error}", file=sys.stderr)


def _environment(package: str) -> Path:
    folder = CACHE / package
    if not (folder / "ready").exists():
        shutil.rmtree(folder, ignore_errors=True)
        subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
        subprocess.run([str(folder / "bin" / "pip"), "install", "--quiet", package], check=True, capture_output=True)
        (folder / "ready").touch()
    return folder / "bin"


_QCG = """
import sys, time
from qcg.pilotjob.api.manager import LocalManager
from qcg.pilotjob.api.job import Jobs
if __name__ == "__main__":
    slots, tasks = sys.argv[1], int(sys.argv[2])
    manager = LocalManager(["--nodes", slots, "--log", "error"], {"wdir": "."})
    begin = time.perf_counter()
    manager.submit(Jobs().add(name="a", exec="/bin/true", iteration=tasks))
    manager.wait4("a")
    print("seconds", time.perf_counter() - begin)
    manager.finish()
"""


def _qcg(slots: int, tasks: int) -> float:
    binaries = _environment("qcg-pilotjob")
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "bench.py").write_text(_QCG)
        command = [str(binaries / "python"), "bench.py", str(slots), str(tasks)]
        done = subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True, timeout=300)
    line = next(line for line in done.stdout.splitlines() if line.startswith("seconds"))
    return float(line.split()[1]) / tasks


def _hyperqueue(slots: int, tasks: int) -> float:
    hq = str(_environment("hyperqueue") / "hq")
    with tempfile.TemporaryDirectory() as folder:
        base = [hq, "--server-dir", folder]
        server = subprocess.Popen([*base, "server", "start"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            _until([*base, "server", "info"])
            command = [*base, "worker", "start", "--cpus", str(slots)]
            worker = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            _until([*base, "worker", "info", "1"])
            begin = time.perf_counter()
            submit = ["submit", "--array", f"1-{tasks}", "--stdout", "none", "--stderr", "none", "--wait", "/bin/true"]
            subprocess.run([*base, *submit], check=True, capture_output=True, timeout=300)
            seconds = time.perf_counter() - begin
            subprocess.run([*base, "server", "stop"], check=False, capture_output=True)
            worker.wait(20)
        finally:
            server.kill()
            server.wait()
    return seconds / tasks


def _until(command: list[str]) -> None:
    deadline = time.monotonic() + 20
    while subprocess.run(command, check=False, capture_output=True).returncode:
        if time.monotonic() > deadline:
            raise subprocess.TimeoutExpired(command, 20)
        time.sleep(0.05)


def _parallel(slots: int, tasks: int) -> float:
    program = shutil.which("parallel")
    if program is None:
        raise OSError("GNU parallel is not installed (apt-get install parallel)")
    count = tasks // 10  # it is that much slower
    text = "".join(f"{number}\n" for number in range(count))
    begin = time.perf_counter()
    subprocess.run([program, f"-j{slots}", "/bin/true", "{}"], input=text, text=True, check=True, capture_output=True)
    return (time.perf_counter() - begin) / count
