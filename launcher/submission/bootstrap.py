"""Pilotfish on the machine: the one that is there, or our own wheel in an environment below the remote root."""

from __future__ import annotations

import base64
import hashlib
import importlib.metadata
import io
import sys
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path

from ...pilot import own_python
from ...pilot.model.errors import RefusedError
from ..contexts.base import Context
from ..contexts.shell import Text, from_home, joined, lines, sh, word
from ..description.pilot import Pilot

_PACKAGE = Path(__file__).parents[2]
_PARTS = ("api", "launcher", "pilot")
_SUFFIXES = (".py", ".html", ".css", ".js")
_LONGEST_INSTALL_S = 1800.0
_FOLDER = ".pilotfish"


_WITH_PYTHON = """\
[ -n "$pilotfish" ] || ! {python} -c {program} --version >/dev/null 2>&1 || pilotfish=({python} -c {program})"""
# `-m` looks for modules in the current folder first: in one of ours there are only wheels.
_INSTALL = """\
set -e
{python} -c 'import sys; sys.exit(sys.version_info < (3, 10))' ||
  { echo "$({python} --version 2>&1) is older than 3.10"; exit 1; }
rm -rf -- {target}
cd -- {target}.wheels
{python} -m venv {target}
{target}/bin/python -m pip install --quiet --disable-pip-version-check {index} \\
  --find-links {target}.wheels {target}.wheels/{wheel}
{target}/bin/pilotfish --version"""


class BootstrapError(RefusedError):
    """There is no Pilotfish on the machine, and none could be installed; what was tried stands in `what`."""

    code = "bootstrap"


def version() -> str:
    return importlib.metadata.version("pilotfish")


def wheel() -> tuple[str, bytes]:
    """(file name, content) of a wheel of the running Pilotfish; the same code gives the same bytes."""
    name, stem = f"pilotfish-{version()}-py3-none-any.whl", f"pilotfish-{version()}.dist-info"
    files = {f"pilotfish/{path.relative_to(_PACKAGE).as_posix()}": path.read_bytes() for path in _sources()}
    metadata = importlib.metadata.distribution("pilotfish").read_text("METADATA")
    metadata = metadata or importlib.metadata.distribution("pilotfish").read_text("PKG-INFO") or ""
    files[f"{stem}/METADATA"] = metadata.encode()
    files[f"{stem}/WHEEL"] = b"Wheel-Version: 1.0\nGenerator: pilotfish\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    files[f"{stem}/entry_points.txt"] = b"[console_scripts]\npilotfish = pilotfish.__main__:main\n"
    lines = [f"{path},sha256={_record_digest(content)},{len(content)}" for path, content in files.items()]
    files[f"{stem}/RECORD"] = "\n".join([*lines, f"{stem}/RECORD,,", ""]).encode()
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for path, content in files.items():
            archive.writestr(zipfile.ZipInfo(path, (2020, 1, 1, 0, 0, 0)), content, zipfile.ZIP_DEFLATED)
    return name, packed.getvalue()


def _sources() -> list[Path]:
    own = [path for path in _PACKAGE.iterdir() if path.suffix == ".py" or path.name == "py.typed"]
    parts = (path for part in _PARTS for path in (_PACKAGE / part).rglob("*") if path.suffix in _SUFFIXES)
    return sorted([*own, *parts])


def _record_digest(content: bytes) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(content).digest()).decode().rstrip("=")


def folder(remote_root: str) -> str:
    """Where our environment is on the machine: another one for each state of the code."""
    content = wheel()[1]
    return f"{remote_root}/{_FOLDER}/{version()}-{hashlib.sha256(content).hexdigest()[:12]}"


def finder(pilot: Pilot, remote_root: str, *, local: bool) -> Text:
    """Shell text that sets `pilotfish` to the command to use in the environment it runs in, an array; empty when there is none.

    `local`: the machine is this one, where that which runs here is good enough.
    """
    parts = [sh("pilotfish=()")]
    if pilot.python is not None:
        parts.append(_with_python(_program(pilot.python)))
    ours = joined([from_home(folder(remote_root)), word("/bin/pilotfish")])
    parts.append(sh('[ -n "$pilotfish" ] || [ ! -x {ours} ] || pilotfish=({ours})', ours=ours))
    if pilot.bootstrap != "always":
        parts.append(sh('[ -n "$pilotfish" ] || ! command -v pilotfish >/dev/null || pilotfish=(pilotfish)'))
        if local:
            parts.append(_with_python(word(sys.executable)))
    return lines(parts)


def _with_python(python: Text) -> Text:
    """Neither the probe nor the pilot runs what lies in the job's folder: see own_python."""
    return sh(_WITH_PYTHON, python=python, program=word(own_python.PROGRAM))


def _program(path: str) -> Text:
    """One that may lie below the home folder or a variable's."""
    return from_home(path) if path[0] in "/~$" else word(path)


def ensure(
    context: Context,
    pilot: Pilot,
    remote_root: str,
    environment: Sequence[str],
    tell: Callable[[str], None],
) -> None:
    """See to it that `finder` finds something. `environment`: shell lines that set up what jobs have (modules ...).

    Raises BootstrapError with what was tried and what to do.
    """
    find = finder(pilot, remote_root, local=context.local)
    probe = sh('{find}\n[ -n "$pilotfish" ] && "${pilotfish[@]}" --version', find=find)
    found = context.run_in_login_shell(probe, before=environment, timeout_s=120)
    if found.code == 0 and found.out.strip():
        tell(f"on the machine: {found.out.strip().splitlines()[-1]}")
        return
    if pilot.bootstrap == "never":
        what = "pilotfish was not found on the machine's PATH, and `bootstrap` is never"
        raise BootstrapError(
            what, where=remote_root, remedy="install it there, load it in prepend_script, or give pilot.python"
        )
    _install(context, pilot, remote_root, environment, tell)


def _install(
    context: Context,
    pilot: Pilot,
    remote_root: str,
    environment: Sequence[str],
    tell: Callable[[str], None],
) -> None:
    name, content = wheel()
    target = folder(remote_root)
    tell(f"installing {name} into {target} on the machine")
    files = {f"{target}.wheels/{name}": content}
    if pilot.wheelhouse is not None:
        files |= {f"{target}.wheels/{path.name}": path.read_bytes() for path in Path(pilot.wheelhouse).glob("*.whl")}
    context.write(files, 0o644)
    command = sh(
        _INSTALL,
        python=_program(pilot.python or "python3"),
        index=sh("--no-index") if pilot.wheelhouse is not None else sh(""),
        target=from_home(target),
        wheel=word(name),
    )
    done = context.run_in_login_shell(command, before=environment, timeout_s=_LONGEST_INSTALL_S)
    if done.code:
        told = (done.err.strip() or done.out.strip())[-800:]
        remedy = (
            "give pilot.python a Python of 3.10 or newer, or pilot.wheelhouse a folder of wheels (`pip download pilotfish`) "
            "where the machine has no package index, or install pilotfish there yourself"
        )
        raise BootstrapError(
            f"pilotfish is not on the machine and cannot be installed: {told}", where=target, remedy=remedy
        )
    tell(f"installed: {done.out.strip().splitlines()[-1]}")
