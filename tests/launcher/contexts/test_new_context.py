"""A new way to reach machines is one class and one line: an invented one, which has its machine in a folder."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from types import ModuleType

import pytest
from patience import PATIENCE_S, give_up

from pilotfish.launcher.cli.doctor import examine
from pilotfish.launcher.contexts.base import (
    NO_FOLDER,
    NOTHING,
    Context,
    Done,
    LocalFile,
    RemoteFile,
    Transfer,
    TransferError,
    Watch,
)
from pilotfish.launcher.contexts.paths import below
from pilotfish.launcher.contexts.registry import build_context
from pilotfish.launcher.contexts.shell import Text, expanded, place, sh
from pilotfish.launcher.description import schema
from pilotfish.launcher.description.machine import parse_machine
from pilotfish.launcher.description.schema import ContextKind, DescriptionError, Key
from pilotfish.launcher.submission.placement import Placement

HOME = "/home/x"


class FolderContext(Context):
    """A machine whose root folder is a folder here, the key `at` of its profile: paths there are none of this machine."""

    kind = "FolderContext"

    def here(self, path: str) -> Path:
        return Path(str(self.profile["at"]) + self.absolute(path))

    def root_for(self, name: str, work_base: str) -> str:
        return f"{self.remote_root}/{name}"

    def fill_in(self, folder: str) -> str:
        return self.run(sh("printf %s {folder}", folder=expanded(folder if folder != "." else "~"))).out

    def run(
        self, command: str, *, cwd: str | None = None, stdin: bytes = b"", timeout_s: float = 60.0, once: bool = False
    ) -> Done:
        if cwd is not None and not self.here(cwd).is_dir():
            return Done(NO_FOLDER, "", "")
        text = (
            command if cwd is None else sh("cd {cwd}\n{command}", cwd=place(self.absolute(cwd)), command=Text(command))
        )
        done = subprocess.run(
            ["unshare", "-m", "sh", "-c", _ENTER, "sh", str(self.profile["at"]), text],
            input=stdin,
            capture_output=True,
            timeout=PATIENCE_S,
            check=False,
        )
        return Done(done.returncode, done.stdout.decode(errors="replace"), done.stderr.decode(errors="replace"))

    def read(self, paths: Sequence[str]) -> dict[str, bytes]:
        return {path: self.here(path).read_bytes() for path in paths if self.here(path).is_file()}

    def write(self, files: Mapping[str, bytes], mode: int = 0o600) -> None:
        for path, content in files.items():
            self.here(path).parent.mkdir(parents=True, exist_ok=True)
            self.here(path).write_bytes(content)
            self.here(path).chmod(mode)

    def list_files(self, root: str, folders: Iterable[str], *, with_folders: bool = False) -> list[RemoteFile]:
        top, wanted, found = self.here(root), set(folders), []
        for path in sorted(top.rglob("*")):
            name = below(path.relative_to(top).as_posix(), "a folder")
            inside = "**" in wanted or any(name.startswith(f"{folder}/") for folder in wanted)
            if path.is_file() and (inside or ("." in wanted and "/" not in name)):
                found.append(RemoteFile(name, path.stat().st_size, path.stat().st_mtime))
        return found

    def put(
        self, root: str, files: Sequence[LocalFile], folders: Iterable[str] = (), watch: Watch | None = None
    ) -> Transfer:
        for folder in ["", *folders]:
            (self.here(root) / folder).mkdir(parents=True, exist_ok=True)
        for file in files:
            (self.here(root) / file.path).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(file.source, self.here(root) / file.path)
        return Transfer(tuple(file.path for file in files), (), sum(file.size for file in files))

    def get(
        self,
        root: str,
        paths: Sequence[str],
        into: Path,
        watch: Watch | None = None,
        *,
        partly: bool = False,
        untouched: Mapping[str, str] = NOTHING,
    ) -> Transfer:
        there = self.here(root)
        lost = {path: "is not there any more" for path in paths if not (there / path).is_file()} | dict(untouched)
        if lost and not partly:
            raise TransferError(f"cannot fetch {sorted(lost)}")
        moved = tuple(path for path in paths if path not in lost)
        for path in moved:
            (into / path).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(there / path, into / path)
        return Transfer(moved, (), 0, lost)

    def remove(self, root: str) -> None:
        shutil.rmtree(self.here(root), ignore_errors=True)


_ENTER = f'mkdir -p "$1{HOME}" /home && mount --bind "$1/home" /home && cd / && HOME={HOME} exec sh -c "$2"'
"""In it the machine's /home is that of the folder; all else is as here."""


@pytest.fixture(autouse=True)
def mounts_of_its_own() -> None:
    """Skips (in CI: fails) where a process can have none, as in a chroot."""
    if subprocess.run(["unshare", "-m", "true"], capture_output=True, check=False).returncode:
        give_up("needs `unshare -m`")


@pytest.fixture(autouse=True)
def registered(monkeypatch: pytest.MonkeyPatch) -> None:
    if os.geteuid():
        pytest.skip("needs root")
    module = ModuleType("pilotfish.launcher.contexts.folder")
    module.__dict__["FolderContext"] = FolderContext
    monkeypatch.setitem(sys.modules, module.__name__, module)
    keys = (Key("at", "str", schema.REQUIRED, "the machine's root folder"),)
    monkeypatch.setitem(schema.CONTEXTS, "Folder", ContextKind("FolderContext", "folder", keys))


def machine(wd: Path, root: str = "~/work") -> dict[str, object]:
    return {"context_type": "Folder", "remote_root": root, "remote_profile": {"at": str(wd / "machine")}}


@pytest.mark.parametrize("root", ["~/work", f"{HOME}/work", "work"])
def test_a_submission_runs_through_it(wd: Path, submission: Callable[..., Placement], root: str) -> None:
    (wd / "here/w/a").mkdir(parents=True)
    (wd / "here/w/a/in").write_text("1 2 3\n")
    task = {
        "command": "wc -w <in >out; pwd >at",
        "task_work_path": "a",
        "forward_files": ["in"],
        "backward_files": ["out", "at"],
    }
    made = submission(task, machine=machine(wd, root))
    assert made.run(check_interval_s=0.5).over
    assert (wd / "here/w/a/out").read_text() == "3\n"
    assert (wd / "here/w/a/at").read_text() == f"{HOME}/work/{made.hash}/a\n"
    assert list((wd / f"machine{HOME}/work").iterdir()) == [], "what is home is removed there"


def test_its_keys_are_checked_and_its_name_is_known_in_any_case(wd: Path) -> None:
    given = {"batch_type": "Shell", "local_root": ".", **machine(wd), "context_type": "foldercontext"}
    assert parse_machine(given).context_type == "FolderContext"
    with pytest.raises(DescriptionError, match=r"remote_profile.*'at'"):
        parse_machine({**given, "remote_profile": {}})
    assert ("remote_profile (Folder)", "at") in [(section, key.name) for section, key in schema.rows({})]


def test_the_doctor_looks_at_it(wd: Path) -> None:
    given = parse_machine({"batch_type": "Shell", "local_root": ".", **machine(wd)})
    with build_context(given) as context:
        found = {each.what: each for each in examine(given, context, wait_s=PATIENCE_S)}
    assert all(each.ok or each.warning for each in found.values()), found
    assert found["write access"].found == f"~/work, which is {HOME}/work"
