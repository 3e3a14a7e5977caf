"""Python scripts that say in their first comment where they run (PEP 723)."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import Any

from . import files as loading
from .schema import DescriptionError

_BLOCK = re.compile(r"^# /// script$\s(?P<content>(?:^#(?:| .*)$\s)+)^# ///$", re.MULTILINE)
_TABLES = ("pilotfish", "dpdispatcher")


def read_script(path: Path, *, allow_ref: bool = False) -> dict[str, Any]:
    """The submission that a script's comment block describes, as the mapping that a file would have.

    The script travels with the tasks under the name `script_<sha1>.py`. Raises DescriptionError.
    """
    text = path.read_text()
    found = _BLOCK.findall(text)
    if len(found) != 1:
        what = "Multiple script blocks found" if found else "No PEP 723 metadata found."
        raise DescriptionError(
            what, where=str(path), remedy="begin the script with one `# /// script` ... `# ///` block"
        )
    lines = [line[2:] if line.startswith("# ") else line[1:] for line in found[0].splitlines()]
    table = loading.parse_toml("\n".join(lines) + "\n", str(path)).get("tool", {})
    name = next((name for name in _TABLES if name in table), None)
    if name is None:
        raise DescriptionError("has no table [tool.pilotfish]", where=str(path), remedy="see `pilotfish script --help`")
    given = loading.refer(table[name], path.parent, allow_ref, str(path))
    given.setdefault("work_base", "./")
    return _with_script(given, text, path)


def _with_script(given: dict[str, Any], text: str, path: Path) -> dict[str, Any]:
    """The script as a common file, its name behind each command, and a task for each folder that a pattern means."""
    name = f"script_{hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()}.py"
    machine = given.get("machine")
    if isinstance(machine, str):
        machine = given["machine"] = loading.machine_by_name(machine, path.parent)
    local_root = Path(str((machine or {}).get("local_root", "."))).expanduser()
    work = local_root / given["work_base"]
    if not work.is_dir():
        remedy = f"make it, or mend work_base ({given['work_base']!r}) or machine.local_root"
        raise DescriptionError(f"there is no folder {work.absolute()}", where=f"{path}: work_base", remedy=remedy)
    (work / name).write_text(text)
    given["forward_common_files"] = [*given.get("forward_common_files", []), name]
    tasks = []
    for number, task in enumerate(given.get("task_list", [])):
        task = {"command": "python", **task}  # noqa: PLW2901 - the same with its default
        task["command"] += f' "$REMOTE_ROOT"/{name}'
        pattern = str(task.get("task_work_path", "."))
        folders = (
            [pattern]
            if (work / pattern).is_dir()
            else sorted(str(each.relative_to(work)) for each in work.glob(pattern) if each.is_dir())
        )
        if not folders:
            raise DescriptionError(
                f"Task work path {pattern} not found.", where=f"{path}: task_list[{number}].task_work_path"
            )
        tasks += [{**task, "task_work_path": folder} for folder in folders]
    given["task_list"] = tasks
    return given
