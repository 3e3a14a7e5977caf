"""The errors of the Python API under a short name: `from pilotfish.errors import ConnectionError`."""

from __future__ import annotations

from .api.errors import (
    ConnectionError,
    FileError,
    InternalError,
    InvalidJobDescriptionError,
    JobNotDefinedError,
    PilotfishError,
    QCGPJMAError,
    RequestRefusedError,
    ServiceError,
    TimeoutElapsed,
    WrongArgumentsError,
)

__all__ = [
    "ConnectionError",
    "FileError",
    "InternalError",
    "InvalidJobDescriptionError",
    "JobNotDefinedError",
    "PilotfishError",
    "QCGPJMAError",
    "RequestRefusedError",
    "ServiceError",
    "TimeoutElapsed",
    "WrongArgumentsError",
]
