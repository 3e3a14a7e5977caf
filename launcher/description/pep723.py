"""Python scripts that say in their first comment where they run (PEP 723)."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from . import files
from .schema import DescriptionError

_BLOCK = re.compile(r"^# /// script$\s(?P<content>(?:^#(?:| .*)$\s)+)^# ///$", re.MULTILINE)
_COPY = re.compile(r"script_[0-9a-f]{40}\.py")
_TABLES = ("pilotfish", "dpdispatcher")


@dataclass(frozen=True)
class ScriptSubmission:
    """What a script says.

    Attributes:
        submission: the mapping that a submission file would have.
        copy: the script under the name by which it travels with the tasks, `script_<sha1>.py` in their folder. It is needed
            until the submission is over.
    """

    submission: dict[str, Any]
    copy: Path


def copies(names: Iterable[str]) -> list[str]:
    """Those of these names that copies of scripts have."""
    return [name for name in names if _COPY.fullmatch(name)]


def read_script(path: Path, *, allow_ref: bool = False) -> ScriptSubmission:
    """The submission that a script's comment block describes; writes the copy. Raises DescriptionError."""
    text = path.read_text()
    digest = hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()
    found = described(_table(text, path), digest, path, allow_ref=allow_ref)
    found.copy.write_text(text)
    return found


def described(table: Mapping[str, Any], digest: str, path: Path, *, allow_ref: bool = False) -> ScriptSubmission:
    """The submission of a script at `path` whose comment block has this table. Raises DescriptionError."""
    submission = files.refer(dict(table), path.parent, allow_ref, str(path))
    submission.setdefault("work_base", "./")
    machine = submission.get("machine")
    if isinstance(machine, str):
        submission["machine"] = files.machine_by_name(machine, path.parent)
    copy = _work_folder(submission, path) / f"script_{digest}.py"
    tasks = submission.get("task_list", [])
    submission["task_list"] = [
        each for number, task in enumerate(tasks) for each in _tasks(task, copy, f"{path}: task_list[{number}]")
    ]
    submission["forward_common_files"] = [*submission.get("forward_common_files", []), copy.name]
    return ScriptSubmission(submission, copy)


_REMEDY = "begin the script with one `# /// script` ... `# ///` block"


def metadata(text: str, where: str) -> dict[str, Any] | None:
    """All that the comment block of a script says; None without one. Raises DescriptionError."""
    blocks = _BLOCK.findall(text)
    if len(blocks) > 1:
        raise DescriptionError("Multiple script blocks found", where=where, remedy=_REMEDY)
    if not blocks:
        return None
    lines = [line[2:] if line.startswith("# ") else line[1:] for line in blocks[0].splitlines()]
    return files.parse_toml("\n".join(lines) + "\n", where)


def _table(text: str, path: Path) -> dict[str, Any]:
    """The table of the comment block that is for us."""
    found = metadata(text, str(path))
    if found is None:
        raise DescriptionError("No PEP 723 metadata found.", where=str(path), remedy=_REMEDY)
    tables = found.get("tool", {})
    name = next((name for name in _TABLES if name in tables), None)
    if name is None:
        raise DescriptionError("has no table [tool.pilotfish]", where=str(path), remedy="see `pilotfish script --help`")
    table: dict[str, Any] = tables[name]
    return table


def _work_folder(submission: Mapping[str, Any], path: Path) -> Path:
    """The folder of the tasks here. Raises DescriptionError when it is not there."""
    local_root = (submission.get("machine") or {}).get("local_root", ".")
    work: Path = Path(str(local_root)).expanduser() / submission["work_base"]
    if not work.is_dir():
        remedy = f"make it, or correct work_base ({submission['work_base']!r}) or machine.local_root"
        raise DescriptionError(f"there is no folder {work.absolute()}", where=f"{path}: work_base", remedy=remedy)
    return work


def _tasks(task: Mapping[str, Any], copy: Path, where: str) -> list[dict[str, Any]]:
    """A task for each folder that `task_work_path` means, with the script behind its command."""
    command = f'{task.get("command", "python")} "$REMOTE_ROOT"/{copy.name}'
    pattern, work = str(task.get("task_work_path", ".")), copy.parent
    if (work / pattern).is_dir():
        folders = [pattern]
    else:
        folders = sorted(str(each.relative_to(work)) for each in work.glob(pattern) if each.is_dir())
    if not folders:
        raise DescriptionError(f"Task work path {pattern} not found.", where=f"{where}.task_work_path")
    return [{**task, "command": command, "task_work_path": folder} for folder in folders]
