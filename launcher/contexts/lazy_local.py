"""This machine, in the project's own folder: nothing is copied, nothing is removed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from .base import NOTHING, LocalFile, Transfer, Watch
from .local import LocalContext


class LazyLocalContext(LocalContext):
    """Tasks run where their files are; scripts and records of the submission stay there too."""

    kind = "LazyLocalContext"
    in_place = True

    def root_for(self, name: str, work_base: str) -> str:
        return str((self.local_root / work_base).absolute())

    def put(
        self, root: str, files: Sequence[LocalFile], folders: Iterable[str] = (), watch: Watch | None = None
    ) -> Transfer:
        for folder in ["", *folders]:
            Path(root, folder).mkdir(parents=True, exist_ok=True)
        return Transfer((), tuple(file.path for file in files), 0)

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
        return Transfer((), tuple(paths), 0)

    def remove(self, root: str) -> None:
        """Nothing: the folder is the user's."""
