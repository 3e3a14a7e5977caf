"""Sites on which a command is tried, and the commands.

A site is a line of shell that comes before the command, variables, and where its working folder is. What a command may do
there: go on, or end with one line that says why; never a traceback, never an abort of a library.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import pytest
from patience import PATIENCE_S

SHIM = Path(__file__).with_name("shim.c")


@dataclass(frozen=True)
class Site:
    """`mount`: options of a tmpfs for the working folder; `room`: bytes and inodes that are left of it."""

    name: str
    prelude: str = ""
    environ: Mapping[str, str | None] = field(default_factory=dict)
    shim: Mapping[str, str] = field(default_factory=dict)
    mount: str = ""
    room: int | None = None
    inodes: int | None = None
    streams: str = ""
    """Redirections of the command's standard streams."""

    @property
    def tells(self) -> bool:
        """Whether what it says on stderr can be read."""
        return "2>" not in self.streams and "|" not in self.streams


def limited(option: str, value: int | str) -> Site:
    return Site(f"ulimit {option} {value}", f"ulimit {option} {value}")


LOCKS = [Site(f"no locks ({number})", shim={"SHIM_LOCKS": str(number)}) for number in (37, 38, 95)]
DISKS = [
    Site(f"{kib} KiB left", mount="size=2m", room=kib << 10) for kib in (0, 4, 8, 12, 16, 24, 32, 40, 48, 64, 96, 128)
]
INODES = [
    Site(f"{count} inodes left", mount="size=8m,nr_inodes=80", inodes=count)
    for count in (0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 20)
]
FILES = [limited("-n", count) for count in (*range(8, 44, 2), 48, 56, 64)]
STREAMS = [
    Site("stdout full", streams=">/dev/full"),
    Site("stderr full", streams="2>/dev/full"),
    Site("both full", streams=">/dev/full 2>/dev/full"),
    Site("reader gone", streams="2>&1 | true"),
    Site("no stdin", streams="<&-"),
    Site("no stdout", streams=">&-"),
    Site("no stderr", streams="2>&-"),
    Site("no streams", streams="<&- >&- 2>&-"),
]
FOLDERS = [
    Site("read-only", mount="size=2m,ro"),
    Site("no HOME", environ={"HOME": None, "USER": None, "LOGNAME": None}),
    Site("HOME missing", environ={"HOME": "/nonexistent"}),
    Site("TMPDIR missing", environ={"TMPDIR": "/nonexistent"}),
    Site("TMPDIR full", environ={"TMPDIR": "FULL"}),
    Site("umask 000", "umask 000"),
    Site("umask 077", "umask 077"),
    Site("umask 777", "umask 777"),
]
LIMITS = [
    limited("-f", 0),
    limited("-f", 8),
    limited("-v", 60_000),
    limited("-v", 100_000),
    limited("-v", 150_000),
    limited("-v", 300_000),
    limited("-s", 256),
    limited("-c", "unlimited"),
]
OTHERS = [Site("slow disk", shim={"SHIM_SYNC": "0.4"}), Site("no processes", shim={"SHIM_FORK": "11"})]
SITES = [*LOCKS, *DISKS, *INODES, *FILES, *STREAMS, *FOLDERS, *LIMITS, *OTHERS]


class Said(NamedTuple):
    code: int
    out: str
    err: str

    def check(self, site: Site, done: bool) -> None:
        """The rule of all sites. `done`: whether the work that was asked for has been done."""
        text = self.out + self.err
        for sign in ("Traceback", "Fatal Python", "Logging error", "Aborted", "core dumped", "src/"):
            assert sign not in text, text
        assert 0 <= self.code < 126, (self.code, text)
        if self.code == 0:
            assert done, text
        elif site.tells:
            lines = [
                line for line in self.err.splitlines() if line.startswith("Error: ") or "cannot be written" in line
            ]
            assert len(lines) == 1, text


@contextmanager
def made(site: Site, folder: Path) -> Iterator[tuple[Path, dict[str, str]]]:
    """The working folder of the site, and its variables."""
    wd = folder / "wd"
    wd.mkdir()
    environ = {name: value for name, value in os.environ.items() if site.environ.get(name, "") is not None}
    environ |= {name: value for name, value in site.environ.items() if value is not None}
    mounts = []
    try:
        if site.mount:
            mount(wd, site.mount.replace(",ro", ""))
            mounts.append(wd)
        if environ.get("TMPDIR") == "FULL":
            full = folder / "full"
            full.mkdir()
            mount(full, "size=64k")
            mounts.append(full)
            fill(full)
            environ["TMPDIR"] = str(full)
        yield wd, environ
    finally:
        for each in mounts:
            subprocess.run(["umount", "-l", each], check=True)


def worsen(site: Site, wd: Path) -> None:
    """From here on there is as little room as the site has; what the test needs has been made."""
    if site.mount.endswith(",ro"):
        subprocess.run(["mount", "-o", "remount,ro", wd], check=True)
    if site.room is not None:
        fill(wd, site.room)
    if site.inodes is not None:
        fill_inodes(wd, site.inodes)


def better(wd: Path) -> None:
    """There is room again."""
    for path in wd.glob(".filler*"):
        path.unlink()


def mount(folder: Path, options: str) -> None:
    if os.geteuid() != 0:
        pytest.skip("mounting a small file system needs root")
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", folder], check=True)


def fill(folder: Path, left: int = 0) -> None:
    path = folder / ".filler"
    with open(path, "wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(4096))
        except OSError:
            pass
        file.truncate(max(0, file.tell() // 4096 * 4096 - left))


def fill_inodes(folder: Path, left: int) -> None:
    made: list[Path] = []
    try:
        while True:
            made.append(folder / f".filler{len(made)}")
            made[-1].touch()
    except OSError:
        made.pop()
    for path in made[:left]:
        path.unlink()


_library: list[Path] = []


def compiled() -> Path:
    """The shim as a library, built once; skips (in CI: fails) without a compiler."""
    if not _library:
        if shutil.which("gcc") is None:
            (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)("not installed: gcc")
        library = Path(tempfile.mkdtemp(prefix="pf-shim-")) / "shim.so"
        subprocess.run(["gcc", "-shared", "-fPIC", "-o", library, SHIM, "-ldl"], check=True)
        _library.append(library)
    return _library[0]


def shell(site: Site, wd: Path, environ: Mapping[str, str], line: str) -> Said:
    """Run a line in which `pilotfish` is our command and `python` our interpreter."""
    shim = {"LD_PRELOAD": str(compiled()), **site.shim} if site.shim else {}
    before = "; ".join([*(f"export {name}={value}" for name, value in shim.items()), site.prelude or ":"])
    words = f'pilotfish() {{ {before}; exec "{sys.executable}" -m pilotfish "$@"; }}; '
    words += f'python() {{ {before}; exec "{sys.executable}" "$@"; }}; '
    script = f"set -o pipefail; {words} ( {line} ) {site.streams}"
    done = subprocess.run(
        ["bash", "-c", script], cwd=wd, env=environ, capture_output=True, text=True, timeout=PATIENCE_S, check=False
    )
    return Said(done.returncode, done.stdout, done.stderr)
