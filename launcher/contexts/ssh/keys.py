"""Files with keys and certificates, and keys of an agent, for paramiko: which of them belong together."""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import paramiko


@contextmanager
def agent_keys() -> Iterator[Mapping[bytes, paramiko.PKey]]:
    """Keys of the agent by their public halves, in its order; they can be used until the end of the block."""
    import paramiko

    try:
        agent = paramiko.Agent()
    except (paramiko.SSHException, OSError):
        yield {}
        return
    try:
        yield {key.asbytes(): key for key in agent.get_keys()}
    finally:
        agent.close()


def certifies(certificate: str, key: paramiko.PKey) -> bool:
    """Whether a file is a certificate of that key. Its binary form has all fields of the public key in it, but for the type."""
    with suppress(OSError, ValueError, IndexError):
        kind, text = Path(certificate).read_text(encoding="ascii").split()[:2]
        fields = key.asbytes()[4 + len(key.get_name()) :]
        return kind.startswith(f"{key.get_name()}-cert-") and fields in base64.b64decode(text)
    return False


def is_public(path: str) -> bool:
    """Whether a file holds a public key although it is named as a private one (IdentitiesOnly with an agent)."""
    with suppress(OSError), open(path, "rb") as file:
        return not file.read(11).startswith(b"-----BEGIN")
    return False


def public_half(path: str) -> bytes:
    """Of the key that a file names; empty when there is no such file."""
    for name in (path, f"{path}.pub"):
        with suppress(OSError, ValueError, IndexError):
            return base64.b64decode(Path(name).read_text(encoding="ascii").split()[1], validate=True)
    return b""
