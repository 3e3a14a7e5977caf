"""Build what a release consists of, from the commit that is checked out: `make dist`.

    release.py FOLDER           all of it
    release.py FOLDER --files   the two distributions only

The same commit gives the same bytes, wherever and whenever it is built: nothing but what git knows is in them, and times and
owners are those of the commit. The wheel is installed into an empty environment and run; what that environment holds
then is the bill of materials.
"""

from __future__ import annotations

import gzip
import hashlib
import inspect
import io
import os
import re
import subprocess
import sys
import tarfile
import tempfile
import venv
from pathlib import Path

import click

ROOT = Path(__file__).parents[1]


def main() -> None:
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    wheel = build(folder)
    if "--files" not in sys.argv:
        with tempfile.TemporaryDirectory() as scratch:
            python = installed(wheel, Path(scratch))
            bill_of_materials(python, folder)
            manual(folder)
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != "SHA256SUMS")
    sums = [f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.relative_to(folder)}\n" for path in files]
    (folder / "SHA256SUMS").write_text("".join(sums))


def build(folder: Path) -> Path:
    """The source distribution and the wheel, which is built from it. Returns the wheel."""
    time_s = int(_git("log", "-1", "--format=%ct"))
    with tempfile.TemporaryDirectory() as scratch:
        source = Path(scratch, "source")
        with tarfile.open(fileobj=io.BytesIO(_git("archive", "HEAD"))) as archive:
            archive.extractall(source)
        environ = os.environ | {"SOURCE_DATE_EPOCH": str(time_s)}
        command = [sys.executable, "-m", "build", "--outdir", scratch, str(source)]
        subprocess.run(command, env=environ, check=True, stdout=subprocess.DEVNULL)
        sdist, wheel = next(Path(scratch).glob("*.tar.gz")), next(Path(scratch).glob("*.whl"))
        (folder / sdist.name).write_bytes(repacked(sdist.read_bytes(), time_s))
        (folder / wheel.name).write_bytes(wheel.read_bytes())
        return folder / wheel.name


def repacked(packed: bytes, time_s: int) -> bytes:
    """A source distribution without what the machine that packed it has left there: order, times, owners, modes.

    (setuptools obeys SOURCE_DATE_EPOCH for wheels only.)
    """
    plain = io.BytesIO()
    with (
        tarfile.open(fileobj=io.BytesIO(packed)) as old,
        tarfile.open(fileobj=plain, mode="w", format=tarfile.PAX_FORMAT) as new,
    ):
        for member in sorted(old.getmembers(), key=lambda member: member.name):
            member.pax_headers = {}
            member.mtime, member.uid, member.gid, member.uname, member.gname = time_s, 0, 0, "", ""
            member.mode = 0o755 if member.isdir() or member.mode & 0o100 else 0o644
            new.addfile(member, old.extractfile(member) if member.isfile() else None)
    return gzip.compress(plain.getvalue(), mtime=time_s)


def installed(wheel: Path, scratch: Path) -> Path:
    """The Python of a new environment that has the wheel and what it needs, and in which a pilot has run a task."""
    venv.create(scratch / "venv", with_pip=True)
    python = scratch / "venv/bin/python"
    _pip(python, "install", str(wheel))
    command = [str(python.with_name("pilotfish")), "run", "--quiet", "--wd", str(scratch / "run"), "--", "true"]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    _pip(python, "uninstall", "--yes", "setuptools", "pip")  # which came with the environment
    return python


def bill_of_materials(python: Path, folder: Path) -> None:
    """`sbom.json`: CycloneDX, of pilotfish and all that comes with it."""
    target = str(folder / "sbom.json")
    command = ["cyclonedx_py", "environment", "--output-reproducible", "--pyproject", str(ROOT / "pyproject.toml")]
    subprocess.run([sys.executable, "-m", *command, "--output-file", target, str(python)], check=True)


def manual(folder: Path) -> None:
    """`man/man1`: a page for each command, from what `--help` says."""
    from click_man.core import write_man_pages

    from pilotfish.commands import cli
    from pilotfish.pilot.version import VERSION

    pages = folder / "man/man1"
    pages.mkdir(parents=True, exist_ok=True)
    with click.Context(cli) as context:
        prepare(cli, context)
    date = _git("log", "-1", "--format=%cs").decode().strip()
    write_man_pages("pilotfish", cli, version=VERSION, date=date, target_dir=str(pages))


def prepare(command: click.Command, context: click.Context) -> None:
    """Commands that are loaded when they are used, loaded; help as roff: examples keep their lines."""
    text = inspect.cleandoc(command.help or "").replace("\\", "\\e")
    command.short_help = text.partition("\n\n")[0].replace("\n", " ").rstrip(".")
    paragraphs = [re.sub(r"^([.'])", r"\\&\1", paragraph, flags=re.MULTILINE) for paragraph in text.split("\n\n")]
    command.help = "\n\n".join(
        f".nf\n{paragraph[2:]}\n.fi" if paragraph.startswith("\b\n") else paragraph for paragraph in paragraphs
    )
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            member = command.get_command(context, name)
            if member is not None:
                prepare(member, context)
                command.commands[name] = member


def _git(*words: str) -> bytes:
    return subprocess.run(["git", *words], cwd=ROOT, capture_output=True, check=True).stdout


def _pip(python: Path, *words: str) -> None:
    subprocess.run([python, "-m", "pip", "--quiet", "--disable-pip-version-check", *words], check=True)


if __name__ == "__main__":
    main()
