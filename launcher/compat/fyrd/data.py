"""What comes back from a function: a small envelope of plain data, signed with a key that only this job has.

Whoever can write on the machine can put any bytes where a result is expected. So they are data: a result of another job, or of
nobody, is refused by its signature, and nothing in it is ever run, but for a pickle that the caller has asked to trust.
Numbers, text, bytes, lists, tuples, sets and mappings need none.
"""

from __future__ import annotations

import base64
import builtins
import hashlib
import hmac
import json
import pickle
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from ...submission.job_options import ClusterError

# For the program on the machine too, which has nothing of ours: plain Python 3.6, standard library only.
ENCODER = '''\
def data(value):
    """The value as JSON can have it; lists are lists, the rest has its kind. ValueError for what is no plain data."""
    kind = type(value)
    if value is None or kind in (bool, str):
        return value
    if kind is int:
        return value if -(2**63) <= value < 2**63 else ["int", hex(value)]
    if kind is float:
        return ["float", value.hex()]
    if kind is complex:
        return ["complex", value.real.hex(), value.imag.hex()]
    if kind in (bytes, bytearray):
        return [kind.__name__, base64.b64encode(value).decode()]
    if kind in (list, tuple, set, frozenset):
        return [kind.__name__, [data(each) for each in value]]
    if kind is dict:
        return ["dict", [[data(name), data(each)] for name, each in value.items()]]
    raise ValueError("no plain data: %s.%s" % (kind.__module__, kind.__name__))


def sealed(found, key):
    """The envelope as bytes."""
    text = json.dumps(found).encode()
    return hmac.new(key, text, hashlib.sha256).hexdigest().encode() + b"\\n" + text
'''

_MAKERS: dict[str, Callable[..., Any]] = {
    "int": lambda text: int(text, 16),
    "float": float.fromhex,
    "complex": lambda real, imaginary: complex(float.fromhex(real), float.fromhex(imaginary)),
    "bytes": lambda text: base64.b64decode(text, validate=True),
    "bytearray": lambda text: bytearray(base64.b64decode(text, validate=True)),
    "list": lambda values: [_value(each) for each in values],
    "tuple": lambda values: tuple(_value(each) for each in values),
    "set": lambda values: {_value(each) for each in values},
    "frozenset": lambda values: frozenset(_value(each) for each in values),
    "dict": lambda items: {_value(name): _value(each) for name, each in items},
}


class ForeignResultError(ClusterError):
    """A file that should have a function's result is not from the job that was to write it."""

    code = "foreign-result"


class UntrustedResultError(ClusterError):
    """A function's result is a pickle, which can run any code here, and nobody has asked to load it."""

    code = "untrusted-result"


class RemoteError(ClusterError):
    """A function raised something that cannot be made again here; its kind and text are in `what`."""

    code = "remote"


def _value(found: Any) -> Any:
    if isinstance(found, list):
        return _MAKERS[found[0]](*found[1:])
    if found is None or isinstance(found, bool | int | str):
        return found
    raise ValueError(f"{type(found).__name__} is not expected")


_BROKEN = (ValueError, LookupError, TypeError, AttributeError, ImportError, ArithmeticError, RecursionError)


def result(text: bytes, key: bytes, trusted: bool, where: str) -> Any:
    """What the function returned; what it raised is raised again, with its traceback there in `__cause__`.

    Raises ForeignResultError for a text that this key has not signed, UntrustedResultError, RemoteError.
    """
    found = _unsealed(text, key, where)
    try:
        if found["good"] is True:
            return _value(found["value"]) if "value" in found else _unpickled(found, trusted, where)
        raised, cause = _raised(found, trusted), RuntimeError(f"\n{found['trace']}")
    except _BROKEN as error:
        raise ForeignResultError(f"cannot be read: {error!r}", where=where) from error
    raise raised from cause


def _unsealed(text: bytes, key: bytes, where: str) -> dict[str, Any]:
    seal, _, content = text.partition(b"\n")
    good = hmac.new(key, content, hashlib.sha256).hexdigest().encode()
    if not hmac.compare_digest(seal, good):
        what = "is not what this job has written: it does not carry the job's key"
        raise ForeignResultError(what, where=where, remedy="somebody else has written or changed it; run the job again")
    try:
        found: dict[str, Any] = json.loads(content)
    except _BROKEN as error:
        raise ForeignResultError(f"cannot be read: {error!r}", where=where) from error
    return found


def _unpickled(found: dict[str, Any], trusted: bool, where: str) -> Any:
    if not trusted:
        what = (
            f"the result is a {found['type']}, which comes as a pickle: to load it is to run what the machine has sent"
        )
        remedy = "return numbers, text, bytes, lists or mappings, or trust the machine with trust_pickle=True"
        raise UntrustedResultError(what, where=where, remedy=remedy)
    try:
        return _loaded(found["pickle"])
    except Exception as error:  # whatever its classes do
        raise ForeignResultError(f"cannot be read: {error!r}", where=where) from error


def _loaded(text: str) -> Any:
    sys.modules.setdefault("__mp_main__", sys.modules["__main__"])
    return pickle.loads(base64.b64decode(text))


def _raised(found: dict[str, Any], trusted: bool) -> BaseException:
    if trusted and "pickle" in found:
        try:
            made = _loaded(found["pickle"])
            if isinstance(made, BaseException):
                return made
        except Exception:  # its class may be missing here, or take other arguments
            pass
    kind = getattr(builtins, found["type"].removeprefix("builtins."), None)
    if "args" in found and isinstance(kind, type) and issubclass(kind, Exception):
        with suppress(Exception):  # whatever a machine has sent as its arguments
            return kind(*_value(found["args"]))
    return RemoteError(f"{found['type']}: {found['text']}")
