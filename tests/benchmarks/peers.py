"""The peers, each in an installation of its own: GNU parallel from Debian, all others from PyPI.

Here are those that run commands; those that call Python functions (executorlib, Parsl, dask) are in calls.py.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from importlib.metadata import distributions
from pathlib import Path

CACHE = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "pilotfish-bench"


_MOST_S = 300
"""What a peer may take; its time counts only from its first result on."""


def measure(slots: int, tasks: int) -> Iterator[tuple[str, float]]:
    """(name, seconds per no-op task); a peer that cannot be had is said on stderr and left out."""
    for name, run in (("qcg-pilotjob", _qcg), ("hyperqueue", _hyperqueue), ("GNU parallel", _parallel)):
        try:
            yield name, run(slots, tasks)
        except (OSError, subprocess.SubprocessError) as error:
            print(f"{name} could not be measured: {error}", file=sys.stderr)


def environment(package: str) -> Path:
    folder = CACHE / package
    if not (folder / "ready").exists():
        shutil.rmtree(folder, ignore_errors=True)
        subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
        subprocess.run([str(folder / "bin" / "pip"), "install", "--quiet", package], check=True, capture_output=True)
        (folder / "ready").touch()
    return folder / "bin"


def version(package: str) -> str:
    """Of what is installed there."""
    (found,) = distributions(name=package, path=[str(path) for path in CACHE.glob(f"{package}/lib/*/site-packages")])
    return f"{package} {found.version}"


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
    return script("qcg-pilotjob", _QCG, slots, tasks)


def script(package: str, program: str, slots: int, tasks: int) -> float:
    """Run a program in the package's environment, as if that was activated; it prints `seconds N`."""
    binaries = environment(package)
    environ = {**os.environ, "PATH": f"{binaries}{os.pathsep}{os.environ['PATH']}"}
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "bench.py").write_text(program)
        command = [str(binaries / "python"), "bench.py", str(slots), str(tasks)]
        done = subprocess.run(
            command, cwd=folder, env=environ, check=True, capture_output=True, text=True, timeout=_MOST_S
        )
    line = next(line for line in done.stdout.splitlines() if line.startswith("seconds"))
    return float(line.split()[1]) / tasks


_HYPERQUEUE = """
import sys, time
from hyperqueue import Job, LocalCluster
from hyperqueue.cluster import WorkerConfig
slots, tasks = int(sys.argv[1]), int(sys.argv[2])
with LocalCluster() as cluster:
    cluster.start_worker(WorkerConfig(cores=slots))
    client = cluster.client()
    job = Job()
    for _ in range(tasks):
        job.program(["/bin/true"], stdout=None, stderr=None)
    begin = time.perf_counter()
    client.wait_for_jobs([client.submit(job)])
    print("seconds", time.perf_counter() - begin)
"""


def _hyperqueue(slots: int, tasks: int) -> float:
    """Through its Python API, which is what PyPI has (the command is not in the package). It looks once a second."""
    return script("hyperqueue", _HYPERQUEUE, slots, tasks)


def _parallel(slots: int, tasks: int) -> float:
    program = shutil.which("parallel")
    if program is None:
        raise OSError("GNU parallel is not installed (apt-get install parallel)")
    count = tasks // 10  # it is that much slower
    text = "".join(f"{number}\n" for number in range(count))
    begin = time.perf_counter()
    subprocess.run([program, f"-j{slots}", "/bin/true", "{}"], input=text, text=True, check=True, capture_output=True)
    return (time.perf_counter() - begin) / count
