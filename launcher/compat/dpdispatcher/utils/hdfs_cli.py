"""Files in HDFS, by the command `hadoop fs` of this machine."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence

from ....contexts.shell import words


class HDFSMissingPathError(RuntimeError):
    """There is no such path in HDFS."""


class HDFS:
    """Each method is one call of `hadoop fs`, and raises RuntimeError with its words when that fails."""

    @staticmethod
    def _run(*words: str) -> tuple[int, bytes, bytes]:
        for operand in words[1:]:
            if not operand or "\0" in operand:
                raise ValueError(f"{operand!r} is no path in HDFS")
        try:
            done = subprocess.run(["hadoop", "fs", *words], capture_output=True, check=False)
        except FileNotFoundError as error:
            raise RuntimeError("there is no command `hadoop` here") from error
        return done.returncode, done.stdout, done.stderr

    @classmethod
    def _checked(cls, what: str, arguments: Sequence[str]) -> bytes:
        code, out, err = cls._run(*arguments)
        if code:
            text = (err or out).decode(errors="replace").strip()
            kind = HDFSMissingPathError if "No such file or directory" in text else RuntimeError
            raise kind(f"Cannot {what} with {words(['hadoop', 'fs', *arguments])}; ret[{code}]: {text}")
        return out

    @classmethod
    def exists(cls, uri: str) -> bool:
        code, out, err = cls._run("-test", "-e", _path(uri))
        if code not in (0, 1):
            raise RuntimeError(f"Cannot check {uri}; ret[{code}]: {(err or out).decode(errors='replace').strip()}")
        return code == 0

    @classmethod
    def remove(cls, uri: str) -> bool:
        """With all that is below it."""
        cls._checked(f"remove {uri}", ["-rm", "-r", _path(uri)])
        return True

    @classmethod
    def mkdir(cls, uri: str) -> bool:
        """With those above it."""
        cls._checked(f"make {uri}", ["-mkdir", "-p", _path(uri)])
        return True

    @classmethod
    def copy_from_local(cls, local_path: str, to_uri: str) -> tuple[bool, bytes]:
        """(True, what was printed)."""
        return True, cls._checked(f"copy {local_path} to {to_uri}", ["-copyFromLocal", "-f", local_path, _path(to_uri)])

    @classmethod
    def copy_to_local(cls, from_uri: str | Sequence[str], local_path: str) -> bool:
        """One path, or several into a folder."""
        given = [from_uri] if isinstance(from_uri, str) else list(from_uri)
        cls._checked(f"copy {', '.join(given)}", ["-copyToLocal", *map(_path, given), local_path])
        return True

    @classmethod
    def read_hdfs_file(cls, uri: str) -> bytes:
        return cls._checked(f"read {uri}", ["-text", _path(uri)])

    @classmethod
    def move(cls, from_uri: str, to_uri: str) -> bool:
        cls._checked(f"move {from_uri} to {to_uri}", ["-mv", _path(from_uri), _path(to_uri)])
        return True


def _path(uri: str) -> str:
    """Raises ValueError for what the command would take for an option."""
    if uri.startswith("-"):
        raise ValueError(f"{uri!r} begins with a dash")
    return uri
