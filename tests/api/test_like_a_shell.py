"""A task sees what a plain shell sees at the place where the pilot was started: docs/task-environment.md, item by item."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from patience import PATIENCE_S

DOCS = Path(__file__).parents[2] / "docs" / "task-environment.md"

OTHER_IN_A_TASK = {
    "session",
    "process group",
    "terminal",
    "processors",
    "signals 32 and 33",
    "standard error",
    "PATH",
    "variables",
}
"""What a task may see differently. The first table of the page lists the same, with what it is in a task."""
OWN_VARIABLES = {
    "QCG_PM_NNODES",
    "QCG_PM_NODELIST",
    "QCG_PM_NPROCS",
    "QCG_PM_NTASKS",
    "QCG_PM_TASKS_PER_NODE",
    "QCG_PM_CPU_SET",
    "QCG_PM_STEP_ID",
    "QCG_PM_ZMQ_ADDRESS",
    "PILOTFISH_CONNECTION",
    "PILOTFISH_TASK",
    "PILOTFISH_RUN",
    "PILOTFISH_AGENT_ID",
}
"""What every task has beyond the shell's variables; the second table of the page."""
FOR_OWN_LAUNCHERS = {
    "OMPI_MCA_hwloc_base_binding_policy",
    "PRTE_MCA_hwloc_default_binding_policy",
    "I_MPI_PIN",
}
"""What tasks of those two have besides where they have some of the machine's cores, and nobody knows which."""
BY_MODEL = {
    "default": set[str](),
    "threads": {"OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS"},
    "openmpi": {
        "OMPI_MCA_hwloc_base_binding_policy",
        "PRTE_MCA_hwloc_default_binding_policy",
        "OMPI_MCA_plm",
        "OMPI_MCA_ras",
        "PRTE_MCA_ras",
    },
    "mpich": {"HYDRA_LAUNCHER", "HYDRA_RMK"},
    "intelmpi": {"I_MPI_PIN", "I_MPI_HYDRA_BOOTSTRAP"},
}
"""What the launcher of a model (or the program of `default` and `threads`) has besides."""

PLACE = """
unset LANG LC_ALL LC_CTYPE
ulimit -S -n 700; ulimit -S -c 0; ulimit -S -s 4096; ulimit -S -f 9000000; ulimit -H -f 9000000
umask 027
renice -n 3 $$ >/dev/null
ionice -c 2 -n 6 -p $$
chrt -b -p 0 $$
echo 150 >/proc/$$/oom_score_adj
trap '' HUP INT QUIT USR2 TTIN
exec "$@"
"""
"""A shell with settings that are not the usual ones."""

PROBE = """
import ctypes, fcntl, json, os, re, resource, signal, sys
libc = ctypes.CDLL(None)
def number_of(prctl):
    number = ctypes.c_int()
    libc.prctl(prctl, ctypes.byref(number))
    return number.value
def opens(path):
    try:
        os.close(os.open(path, os.O_RDONLY | os.O_NOCTTY))
        return True
    except OSError:
        return False
def stream(fd):
    return fcntl.fcntl(fd, fcntl.F_GETFL), fcntl.fcntl(fd, fcntl.F_GETFD), os.readlink(f"/proc/self/fd/{fd}")
status = dict(line.rstrip("\\n").split(":\\t", 1) for line in open("/proc/self/status") if ":\\t" in line)
ignored = int(status["SigIgn"], 16)
started = open("/proc/self/environ", "rb").read().decode().split("\\0")
seen = {
    "standard input and output": [stream(fd) for fd in range(2)],
    "standard error": stream(2),
    "other descriptors": [fd for fd in os.listdir("/proc/self/fd") if int(fd) > 2 and os.path.exists(f"/proc/self/fd/{fd}")],
    "limits": {name: resource.getrlimit(getattr(resource, name)) for name in dir(resource) if name.startswith("RLIMIT_")},
    "umask": status["Umask"],
    "ignored signals": hex(ignored & 0x7FFFFFFF),
    "signals 32 and 33": hex(ignored >> 31 & 3),
    "blocked signals": status["SigBlk"],
    "nice": os.nice(0),
    "io priority": libc.syscall(252, 1, 0) if os.uname().machine == "x86_64" else None,
    "scheduling": [os.sched_getscheduler(0), os.sched_getparam(0).sched_priority],
    "out-of-memory score": open("/proc/self/oom_score_adj").read(),
    "processors": sorted(os.sched_getaffinity(0)),
    "session": os.getsid(0) == os.getpid(),
    "process group": os.getpgid(0) == os.getpid(),
    "terminal": opens("/dev/tty"),
    "working folder": os.getcwd(),
    "control group": open("/proc/self/cgroup").read(),
    "namespaces": sorted(os.readlink(f"/proc/self/ns/{name}") for name in os.listdir("/proc/self/ns")),
    "user and groups": [status[name] for name in ("Uid", "Gid", "Groups")],
    "capabilities": [status[name] for name in status if name.startswith("Cap")],
    "no_new_privs, seccomp": [status["NoNewPrivs"], status["Seccomp"]],
    "death signal, subreaper": [number_of(2), number_of(37)],
    "dumpable": libc.prctl(3, 0, 0, 0, 0),
    "core filter, timer slack": [open(f"/proc/self/{name}").read() for name in ("coredump_filter", "timerslack_ns")],
    "personality": libc.personality(0xFFFFFFFF),
    "variables": dict(line.split("=", 1) for line in started if "=" in line),
}
with open(os.environ["SEEN_IN"], "w") as file:
    json.dump(seen, file)
"""

LOCAL = """
import os, subprocess, sys
from pilotfish import Jobs, LocalManager
shell, task, probe = sys.argv[1:4]
os.environ["SEEN_IN"] = shell
subprocess.run(["bash", "-c", probe + " </dev/null >/dev/null 2>/dev/null; exit"], check=True)
with LocalManager(["--nodes", "2"]) as pilot:
    for model in sys.argv[4:]:
        options = {} if model in ("default", "threads") else {"mpirun": probe}
        job = {"exec": probe, "model": model, "model_opts": options, "env": {"SEEN_IN": task + "." + model}}
        pilot.submit(Jobs().add(name=model, numCores={"exact": 2}, **job))
    pilot.wait4all()
"""


@pytest.fixture
def place(wd: Path) -> Path:
    """A working folder with `place`, which runs what follows there, and `probe`, which writes what it sees to $SEEN_IN."""
    (wd / "place").write_text(PLACE)
    (wd / "probe.py").write_text(PROBE)
    (wd / "probe").write_text(f"#!/bin/bash\nexec {sys.executable} -I {wd}/probe.py\n")
    (wd / "probe").chmod(0o755)
    return wd


def at_place(wd: Path, command: str, seen_in: str) -> None:
    """Run a line of shell there, in a session of its own that has no terminal."""
    words = ["bash", "place", "bash", "-c", command]
    done = subprocess.run(
        words,
        cwd=wd,
        env={"PATH": "/usr/bin:/bin:/usr/sbin:/sbin", "HOME": str(wd), "SEEN_IN": seen_in, "MINE": "a b"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
        start_new_session=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def differences(wd: Path, of_task: str, of_shell: str = "shell") -> tuple[set[str], set[str]]:
    """(items that differ, variables that a task has more), where all it has less or otherwise is an item of its own."""
    shell: dict[str, Any] = json.loads((wd / of_shell).read_text())
    task: dict[str, Any] = json.loads((wd / of_task).read_text())
    before, after = shell.pop("variables"), task.pop("variables")
    items = {item for item, value in shell.items() if task[item] != value}
    items |= {
        name if name == "PATH" else f"variable {name}" for name, value in before.items() if after.get(name) != value
    }
    return items, after.keys() - before.keys()


def for_own_launchers(cores: int) -> set[str]:
    return FOR_OWN_LAUNCHERS if cores < len(os.sched_getaffinity(0)) else set()


def pilotfish(words: str) -> str:
    return f"{sys.executable} -m pilotfish {words}"


def shell_sees(wd: Path) -> None:
    at_place(wd, "./probe </dev/null >/dev/null 2>/dev/null; exit", "shell")


OF_THE_SHELL_ITSELF = {"variable _", "variable SEEN_IN", "variable SHLVL"}


@pytest.mark.parametrize("way", ["run", "service"])
def test_a_task_sees_what_a_shell_sees(place: Path, way: str) -> None:
    shell_sees(place)
    if way == "run":
        line = pilotfish("run --quiet --nodes 1 --no-output -- ./probe")
    else:
        (place / "job.json").write_text('[{"name": "a", "execution": {"exec": "./probe"}}]')
        line = f"{pilotfish('service --nodes 1')} & {pilotfish('submit -c . job.json')} && {pilotfish('finish -c .')}; wait"
        line = line.replace("& ", f"& until {pilotfish('status -c .')}; do :; done; ", 1)
    at_place(place, line, "task")
    items, more = differences(place, "task")
    assert items - OF_THE_SHELL_ITSELF <= OTHER_IN_A_TASK
    assert more == OWN_VARIABLES | for_own_launchers(1)


def test_the_launcher_of_each_model_sees_what_a_shell_sees(place: Path) -> None:
    """Compared with a command of the Python program that has the pilot."""
    (place / "local.py").write_text(LOCAL)
    at_place(place, f"exec {sys.executable} local.py shell {place}/task {place}/probe {' '.join(BY_MODEL)}", "")
    for model, variables in BY_MODEL.items():
        items, more = differences(place, f"task.{model}")
        assert (model, items - OF_THE_SHELL_ITSELF - OTHER_IN_A_TASK) == (model, set())
        told = for_own_launchers(2) if model in ("default", "threads") else set()
        if model == "threads" and not told:
            told = {"OMP_PROC_BIND", "OMP_PLACES"}
        assert (model, more) == (model, OWN_VARIABLES | variables | told)


def tables(page: str) -> list[set[str]]:
    """The first column of each table, without backquotes."""
    parts = re.findall(r"(?:^\|.*\n)+", page, re.MULTILINE)
    return [{row.split("|")[1].strip().strip("`") for row in part.splitlines()[2:]} for part in parts]


def test_the_page_lists_what_is_allowed_to_differ_and_no_more() -> None:
    items, variables, *_ = tables(DOCS.read_text())
    assert items == OTHER_IN_A_TASK
    assert variables == OWN_VARIABLES | {"PILOTFISH_RESOURCE_..."}  # which these tasks have none of
