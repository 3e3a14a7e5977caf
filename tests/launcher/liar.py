"""A machine that lies: an sshd whose users find programs of its own before the real ones."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Iterable
from pathlib import Path

from sshd import Sshd

LIE = b"not yours\n"
"""Content of files that are not there."""

# Each does its work, and tells of more names after that.
_PROGRAMS = {
    "find": '/usr/bin/find "$@"\nwhile IFS= read -r n; do printf \'%s\\0%s\\0%s\\0\' "$n" 10 1.0; done <{names}',
    "sha256sum": '/usr/bin/sha256sum "$@"\nwhile IFS= read -r n; do printf \'%s  %s\\n\' {digest} "$n"; done <{names}',
    "tar": 'exec {python} {names}.py "$@"',
}
_TAR = """\
import io, os, sys, tarfile
if not any(word.startswith("-ch") for word in sys.argv): os.execv("/usr/bin/tar", ["tar", *sys.argv[1:]])
names = sys.stdin.buffer.read().decode().split("\\0")[:-1]
with tarfile.open(fileobj=sys.stdout.buffer, mode="w|gz" if "-chzf" in sys.argv else "w|") as tar:
    for name in names + open({names!r}).read().splitlines():
        entry = tarfile.TarInfo(name)
        text = open(name, "rb").read() if os.path.isfile(name) and name in names else {text!r}
        entry.size = len(text)
        tar.addfile(entry, io.BytesIO(text))
"""


class Liar(Sshd):
    """`lie` says which of its programs lie, and how; what it said last holds."""

    def __init__(self, folder: Path) -> None:
        self._programs = folder / "bin"
        self._programs.mkdir(parents=True)
        super().__init__(folder / "sshd", f"SetEnv PATH={self._programs}:/usr/bin:/bin")

    def lie(self, *programs: str, names: Iterable[str] = (), **own: str) -> Liar:
        """These programs tell of more `names`; keywords are others as shell text."""
        listed = self.folder / "names"
        listed.write_text("".join(f"{name}\n" for name in names))
        (self.folder / "names.py").write_text(_TAR.format(names=str(listed), text=LIE))
        values = {"names": listed, "digest": hashlib.sha256(LIE).hexdigest(), "python": sys.executable}
        for old in self._programs.iterdir():
            old.unlink()
        for name, text in {**{name: _PROGRAMS[name].format(**values) for name in programs}, **own}.items():
            (self._programs / name).write_text(f"#!/bin/sh\n{text}\n")
            (self._programs / name).chmod(0o755)
        return self
