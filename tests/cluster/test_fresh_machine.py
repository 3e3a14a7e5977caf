"""README's two commands on a Debian just installed, with what README asks for and nothing else."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from real import require

HERE = Path(__file__).parents[2]
CACHE = Path("/var/cache/pilotfish-fresh-machine")
PACKAGES = "make,python3,python3-venv"
NAME = "just-installed"
"""No name server and no /etc/hosts knows it."""
MINUTES = 40
ABSENT = ("git", "ps", "hg", "cc", "mpirun", "mpiexec", "sbatch", "qsub", "ssh", "sshd", "rsync", "ip", "ssh-keygen")

_ENTER = """
set -e
hostname "$1"
mount -t proc proc "$2/proc"
mount -t sysfs -o ro sysfs "$2/sys"
mount --rbind /dev "$2/dev"
mount -t tmpfs -o mode=1777 tmpfs "$2/dev/shm"
cd "$2"
shift 2
exec chroot . /usr/bin/env -i HOME=/root PATH=/usr/sbin:/usr/bin:/sbin:/bin LANG=C.UTF-8 "$@"
"""


def mirror() -> tuple[str, str]:
    """Where this machine's packages come from, and the release they are of."""
    release = dict(line.split("=", 1) for line in Path("/etc/os-release").read_text().splitlines() if "=" in line)
    name = release["VERSION_CODENAME"].strip('"')
    command = ["apt-get", "indextargets", "--format", "$(SITE) $(RELEASE) $(COMPONENT)"]
    lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    return next(site for site, its_name, part in map(str.split, lines) if (its_name, part) == (name, "main")), name


@pytest.fixture(scope="session")
def installed() -> Path:
    """The root folder of a fresh Debian, made once for a machine: this takes a minute."""
    require("debootstrap", "unshare", "chroot")
    root = CACHE / PACKAGES
    if not root.exists():
        draft = CACHE / f"{os.getpid()}.new"
        site, release = mirror()
        command = ["debootstrap", "--variant=minbase", f"--include={PACKAGES}", release, str(draft), site]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, (done.stdout + done.stderr)[-3000:]
        draft.rename(root)
    return root


@pytest.fixture
def machine(installed: Path, wd: Path) -> Path:
    """Its own copy, with this checkout in /root/pilotfish and the package index of this machine."""
    root = wd / "root"
    subprocess.run(["cp", "-a", installed, root], check=True)
    (root / "etc/hostname").write_text(f"{NAME}\n")
    (root / "etc/hosts").write_text("127.0.0.1 localhost\n")
    taken = [Path("/etc/resolv.conf"), Path("/etc/ssl/certs/ca-certificates.crt")]
    for line in subprocess.run(
        [sys.executable, "-m", "pip", "config", "debug"], capture_output=True, text=True, check=True
    ).stdout.splitlines():
        words = line.replace(", exists: True", "").strip().split(": ")
        taken += [Path(word) for word in words if word.startswith("/")]
    for path in filter(Path.is_file, taken):
        (root / path.relative_to("/")).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path.resolve(), root / path.relative_to("/"))
    tracked = subprocess.run(["git", "ls-files", "-z"], cwd=HERE, capture_output=True, check=True).stdout
    (root / "root/pilotfish").mkdir()
    packed = subprocess.run(
        ["tar", "--null", "-T", "-", "-c"], cwd=HERE, input=tracked, capture_output=True, check=True
    )
    subprocess.run(["tar", "-x", "-C", root / "root/pilotfish"], input=packed.stdout, check=True)
    return root


def enter(machine: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Run a command there: with a process table, a host name and mounts of its own, none of our variables but pip's."""
    pip = [f"{name}={value}" for name, value in os.environ.items() if name.startswith("PIP_")]
    command = ["unshare", "--mount", "--uts", "--ipc", "--pid", "--fork", "--kill-child", "sh", "-c", _ENTER, "sh"]
    log = machine.with_name("log")  # a file, so that one can look what it is at
    with open(log, "w") as file:
        command += [NAME, str(machine), *pip, *words]
        done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=file, stderr=file, check=False)
    return subprocess.CompletedProcess(command, done.returncode, log.read_text())


@pytest.mark.timeout(60 * MINUTES)
def test_the_two_commands_of_the_readme(machine: Path) -> None:
    absent = enter(machine, "sh", "-c", f"command -v {' '.join(ABSENT)}; hostname")
    assert absent.stdout.splitlines() == [NAME], "this machine has more than README asks for"
    at_home = enter(machine, "sh", "-c", "getent hosts $(hostname)")
    assert at_home.returncode == 2, "a machine just installed does not know its own name"
    demo = enter(machine, "make", "-C", "/root/pilotfish", "demo")
    assert demo.returncode == 0, demo.stdout[-5000:]
    assert (machine / "root/pilotfish/demo/mandelbrot.png").read_bytes()[:4] == b"\x89PNG"
    test = enter(machine, "make", "-C", "/root/pilotfish", "test")
    print(test.stdout[-20_000:])
    if test.returncode:  # it ran beside the batch systems of other tests; what this machine lacks, fails again
        test = enter(machine, "make", "-C", "/root/pilotfish", "test", "TESTS=--last-failed -n 1")
    assert test.returncode == 0, test.stdout[-20_000:]
