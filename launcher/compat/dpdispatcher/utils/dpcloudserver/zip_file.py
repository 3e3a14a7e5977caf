"""Zip archives of inputs and results."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable
from pathlib import Path
from zipfile import ZIP_DEFLATED, ZipFile, ZipInfo

from .....contexts import paths


def zip_file_list(root_path: str, zip_filename: str, file_list: Iterable[str] | None = None) -> str:
    """Pack files below a folder, by names and patterns; folders with all that is in them. The path of the archive.

    Raises FileNotFoundError for a pattern that finds nothing.
    """
    root, found = Path(root_path), []
    for pattern in file_list or ():
        matches = sorted(root.glob(pattern))
        if not matches:
            raise FileNotFoundError(f"cannot find archive input {pattern} under {root}")
        for path in matches:
            found += sorted(path.rglob("*")) if path.is_dir() else [path]
            found += [path] if path.is_dir() else []
    target = root / zip_filename
    with ZipFile(target, "w", ZIP_DEFLATED) as archive:
        for path in dict.fromkeys(found):
            archive.write(path, path.relative_to(root))
    return str(target)


def unzip_file(zip_file: str, out_dir: str = "./") -> set[str]:
    """Unpack an archive; the paths of its files. Raises ForeignPathError for a path that leads out, before it writes anything.

    Links in it are not followed, and no link is made.
    """
    with ZipFile(zip_file) as archive:
        entries = [(entry, _checked(entry, zip_file)) for entry in archive.infolist() if not entry.is_dir()]
        home = Path(out_dir).resolve()
        for entry, path in entries:
            target = home / path
            target.parent.mkdir(parents=True, exist_ok=True)
            if not target.parent.resolve().is_relative_to(home):
                raise paths.ForeignPathError(f"{entry.filename!a} leads out of {home}", where=zip_file)
            target.unlink(missing_ok=True)
            with archive.open(entry) as content, open(target, "wb") as file:
                while block := content.read(1 << 20):
                    file.write(block)
    return {os.fspath(path) for _, path in entries}


def _checked(entry: ZipInfo, where: str) -> str:
    if stat.S_ISLNK(entry.external_attr >> 16):
        raise paths.ForeignPathError(f"{entry.filename!a} is a link", where=where, remedy="nothing was written")
    return paths.below(entry.filename, where)
