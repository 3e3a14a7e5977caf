"""A virtual machine that boots in seconds: a Debian kernel, busybox, this Python with pilotfish, and nothing else.

For what needs another kernel than ours, or one set up in another way. QEMU translates every instruction (no /dev/kvm is
needed), so programs run many times slower than here; there is no disk and no network.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

KERNEL = Path("/opt/small-machine/vmlinuz")
"""Put there by get-kernel."""
PROGRAMS = ("qemu-system-x86_64", "busybox")
MODULES = ("pilotfish", "click", "msgpack", "msgspec", "psutil", "yaml", "zmq")
SITE = "/site"
_ELSEWHERE = {"tests", "test", "idlelib", "site-packages", "docs", "site", "build", "ensurepip", "lib2to3", "tkinter"}
_INIT = f"""#!/bin/busybox sh
/bin/busybox --install -s /bin
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
mount -t cgroup2 cgroup /sys/fs/cgroup
ip link set lo up
hostname small
export PATH=/bin HOME=/root PYTHONHOME={sys.base_prefix} PYTHONPATH={SITE} LD_LIBRARY_PATH={sys.base_prefix}/lib
{os.path.realpath(sys.executable)} /scenario.py 2>&1
echo "small machine: exit $?"
reboot -f
"""
_COMMAND = (
    "qemu-system-x86_64 -M microvm,acpi=off,isa-serial=on,rtc=on -accel tcg -cpu max -m 1024 -smp 1 -nographic -nodefaults"
    " -no-user-config -serial stdio -no-reboot"
)
_OF_KERNEL = "console=ttyS0 quiet panic=-1 reboot=t"


def run(scenario: Path, folder: Path, timeout_s: float) -> str:
    """Boot, run the Python program as root, and return all it has written. `folder`: an empty one, for the disk's image."""
    root = folder / "root"
    _fill(root, scenario)
    image = folder / "image.cpio"
    names = "\n".join(str(path.relative_to(root)) for path in sorted(root.rglob("*")))
    with image.open("wb") as file:
        subprocess.run(["busybox", "cpio", "-o", "-H", "newc"], cwd=root, input=names.encode(), stdout=file, check=True)
    shutil.rmtree(root)
    command = [*_COMMAND.split(), "-kernel", str(KERNEL), "-initrd", str(image), "-append", _OF_KERNEL]
    ended = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=timeout_s, check=True)
    return ended.stdout.decode(errors="replace").replace("\r\n", "\n")


def _fill(root: Path, scenario: Path) -> None:
    for name in ("bin", "proc", "sys", "dev", "tmp", "root", "etc"):
        (root / name).mkdir(parents=True)
    (root / "tmp").chmod(0o1777)
    (root / "etc" / "passwd").write_text("root:x:0:0::/root:/bin/sh\nuser:x:1000:1000::/tmp:/bin/sh\n")
    (root / "etc" / "hosts").write_text("127.0.0.1 localhost small\n")
    (root / "init").write_text(_INIT)
    (root / "init").chmod(0o755)
    shutil.copy(shutil.which("busybox") or "busybox", root / "bin" / "busybox")
    shutil.copy(scenario, root / "scenario.py")
    standard = Path(sysconfig.get_path("stdlib", vars={"installed_base": sys.base_prefix}))
    shutil.copytree(standard, root / str(standard)[1:], ignore=_left_out)
    python = Path(os.path.realpath(sys.executable))
    python_there = root / str(python)[1:]
    python_there.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(python, python_there)
    for name in MODULES:
        _copy_module(name, root / SITE[1:])
    for library in _libraries([python, root / "bin" / "busybox", *root.rglob("*.so")]):
        there = root / str(library)[1:]
        there.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(library, there)


def _left_out(folder: str, names: list[str]) -> set[str]:
    return {name for name in names if name in _ELSEWHERE or name.startswith(("config-3", "."))}


def _copy_module(name: str, site: Path) -> None:
    """A package, with the shared libraries that its wheel has beside it."""
    found = find_spec(name)
    assert found is not None, f"{name} is not installed"
    assert found.origin is not None
    package = Path(found.origin).parent
    shutil.copytree(package, site / name, ignore=_left_out)
    beside = package.parent / f"py{name}.libs"
    if beside.is_dir():
        shutil.copytree(beside, site / beside.name)


def _libraries(programs: list[Path]) -> Iterator[Path]:
    """What the dynamic linker would load for them, and itself, that is of this system."""
    seen = set()
    output = subprocess.run(["ldd", *map(str, programs)], capture_output=True, text=True, check=False).stdout
    for line in output.splitlines():
        path = next((word for word in line.split() if word.startswith("/") and not word.endswith(":")), "")
        if path and path not in seen and os.path.isfile(path):
            seen.add(path)
            yield Path(path)
