"""`srun` in a job: a step, its tasks on the job's nodes.

It runs where the job runs and needs no controller: the job's folder has all it must know, and the steps of a job agree on its
cores by a locked file there. So steps work on every node that sees the folder. Tasks on another node are started by this same
program there (`on_node`), which comes there by the real srun where the pilot lives in a Slurm allocation, else by ssh. Virtual
nodes are this machine.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ....pilot import own_python
from ...contexts import shell
from . import batch_step, client, exports
from .arguments import Values, read
from .errors import Refusal
from .options import SRUN
from .step_plan import check, plan
from .step_streams import Step, Streams, Task

FOLDER = "PILOTFISH_SLURM_JOB"
"""In a job: its folder."""
_RETRY_S = (0.02, 0.05, 0.1, 0.2, 0.5)


# --- the job's cores ------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[dict[str, Any]]:
    """What the steps of the job know together; what is changed in it is written."""
    folder.mkdir(exist_ok=True)
    with open(folder / "state", "a+", encoding="utf-8") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.seek(0)
        text = file.read()
        state = json.loads(text) if text else {"next": 0, "taken": {}}
        yield state
        file.seek(0)
        file.truncate()
        file.write(json.dumps(state))


@contextlib.contextmanager
def claimed(folder: Path, step: Step, cores: Mapping[str, int], job: str, quiet: bool) -> Iterator[Step]:
    """Wait until the step's cores are free; they are taken inside."""
    me = f"{socket.gethostname()}:{os.getpid()}"
    pauses = iter(_RETRY_S)
    pause_s, said = 0.0, False
    while True:
        with _locked(folder) as state:
            taken: dict[str, dict[str, int]] = state["taken"]
            for name in [name for name in taken if _is_gone(name)]:
                del taken[name]
            in_use = {node: sum(other.get(node, 0) for other in taken.values()) for node in step.cores}
            if all(in_use[node] + count <= cores[node] for node, count in step.cores.items()):
                taken[me] = dict(step.cores)
                number = state["next"]
                state["next"] += 1
                break
        if not said and not quiet:
            print(
                f"srun: Job {job} step creation temporarily disabled, retrying (Requested nodes are busy)",
                file=sys.stderr,
            )
        said = True
        pause_s = next(pauses, pause_s)
        time.sleep(pause_s)
    if said and not quiet:
        print(f"srun: Step created for job {job}", file=sys.stderr)
    try:
        yield step._replace(number=number)
    finally:
        with _locked(folder) as state:
            state["taken"].pop(me, None)


def _is_gone(name: str) -> bool:
    host, _, pid = name.rpartition(":")
    if host != socket.gethostname():
        return False
    return not os.path.exists(f"/proc/{pid}")


def note(folder: Path, **facts: Any) -> None:
    """A line about a step, for sacct."""
    with open(folder / "log", "a", encoding="utf-8") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.write(json.dumps(facts) + "\n")


# --- tasks ----------------------------------------------------------------------------------------------------------


def environment(step: Step, task: Task, values: Values, environ: Mapping[str, str]) -> dict[str, str]:
    nodes, counts = batch_step.hostlist(step.nodes), step.counts()
    own = {
        "SLURM_STEP_ID": str(step.number),
        "SLURM_STEPID": str(step.number),
        "SLURM_PROCID": str(task.rank),
        "SLURM_LOCALID": str(task.local),
        "SLURM_NODEID": str(task.node_id),
        "SLURM_GTIDS": ",".join(str(one.rank) for one in step.tasks if one.node == task.node),
        "SLURM_NTASKS": str(len(step.tasks)),
        "SLURM_NPROCS": str(len(step.tasks)),
        "SLURM_NNODES": str(len(step.nodes)),
        "SLURM_STEP_NODELIST": nodes,
        "SLURM_STEP_NUM_NODES": str(len(step.nodes)),
        "SLURM_STEP_NUM_TASKS": str(len(step.tasks)),
        "SLURM_STEP_TASKS_PER_NODE": batch_step.runs(counts),
        "SLURM_TASKS_PER_NODE": batch_step.runs(counts),
        "SLURM_CPUS_ON_NODE": str(
            step.cores.get(task.node) or step.cpus_per_task * counts[step.nodes.index(task.node)]
        ),
        "SLURMD_NODENAME": task.node,
    }
    if "cpus-per-task" in values:
        own["SLURM_CPUS_PER_TASK"] = str(step.cpus_per_task)
    return {**environ, **own}


def start(
    step: Step,
    tasks: Sequence[Task],
    words: Sequence[str],
    values: Values,
    environ: Mapping[str, str],
    streams: Streams,
    folder: Path,
    cwd: str,
) -> list[tuple[Task, subprocess.Popen[bytes]]]:
    here = folder / socket.gethostname()
    here.mkdir(parents=True, exist_ok=True)
    started = []
    for task in tasks:
        try:
            process = subprocess.Popen(
                words, env=environment(step, task, values, environ), cwd=cwd, restore_signals=True, **streams.of(task)
            )
        except OSError as error:
            text = "No such file or directory" if error.filename is None else error.strerror
            print(f"slurmstepd: error: execve(): {words[0]}: {text}", file=sys.stderr)
            code = 2 if isinstance(error, FileNotFoundError) else 13
            process = subprocess.Popen([sys.executable, "-I", "-S", "-c", f"raise SystemExit({code})"])
        (here / str(process.pid)).touch()
        streams.attach(task, process)
        started.append((task, process))
    return started


def collect(
    started: Sequence[tuple[Task, subprocess.Popen[bytes]]], kill_on_bad: bool, folder: Path
) -> list[tuple[Task, int]]:
    """The tasks' codes as Popen has them. SIGTERM and SIGINT are passed on."""

    def forward(number: int, frame: object) -> None:
        for _, process in started:
            if process.returncode is None:
                with contextlib.suppress(OSError):
                    process.send_signal(number)

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, forward)
    by_descriptor = {os.pidfd_open(process.pid): (task, process) for task, process in started}
    poller = select.poll()
    for descriptor in by_descriptor:
        poller.register(descriptor, select.POLLIN)
    ends = []
    while by_descriptor:
        for descriptor, _ in poller.poll():
            task, process = by_descriptor.pop(descriptor)
            poller.unregister(descriptor)
            os.close(descriptor)
            code = process.wait()
            with contextlib.suppress(OSError):
                (folder / socket.gethostname() / str(process.pid)).unlink()
            ends.append((task, code))
            if code and kill_on_bad:
                forward(signal.SIGTERM, None)
    return ends


def report(ends: Sequence[tuple[Task, int]], quiet: bool) -> int:
    """Say which tasks have failed; the step's exit code is the largest."""
    for task, code in sorted(ends):
        if code > 0 and not quiet:
            print(f"srun: error: {task.node}: task {task.rank}: Exited with exit code {code}", file=sys.stderr)
        elif code < 0 and not quiet:
            print(f"srun: error: {task.node}: task {task.rank}: {signal.strsignal(-code)}", file=sys.stderr)
    return max((code if code >= 0 else 128 - code for _, code in ends), default=0)


# --- other nodes ----------------------------------------------------------------------------------------------------


def is_here(node: str) -> bool:
    """Virtual nodes are this machine: nobody could find them by name."""
    name = socket.gethostname()
    if node in (name, name.partition(".")[0]) or node.partition(".")[0] == name.partition(".")[0]:
        return True
    try:
        socket.getaddrinfo(node, None)
    except OSError:
        return True
    return False


def reach(node: str, outer: Mapping[str, str], words: Sequence[str]) -> tuple[list[str], dict[str, str]]:
    """The command that runs `words` on the node, and its environment."""
    if "SLURM_JOB_ID" in outer:
        left_out = ("SLURM_HOSTFILE", "SLURM_DISTRIBUTION", "SLURM_NTASKS", "SLURM_NPROCS", "SLURM_CPU_BIND")
        environ = {name: value for name, value in outer.items() if not name.startswith(left_out)}
        options = ["--quiet", "--overlap", "--mem=0", "--cpu-bind=none", "-N1", "-n1", "-w", node, "--input=none"]
        return ["srun", *options, *words], environ
    return ["ssh", "-o", "BatchMode=yes", node, shell.words(words)], dict(outer)


def on_node(words: Sequence[str]) -> int:
    """The part of a step on this node; the word is the file in which `run` has written it."""
    task_file = Path(words[0])
    message = json.loads(task_file.read_text())
    step = Step(*message["step"])._replace(tasks=tuple(Task(*task) for task in message["step"][2]))
    mine = [task for task in step.tasks if task.node == message["node"]]
    folder = Path(message["folder"])
    streams = Streams(message["values"], message["job"], step, message["cwd"])
    started = start(
        step, mine, message["words"], message["values"], message["environ"], streams, folder, message["cwd"]
    )
    ends = collect(started, False, folder)
    streams.close()
    task_file.with_suffix(".ends").write_text(json.dumps([(tuple(task), code) for task, code in ends]))
    return 0


def _elsewhere(
    step: Step,
    node: str,
    words: Sequence[str],
    values: Values,
    job: dict[str, Any],
    folder: Path,
    cwd: str,
    variables: Mapping[str, str],
) -> tuple[Path, subprocess.Popen[bytes]]:
    path = folder / f"{step.number}-{node}.json"
    message = {
        "step": step,
        "node": node,
        "words": list(words),
        "values": values,
        "job": {**job, "environ": {}},
        "environ": dict(variables),
        "folder": str(folder),
        "cwd": cwd,
    }
    path.write_text(json.dumps(message))
    outer = json.loads((folder.parent / "outer.json").read_text())
    program = own_python.of_module(sys.executable, __name__, "on_node")
    command, environ = reach(node, outer, [*program, str(path)])
    return path, subprocess.Popen(command, env=environ, stdin=subprocess.DEVNULL)


# --- the command ----------------------------------------------------------------------------------------------------


def run(words: Sequence[str], environ: Mapping[str, str]) -> int:
    """`srun WORDS` in the job of `environ`; returns its exit code. Its steps have Slurm's variables again
    that the job has unset.
    """
    values, command = read("srun", words, SRUN)
    if not command:
        raise Refusal("srun: fatal: No command given to execute.")
    home = Path(environ[FOLDER])
    place = json.loads((home / "place.json").read_text())
    whole = {**place["variables"], **environ}
    check(values, whole)
    cores = dict(zip(place["nodes"], place["cores"], strict=True))
    asked = plan(values, command[0], cores, environ, whole["SLURM_JOB_ID"])
    with claimed(home / "steps", asked, cores, whole["SLURM_JOB_ID"], "quiet" in values) as step:
        return _carry_out(step, command, values, _exported(values, whole), home)


def _carry_out(step: Step, command: Sequence[str], values: Values, environ: Mapping[str, str], home: Path) -> int:
    folder, cwd = home / "steps", os.path.join(os.getcwd(), values.get("chdir", "."))
    job = json.loads((home / "job.json").read_text())
    facts: dict[str, Any] = {"id": step.number, "name": step.name, "tasks": len(step.tasks), "nodes": step.nodes}
    facts |= {"cpus": sum(step.cores.values()) or len(step.tasks) * step.cpus_per_task, "start": time.time()}
    note(folder, **facts)
    streams = Streams(values, job, step, cwd)
    here = {node for node in step.nodes if is_here(node)}
    away = [
        _elsewhere(step, node, command, values, job, folder, cwd, environ) for node in step.nodes if node not in here
    ]
    mine = [task for task in step.tasks if task.node in here]
    started = start(step, mine, command, values, environ, streams, folder, cwd)
    streams.feed()
    ends = collect(started, values.get("kill-on-bad-exit", "0") != "0", folder)
    for path, process in away:
        ends += _ends_of(path, process, step)
    streams.close()
    failed = max((code for _, code in ends), key=abs, default=0)
    note(folder, **facts, end=time.time(), exit=max(failed, 0), signal=max(-failed, 0))
    return report(ends, "quiet" in values)


def _ends_of(path: Path, process: subprocess.Popen[bytes], step: Step) -> list[tuple[Task, int]]:
    code = process.wait()
    ends = path.with_suffix(".ends")
    if ends.exists():
        return [(Task(*task), code) for task, code in json.loads(ends.read_text())]
    node = path.stem.partition("-")[2]
    return [(task, code or 1) for task in step.tasks if task.node == node]


def _exported(values: Values, environ: Mapping[str, str]) -> dict[str, str]:
    if "export" not in values:
        return dict(environ)
    kept = exports.exported(values["export"], environ)
    return {**kept, **{name: value for name, value in environ.items() if name.startswith(("SLURM", FOLDER))}}


def main(words: Sequence[str]) -> int:
    client.fill_closed_streams()
    sys.stdout, sys.stderr = sys.stdout or open(1, "w"), sys.stderr or open(2, "w")
    try:
        return run(words, os.environ)
    except Refusal as refusal:
        print(refusal.text, file=sys.stderr)
        return refusal.code
    except OSError as error:
        print(f"srun: error: {error.filename}: {error.strerror}", file=sys.stderr)
        return 1
