"""What the pilot starts for a batch job, on its first node: the environment, the files, the script, the signal before the end.

A program of the standard library alone, started as `python -I -S batch_step.py FOLDER`: it must begin in a few milliseconds, on
nodes where nothing but the interpreter may be installed. `FOLDER/job.json` says what is to be run.
"""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import sys
import time
from typing import Any

PILOTS = re.compile(
    r"(QCG_PM|PILOTFISH|HWLOC|OMPI_MCA|PRTE_MCA|I_MPI|HYDRA)_.*|(CUDA|ROCR)_VISIBLE_DEVICES|OMP_PROC_BIND|OMP_PLACES"
)
"""Variables of the task that the pilot has set: they go before what the submitting program had."""
LOOK_S = 0.2
LOGIN_S = 10.0
CANNOT_OPEN = 53
"""What Slurm gives as the signal of a job whose files cannot be opened."""


def runs(counts: list[int]) -> str:
    """[2, 2, 1] is `2(x2),1`."""
    words: list[list[int]] = []
    for count in counts:
        if words and words[-1][0] == count:
            words[-1][1] += 1
        else:
            words.append([count, 1])
    return ",".join(str(count) if times == 1 else f"{count}(x{times})" for count, times in words)


def hostlist(names: list[str]) -> str:
    """As machines/slurm_facts.py has it; here nothing of ours can be imported."""
    groups: list[tuple[str, list[str]]] = []
    for name in names:
        match = re.fullmatch(r"(.*?)(\d+)", name)
        prefix, number = (match[1], match[2]) if match else (name, "")
        if groups and groups[-1][0] == prefix and number and groups[-1][1][-1]:
            groups[-1][1].append(number)
        else:
            groups.append((prefix, [number]))
    words = []
    for prefix, numbers in groups:
        parts: list[list[str]] = []
        for number in numbers:
            last = parts[-1][-1] if parts else ""
            if last and int(number) == int(last) + 1 and (len(number) == len(last) or not number.startswith("0")):
                parts[-1].append(number)
            else:
                parts.append([number])
        text = ",".join(part[0] if len(part) == 1 else f"{part[0]}-{part[-1]}" for part in parts)
        words.append(f"{prefix}{text}" if len(numbers) == 1 else f"{prefix}[{text}]")
    return ",".join(words)


def environment(job: dict[str, Any], node: str, nodes: list[str], cores: list[int]) -> dict[str, str]:
    """Slurm's variables, by what the pilot has granted."""
    tasks = job["tasks"]
    static = dict(job["slurm"])
    task = {name: value for name, value in os.environ.items() if PILOTS.fullmatch(name)}
    made = {
        "SLURM_JOB_NODELIST": hostlist(nodes),
        "SLURM_NODELIST": hostlist(nodes),
        "SLURM_JOB_NUM_NODES": str(len(nodes)),
        "SLURM_NNODES": str(len(nodes)),
        "SLURM_JOB_CPUS_PER_NODE": runs(cores),
        "SLURM_TASKS_PER_NODE": runs(tasks),
        "SLURM_CPUS_ON_NODE": str(cores[0]),
        "SLURMD_NODENAME": node,
        "SLURM_TOPOLOGY_ADDR": node,
        "SLURM_TOPOLOGY_ADDR_PATTERN": "node",
        "SLURM_NODEID": "0",
        "SLURM_PROCID": "0",
        "SLURM_LOCALID": "0",
        "SLURM_GTIDS": "0",
        "SLURM_TASK_PID": str(os.getpid()),
        "PILOTFISH_SLURM_JOB": job["folder"],
    }
    restarts = job["restarts"] + int(os.environ.get("PILOTFISH_RUN", "1")) - 1
    if restarts:
        made["SLURM_RESTART_COUNT"] = str(restarts)
    gpus = task.get("CUDA_VISIBLE_DEVICES") or task.get("ROCR_VISIBLE_DEVICES")
    if gpus:
        made |= {"SLURM_JOB_GPUS": gpus, "SLURM_GPUS_ON_NODE": str(len(gpus.split(",")))}
    if job["limit_s"] is not None:
        now = int(time.time())
        made |= {"SLURM_JOB_START_TIME": str(now), "SLURM_JOB_END_TIME": str(now + int(job["limit_s"]))}
    login = login_environment() if job["login_environ"] else {}
    return {**login, **job["environ"], **task, **static, **made}


def login_environment() -> dict[str, str]:
    """What a login shell of the user has; nothing where it takes too long."""
    import subprocess  # few jobs need it, and all would pay

    start = {name: os.environ[name] for name in ("HOME", "USER", "LOGNAME", "SHELL") if name in os.environ}
    command = [start.get("SHELL", "/bin/sh"), "-l", "-c", "exec env -0"]
    try:
        done = subprocess.run(
            command, env=start, stdin=subprocess.DEVNULL, capture_output=True, timeout=LOGIN_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return {}
    words = [os.fsdecode(word).partition("=") for word in done.stdout.split(b"\0") if b"=" in word]
    return {name: value for name, _, value in words if name != "_"}


def file_name(
    pattern: str, job: dict[str, Any], node: str, step: str = "batch", task: int = 0, node_id: int = 0
) -> str:
    """A file name pattern of sbatch(1), filled in; with a backslash it stays as it is."""
    if "\\" in pattern:
        return pattern.replace("\\", "")
    values = {
        "A": job["array_id"],
        "a": job["index"],
        "J": f"{job['id']}" if step == "batch" else f"{job['id']}.{step}",
        "j": job["id"],
        "N": node.partition(".")[0],
        "n": node_id,
        "s": step,
        "t": task,
        "u": job["user"],
        "x": job["name"],
    }

    def fill(match: re.Match[str]) -> str:
        if match[2] == "%":
            return "%"
        value = values.get(match[2])
        if value is None:
            return match[0]
        return str(value).zfill(min(int(match[1] or 0), 10)) if str(value).isdigit() else str(value)

    return re.sub(r"%(\d*)([%AaJjNnstux])", fill, pattern)


def open_files(job: dict[str, Any], node: str) -> tuple[int, int, int]:
    mode = os.O_APPEND if job["append"] else os.O_TRUNC
    flags = os.O_WRONLY | os.O_CREAT | mode
    output = file_name(job["output"], job, node)
    error = file_name(job["error"], job, node) if job["error"] else output
    stdin = os.open(os.path.join(job["work_dir"], file_name(job["input"], job, node)), os.O_RDONLY)
    stdout = os.open(os.path.join(job["work_dir"], output), flags, 0o666)
    if error == output:
        return stdin, stdout, stdout
    return stdin, stdout, os.open(os.path.join(job["work_dir"], error), flags, 0o666)


def below(pid: int) -> list[int]:
    """Processes that `pid` has started, and those that they have."""
    children: dict[int, list[int]] = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                with open(f"/proc/{name}/stat", encoding="utf-8", errors="replace") as file:
                    parent = int(file.read().rpartition(")")[2].split()[1])
            except (OSError, IndexError, ValueError):
                continue  # it has ended
            children.setdefault(parent, []).append(int(name))
    found: list[int] = []
    todo = [pid]
    while todo:
        more = children.get(todo.pop(), [])
        found += more
        todo += more
    return found


def step_processes(folder: str) -> list[int]:
    """The processes of the job's steps on this node: each step writes the ids of those that it starts."""
    found: list[int] = []
    here = os.path.join(folder, "steps", socket.gethostname())
    try:
        names = os.listdir(here)
    except OSError:
        return []
    for name in names:
        if name.isdigit():
            found += [int(name), *below(int(name))]
    return found


def send(folder: str, shell: int, number: int, whom: str) -> None:
    """`whom`: `steps`, `batch` (the shell alone) or `full` (both)."""
    targets = [shell] if whom in ("batch", "full") else []
    if whom in ("steps", "full"):
        targets += step_processes(folder)
    for pid in targets:
        try:
            os.kill(pid, number)
        except OSError:
            pass  # it has just ended


def wait(shell: int, folder: str, job: dict[str, Any]) -> int:
    """The wait status of the script; meanwhile signals are passed on, those of scancel and the one before the end."""
    warning = job["signal"]
    warn_at = None
    if warning is not None and job["limit_s"] is not None:
        warn_at = time.monotonic() + max(0.0, job["limit_s"] - warning["before_s"])
    asked = os.path.join(folder, f"signals-{job['restarts']}")
    done = 0
    signal.signal(signal.SIGCHLD, lambda number, frame: None)
    while True:
        pid, status = os.waitpid(shell, os.WNOHANG)
        if pid:
            return status
        if warn_at is not None and time.monotonic() >= warn_at:
            warn_at = None
            send(folder, shell, warning["number"], "batch" if warning["batch_only"] else "steps")
        try:
            with open(asked, encoding="ascii") as file:
                lines = file.read().split("\n")[:-1]
        except OSError:
            lines = []
        for line in lines[done:]:
            number, whom = line.split()
            send(folder, shell, int(number), whom)
        done = max(done, len(lines))
        signal.sigtimedwait([signal.SIGCHLD], LOOK_S)


def main(folder: str) -> None:
    with open(os.path.join(folder, "job.json"), encoding="utf-8") as file:
        job = json.load(file)
    nodes = os.environ["QCG_PM_NODELIST"].split(",")
    cores = [int(count) for count in os.environ["QCG_PM_TASKS_PER_NODE"].split(",")]
    job["tasks"] = job["tasks"][: len(nodes)]
    environ = environment(job, nodes[0], nodes, cores)
    variables = {name: value for name, value in environ.items() if name.startswith("SLURM")}
    with open(os.path.join(folder, "place.json"), "w", encoding="utf-8") as file:  # for steps, whatever the job unsets
        json.dump({"nodes": nodes, "cores": cores, "variables": variables}, file)
    if len(nodes) > 1:  # how a step comes to the other nodes is not for the job's eyes
        with open(
            os.open(os.path.join(folder, "outer.json"), os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w"
        ) as file:
            json.dump(dict(os.environ), file)
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGCHLD])
    for number in (signal.SIGPIPE, signal.SIGXFSZ):  # Python ignores them, and would pass that on
        signal.signal(number, signal.SIG_DFL)
    try:
        os.chdir(job["work_dir"])
    except OSError as error:
        sys.stderr.write(
            f"slurmstepd: error: couldn't chdir to `{job['work_dir']}': {error.strerror}: going to /tmp instead\n"
        )
        os.chdir("/tmp")
        job["work_dir"] = "/tmp"
    try:
        streams = open_files(job, nodes[0])
    except OSError as error:
        sys.stderr.write(f"slurmstepd: error: Could not open stdout file {error.filename}: {error.strerror}\n")
        with open(os.path.join(folder, "end"), "w", encoding="ascii") as file:
            file.write(f"0:{CANNOT_OPEN}")
        sys.exit(1)
    shell = os.fork()
    if shell == 0:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGCHLD])
        for descriptor, stream in enumerate(streams):
            os.dup2(stream, descriptor)
        script = os.path.join(folder, "slurm_script")
        try:
            os.execve(script, [script, *job["arguments"]], {**environ, "SLURM_TASK_PID": str(os.getpid())})
        except OSError as error:
            os.write(2, f"slurmstepd: error: execve(): {script}: {error.strerror}\n".encode())
            os._exit(2 if error.errno == 2 else 126)
    signal.signal(signal.SIGTERM, lambda number, frame: None)  # the script has got it too: we are of one process group
    status = wait(shell, folder, job)
    if os.WIFSIGNALED(status):
        ended_by = os.WTERMSIG(status)
        with open(os.path.join(folder, "end"), "w", encoding="ascii") as file:
            file.write(f"0:{ended_by}")
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        sys.exit(128 + ended_by)
    sys.exit(os.WEXITSTATUS(status))


if __name__ == "__main__":
    main(sys.argv[1])
