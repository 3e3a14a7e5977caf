"""Runs inside small_machine.py, as root: pilots of an ordinary user whose tasks have memory limits. Prints a line of JSON.

The user's pilot is in a control group that was handed to the user, as systemd does it; then in one that was not. Then root's
is in one with namespaces of its own, as in a container.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pilotfish import Jobs, LocalManager

TREE = Path("/sys/fs/cgroup")
USER = 1000
CLONE_NEWNS, CLONE_NEWCGROUP = 0x00020000, 0x02000000
HOG = "x = b'x' * (300 << 20)"


def python(code: str) -> dict[str, Any]:
    return {"exec": sys.executable, "args": ["-c", code]}


def shell(script: str) -> dict[str, Any]:
    return {"exec": "sh", "args": ["-c", script]}


def in_group(group: Path, become: Callable[[], object], scenario: Callable[[], Any]) -> Any:
    """What the function returns in a process in that group, which has done `become` first."""
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            (group / "cgroup.procs").write_text("0")
            become()
            os.write(write, json.dumps(scenario()).encode())
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(0)
    os.close(write)
    with open(read, "rb") as file:
        answer = file.read()
    os.waitpid(pid, 0)
    return json.loads(answer)


def a_user() -> None:
    os.setgid(USER)
    os.setuid(USER)


def a_container() -> None:
    """Root in namespaces of its own: the group it is in is the top of the tree that it sees."""
    system = ctypes.CDLL(None, use_errno=True)
    assert system.unshare(CLONE_NEWNS | CLONE_NEWCGROUP) == 0, os.strerror(ctypes.get_errno())
    subprocess.run("mount --make-rprivate / && umount /sys/fs/cgroup", shell=True, check=True)
    subprocess.run("mount -t cgroup2 cgroup /sys/fs/cgroup", shell=True, check=True)


def make_group(name: str, delegated: bool) -> Path:
    (TREE / "cgroup.subtree_control").write_text("+memory")
    group = TREE / name
    group.mkdir()
    if delegated:
        for path in (group, *(group / name for name in ("cgroup.procs", "cgroup.threads", "cgroup.subtree_control"))):
            os.chown(path, USER, USER)
    return group


def wait_until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def ends(pilot: LocalManager, jobs: Jobs) -> dict[str, Any]:
    names = pilot.submit(jobs)
    pilot.wait4(names)
    found = {}
    for name, info in pilot.info_parsed(names).items():
        found[name] = [info.status, info.messages or "", info.max_rss_kib]
    return found


def jobs_of_user(wd: Path) -> Jobs:
    """A task that is modest, those that are not, and one that says where it is."""
    elsewhere = f"import os, subprocess, sys; subprocess.run([sys.executable, '-c', {HOG!r}], start_new_session=True)"
    return (
        Jobs()
        .add(name="modest", **python("x = b'x' * (30 << 20)"), mem="100M")
        .add(name="hog", **python(HOG), mem="100M")
        .add(name="elsewhere", **python(elsewhere), mem="100M")
        .add(name="where", **shell("cat /proc/self/cgroup"), stdout=str(wd / "where"), mem="100M")
        .add(name="unlimited", **shell("cat /proc/self/cgroup"), stdout=str(wd / "unlimited"))
        .add(name="missing", exec="/no/such/program", mem="100M")
    )


def delegated() -> dict[str, Any]:
    group = TREE / "user"
    wd = Path("/tmp/delegated")
    wd.mkdir()
    with LocalManager(["--wd", str(wd), "--nodes", "1"], {"log_file": "/dev/null"}) as pilot:
        found: dict[str, Any] = {"ends": ends(pilot, jobs_of_user(wd))}
        found["where"] = (wd / "where").read_text()
        found["unlimited"] = (wd / "unlimited").read_text()
        pilot.submit(Jobs().add(name="again", **shell("echo $$ >> pids; exec sleep 60"), mem="100M"))
        pids = wd / "pids"
        wait_until(lambda: pids.exists() and pids.read_text())
        found["while it runs"] = len(task_groups(group))
        agent = min(map(int, agents()))  # its hands came later
        os.kill(agent, signal.SIGKILL)
        wait_until(lambda: len(pids.read_text().split()) == 2)
        found["after a killed agent"] = len(task_groups(group))
        pilot.cancel(["again"])
    found["at the end"] = task_groups(group)
    return found


def agents() -> list[str]:
    found = []
    for entry in os.listdir("/proc"):
        if entry.isdigit() and b"--agent-id" in (Path("/proc") / entry / "cmdline").read_bytes().split(b"\0"):
            found.append(entry)
    return found


def task_groups(group: Path) -> list[str]:
    return sorted(path.name for path in group.glob("pilotfish-*"))


def one_hog(wd: Path) -> dict[str, Any]:
    wd.mkdir()
    with LocalManager(["--wd", str(wd), "--nodes", "1"], {"log_file": "/dev/null"}) as pilot:
        hog = f"{HOG}; import time; time.sleep(60)"
        jobs = Jobs().add(name="hog", **python(hog), mem="100M")
        jobs.add(name="where", **shell("cat /proc/self/cgroup"), stdout=str(wd / "where"), mem="100M")
        return {"ends": ends(pilot, jobs), "where": (wd / "where").read_text()}


if __name__ == "__main__":
    answers = {
        "delegated": in_group(make_group("user", delegated=True), a_user, delegated),
        "watched": in_group(make_group("system", delegated=False), a_user, lambda: one_hog(Path("/tmp/watched"))),
        "container": in_group(make_group("box", delegated=False), a_container, lambda: one_hog(Path("/tmp/container"))),
    }
    for log in Path("/tmp").glob("*/.qcgpjm*/agent-*.log"):
        print(log, log.read_text(), sep="\n")
    print("ANSWERS", json.dumps(answers))
