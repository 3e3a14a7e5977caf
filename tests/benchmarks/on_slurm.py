"""No-op tasks in an allocation of a real Slurm on this machine, against every other way to run them there.

python tests/benchmarks/on_slurm.py [TASKS]      (root; slurm-wlm, munge)

The four nodes are emulated on this machine, so all ways share its cores; the local pilot has as many slots on the same ones.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent), str(HERE.parent / "cluster")]

import peers  # noqa: E402
from emulated import Slurm  # noqa: E402
from patience import wait_until  # noqa: E402

NODES = 4
_SLOW = 200
"""Tasks of the ways that need tens of milliseconds for each."""

_OURS = """
import sys, time
from pilotfish import Jobs, LocalManager
tasks, options = int(sys.argv[1]), sys.argv[2:]
with LocalManager(["--wd", ".", *options], {"log_file": "/dev/null"}) as pilot:
    slots = pilot.resources()["total_cores"]
    begin = time.perf_counter()
    pilot.submit(Jobs().add_std(name="a", execution={"exec": "/bin/true"}, iteration={"stop": tasks}))
    pilot.wait4("a")
    print("seconds", time.perf_counter() - begin)
    done = pilot.system_status()["IterationStats"]["FinishedIterations"]
    assert (slots, done) == (4, tasks), (slots, done)
"""

_QCG = """
import sys, time
from qcg.pilotjob.api.manager import LocalManager
from qcg.pilotjob.api.job import Jobs
if __name__ == "__main__":
    manager = LocalManager(["--log", "error"], {"wdir": "."})
    begin = time.perf_counter()
    manager.submit(Jobs().add(name="a", exec="/bin/true", iteration=int(sys.argv[1])))
    manager.wait4("a")
    print("seconds", time.perf_counter() - begin)
    manager.finish()
"""

_SRUN = """
begin=$(date +%s%N)
for number in $(seq {tasks}); do srun --nodes=1 --ntasks=1 --exact --mem=0 /bin/true & done
wait
took=$(( $(date +%s%N) - begin ))
printf 'seconds %d.%09d\\n' $((took / 1000000000)) $((took % 1000000000))
"""


def measure(tasks: int) -> Iterator[tuple[str, float]]:
    """(way, seconds per task): the local pilot, the same in the allocation, qcg-pilotjob in it, srun per task, a job array."""
    with Slurm(nodes=NODES, cpus=1) as slurm:
        yield "local pilot on the same cores", _local(tasks) / tasks
        yield "pilot in an allocation of 4 nodes", _in_allocation(slurm, sys.executable, _OURS, tasks) / tasks
        try:
            python = str(peers.environment("qcg-pilotjob") / "python")
            yield "qcg-pilotjob in the same allocation", _in_allocation(slurm, python, _QCG, tasks // 10) * 10 / tasks
        except (OSError, subprocess.SubprocessError, AssertionError) as error:
            print(f"qcg-pilotjob could not be measured: {error}", file=sys.stderr)
        yield "srun for each task", _job(slurm, _SRUN.format(tasks=_SLOW)) / _SLOW
        yield "a job array", _array(slurm) / _SLOW


def _seconds(text: str) -> float:
    return float(next(line for line in text.splitlines() if line.startswith("seconds")).split()[1])


def _local(tasks: int) -> float:
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-c", _OURS, str(tasks), "--nodes", str(NODES)]
        return _seconds(subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True).stdout)


def _in_allocation(slurm: Slurm, python: str, program: str, tasks: int) -> float:
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "bench.py").write_text(program)
        return _job(slurm, f"{python} bench.py {tasks}", Path(folder))


def _job(slurm: Slurm, script: str, wd: Path | None = None) -> float:
    """What a batch job over all nodes prints as `seconds N`."""
    with tempfile.TemporaryDirectory() as folder:
        wd = wd or Path(folder)
        # Asking Slurm for the end again and again would take a tenth of the cores from what is measured.
        tells_end = f"trap 'touch {wd}/over' EXIT\n{script}"
        job = slurm.submit(tells_end, wd, f"--nodes={NODES}", "--ntasks-per-node=1")
        wait_until((wd / "over").exists, "the job to be over", 600)
        state = slurm.wait_for_end(job, 600)
        text = (wd / f"{job}.out").read_text()
        assert state == "COMPLETED", text[-2000:]
        return _seconds(text)


def _array(slurm: Slurm) -> float:
    with tempfile.TemporaryDirectory() as folder:
        begin = time.perf_counter()
        slurm.submit("/bin/true", Path(folder), f"--array=1-{_SLOW}", "--ntasks=1", "--wait", "--output=/dev/null")
        return time.perf_counter() - begin


def main() -> None:
    tasks = int(sys.argv[1]) if len(sys.argv) > 1 else 10_000
    ours = 0.0
    for way, seconds in measure(tasks):
        ours = ours or seconds
        print(f"{way:40} {1 / seconds:8.1f}/s {seconds / ours:8.2f} x the local pilot's time", flush=True)


if __name__ == "__main__":
    main()
