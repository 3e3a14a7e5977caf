"""Where the files of a pilot are: QCG-PilotJob's functions for folders of runs. Paths are absolute texts."""

from __future__ import annotations

import os
import re
from pathlib import Path

from ....pilot.wire.connection import AUX_PREFIX

__all__ = [
    "AUX_DIR_PTRN",
    "PROC_TRACE_PTRN",
    "RT_PTRN",
    "find_aux_dirs",
    "find_final_status_files",
    "find_latest_aux_dir",
    "find_log_files",
    "find_proc_traces_files",
    "find_report_files",
    "find_rtimes_files",
    "find_single_aux_dir",
    "is_aux_dir",
]

AUX_DIR_PTRN = re.compile(rf"{re.escape(AUX_PREFIX)}.*")
PROC_TRACE_PTRN = re.compile(r"ptrace_.*\.log")
RT_PTRN = re.compile(r"rtimes_.*\.log")

_Folder = str | os.PathLike[str]


def is_aux_dir(path: _Folder) -> str | None:
    """The absolute path of an auxiliary folder; None for anything else."""
    folder = Path(path).absolute()
    return str(folder) if folder.name.startswith(AUX_PREFIX) and folder.is_dir() else None


def find_aux_dirs(path: _Folder) -> list[str]:
    """The auxiliary folders in this one. Raises OSError where it cannot be read."""
    return [str(entry) for entry in Path(path).absolute().iterdir() if is_aux_dir(entry)]


def find_single_aux_dir(path: _Folder) -> str:
    """The one auxiliary folder in this one. Raises ValueError when there is none, or more than one."""
    found = find_aux_dirs(path)
    if len(found) != 1:
        raise ValueError(f"{path}: expected one folder {AUX_PREFIX}*, found {len(found)}")
    return found[0]


def find_latest_aux_dir(path: _Folder) -> str:
    """The auxiliary folder that has changed last. Raises ValueError when there is none."""
    found = find_aux_dirs(path)
    if not found:
        raise ValueError(f"{path}: there is no folder {AUX_PREFIX}* in it")
    return max(found, key=os.path.getmtime)


def find_report_files(path: _Folder) -> list[str]:
    """The reports of the pilots of this folder."""
    return _in_aux_dirs(path, "jobs.report")


def find_final_status_files(path: _Folder) -> list[str]:
    """What the pilots of this folder said when they ended."""
    return _in_aux_dirs(path, "final_status.json")


def find_log_files(path: _Folder) -> list[str]:
    """The logs of the pilots of this folder."""
    return _in_aux_dirs(path, "service.log")


def find_proc_traces_files(path: _Folder) -> list[str]:
    """What `--enable-proc-stats` has written into this folder."""
    return _files(path, "ptrace_*.log")


def find_rtimes_files(path: _Folder) -> list[str]:
    """What `--enable-rt-stats` has written into this folder."""
    return _files(path, "rtimes_*.log")


def _in_aux_dirs(path: _Folder, name: str) -> list[str]:
    return [file for folder in find_aux_dirs(path) if os.path.isfile(file := os.path.join(folder, name))]


def _files(path: _Folder, pattern: str) -> list[str]:
    return [str(file) for file in Path(path).absolute().glob(pattern) if file.is_file()]
