"""Functions on their way to the workers: pickled once, as long as they mean the same."""

from __future__ import annotations

import hashlib
import operator
import sys
from collections import OrderedDict
from collections.abc import Callable
from types import BuiltinFunctionType, FunctionType, ModuleType
from typing import Any, NamedTuple

from ...pilot.functions import values

_MOST_KEPT = 256
_MOST_DEPTH = 4
_CONSTANT = (type(None), bool, int, float, complex, str, bytes, ModuleType, BuiltinFunctionType)


class Code(NamedTuple):
    """A function as bytes, and what it is known by."""

    digest: bytes
    data: bytes
    name: str


class _Kept(NamedTuple):
    function: Callable[..., Any]
    """Held, so that nothing else gets its place in memory."""
    meaning: tuple[object, ...]
    code: Code


class Functions:
    """Not for two threads at once, but for any that holds the executor's lock."""

    def __init__(self) -> None:
        self._kept: OrderedDict[int, _Kept] = OrderedDict()

    def code_of(self, function: Callable[..., Any]) -> Code:
        """Raises whatever pickling it raises."""
        meaning = _meaning(function)
        kept = self._kept.get(id(function))
        if kept is not None and meaning is not None and _same(meaning, kept.meaning):
            return kept.code
        data = values.flat(values.pack(function))
        code = Code(hashlib.blake2b(data, digest_size=16).digest(), data, _name_of(function))
        if meaning is not None:
            self._kept[id(function)] = _Kept(function, meaning, code)
            if len(self._kept) > _MOST_KEPT:
                self._kept.popitem(last=False)
        return code


def _same(one: tuple[object, ...], other: tuple[object, ...]) -> bool:
    return len(one) == len(other) and all(map(operator.is_, one, other))


def _name_of(function: Callable[..., Any]) -> str:
    name = getattr(function, "__name__", None) or type(function).__name__
    return "".join(sign if sign.isalnum() and sign.isascii() else "_" for sign in name).strip("_")[:40] or "call"


def _meaning(function: Callable[..., Any], depth: int = 0) -> tuple[object, ...] | None:
    """All objects on which it depends what a function does that is pickled by value; None where one of them may change.

    A function of a module that others can import is pickled by its name, which never changes its meaning.
    """
    if type(function) is not FunctionType:
        return () if isinstance(function, BuiltinFunctionType) and type(function.__self__) is ModuleType else None
    if _is_importable(function):
        return ()
    held = None if depth > _MOST_DEPTH or function.__dict__ else _held_by(function)
    if held is None:
        return None
    found: list[object] = [function.__code__, function.__defaults__, function.__kwdefaults__]
    for value in held:
        inner: tuple[object, ...] | None = ()
        if isinstance(value, FunctionType) and value is not function:
            inner = _meaning(value, depth + 1)
        elif not (type(value) in _CONSTANT or value is function or (isinstance(value, type) and _is_importable(value))):
            inner = None
        if inner is None:
            return None
        found += (value, *inner)
    return tuple(found)


def _held_by(function: FunctionType) -> list[object] | None:
    """The values that it names, as far as they can be seen from here."""
    code, scope = function.__code__, function.__globals__
    if any(type(constant) is type(code) for constant in code.co_consts):
        return None  # what inner functions name is not
    held = [scope[name] for name in code.co_names if name in scope]
    try:
        held += [cell.cell_contents for cell in function.__closure__ or ()]
    except ValueError:  # an empty cell
        return None
    return [*held, *(function.__defaults__ or ()), *(function.__kwdefaults__ or {}).values()]


def _is_importable(named: Any) -> bool:
    """Whether another process finds the same under its name."""
    module = getattr(named, "__module__", None)
    if module is None or module in ("__main__", "__mp_main__"):
        return False
    found: Any = sys.modules.get(module)
    for part in getattr(named, "__qualname__", "").split("."):
        found = getattr(found, part, None)
    return found is named
