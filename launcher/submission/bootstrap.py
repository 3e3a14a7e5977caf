"""Pilotfish on the machine: the one that is there, or our own wheel in an environment below the remote root."""

from __future__ import annotations

import base64
import hashlib
import importlib.metadata
import io
import shlex
import zipfile
from collections.abc import Callable
from pathlib import Path

from ...pilot.model.errors import RefusedError
from ..contexts.base import Context
from ..contexts.shell import in_login_shell, shell_path
from ..description.pilot import Pilot

_PACKAGE = Path(__file__).parents[2]
_PARTS = ("api", "launcher", "pilot")
_LONGEST_INSTALL_S = 1800.0
_FOLDER = ".pilotfish"


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
    return sorted([*own, *(path for part in _PARTS for path in (_PACKAGE / part).rglob("*.py"))])


def _record_digest(content: bytes) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(content).digest()).decode().rstrip("=")


def folder(remote_root: str) -> str:
    """Where our environment is on the machine: another one for each state of the code."""
    content = wheel()[1]
    return f"{remote_root}/{_FOLDER}/{version()}-{hashlib.sha256(content).hexdigest()[:12]}"


def finder(pilot: Pilot, remote_root: str) -> str:
    """Shell text that sets `pilotfish` to the command to use in the environment it runs in; empty when there is none."""
    lines = ["set +eu", "pilotfish="]
    if pilot.python is not None:
        python = shlex.quote(pilot.python)
        lines.append(
            f"{python} -c 'import pilotfish' 2>/dev/null && pilotfish={shlex.quote(f'{pilot.python} -m pilotfish')}"
        )
    ours = f"{shell_path(folder(remote_root))}/bin/pilotfish"
    lines.append(f'[ -n "$pilotfish" ] || [ ! -x {ours} ] || pilotfish={ours}')
    if pilot.bootstrap != "always":
        lines.append('[ -n "$pilotfish" ] || ! command -v pilotfish >/dev/null || pilotfish=pilotfish')
    return "\n".join(lines)


def check_login_shell(context: Context) -> None:
    """Raise BootstrapError when the user's profile replaces the shell: of no job's script would a line be run."""
    done = context.run(in_login_shell("echo here"), timeout_s=120)
    if done.code == 0 and "here" not in done.out:
        raise BootstrapError(
            "your login profile (.bash_profile, .profile) replaces the shell: job scripts run in a login shell, and do nothing",
            where="bash -l",
            remedy="let it `exec` another shell only in terminals: case $- in *i*) exec ... ;; esac",
        )


def ensure(context: Context, pilot: Pilot, remote_root: str, environment: str, tell: Callable[[str], None]) -> None:
    """See to it that `finder` finds something. `environment`: shell text that sets up what jobs have (modules ...).

    Raises BootstrapError with what was tried and what to do.
    """
    probe = f'{environment}\n{finder(pilot, remote_root)}\n[ -n "$pilotfish" ] && $pilotfish --version'
    found = context.run(in_login_shell(probe), timeout_s=120)
    if found.code == 0 and found.out.strip():
        tell(f"on the machine: {found.out.strip().splitlines()[-1]}")
        return
    if pilot.bootstrap == "never":
        what = "pilotfish was not found on the machine's PATH, and `bootstrap` is never"
        raise BootstrapError(
            what, where=remote_root, remedy="install it there, load it in prepend_script, or give pilot.python"
        )
    _install(context, pilot, remote_root, environment, tell)


def _install(context: Context, pilot: Pilot, remote_root: str, environment: str, tell: Callable[[str], None]) -> None:
    name, content = wheel()
    target = folder(remote_root)
    tell(f"installing {name} into {target} on the machine")
    files = {f"{target}.wheels/{name}": content}
    if pilot.wheelhouse is not None:
        files |= {f"{target}.wheels/{path.name}": path.read_bytes() for path in Path(pilot.wheelhouse).glob("*.whl")}
    context.write(files, 0o644)
    index = " --no-index" if pilot.wheelhouse is not None else ""
    shell_target = shell_path(target)
    command = f"""{environment}
set -e
python={shlex.quote(pilot.python or "python3")}
$python -c 'import sys; sys.exit(sys.version_info < (3, 10))' ||
  {{ echo "$($python --version 2>&1) is older than 3.10"; exit 1; }}
rm -rf {shell_target}
$python -m venv {shell_target}
{shell_target}/bin/python -m pip install --quiet --disable-pip-version-check{index} --find-links {shell_target}.wheels \\
  {shell_target}.wheels/{name}
{shell_target}/bin/pilotfish --version"""
    done = context.run(in_login_shell(command), timeout_s=_LONGEST_INSTALL_S)
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
