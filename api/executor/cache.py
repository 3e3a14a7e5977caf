"""Results of earlier calls, kept in a folder by what was called: the function, its arguments, and files that were named.

A result is one file, written whole or not at all, so several programs may use one folder. Nothing is ever removed: that is for
whoever has made the folder. What is in it may be pickles, so it must be ours alone.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from ...pilot.files import write_atomically
from ...pilot.functions import values
from ...pilot.model.errors import RefusedError
from ...pilot.wire import ownership
from ..errors import WrongArgumentsError

_BLOCK_BYTES = 1 << 20


class Cache:
    """Raises WrongArgumentsError for a folder that is not ours alone, or cannot be made."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            ownership.check_folder(folder)
        except RefusedError as error:
            raise WrongArgumentsError(error.what, where=f"cache {folder}", remedy=error.remedy) from None
        except OSError as error:
            raise WrongArgumentsError(f"cannot be used: {error.strerror}", where=f"cache {folder}") from None

    def get(self, key: bytes) -> bytes | None:
        """The value that a call of this key has returned, as it was written."""
        with suppress(OSError):
            return self._path(key).read_bytes()
        return None

    def put(self, key: bytes, value: bytes | memoryview) -> None:
        """Keep it. A full disk costs nothing but the next time."""
        path = self._path(key)
        file = values.file_of(value)
        with suppress(OSError):
            path.parent.mkdir(mode=0o700, exist_ok=True)
            write_atomically(path, bytes(value) if file is None else Path(file).read_bytes())

    def _path(self, key: bytes) -> Path:
        name = key.hex()
        return self._folder / name[:2] / name[2:]


def digest_of(files: Sequence[str]) -> bytes:
    """What is in these files. Raises OSError."""
    digest = hashlib.blake2b(digest_size=16)
    for path in files:
        with open(path, "rb") as file:
            digest.update(repr(path).encode(errors="surrogateescape"))
            while block := file.read(_BLOCK_BYTES):
                digest.update(block)
    return digest.digest()
