"""Python functions as jobs: pickled with their arguments, called by a Python on the machine, their result pickled back.

The Python on the machine needs nothing of ours. Functions are pickled by name, so the machine must be able to import what they
are in; the main script is run there under another name, as `multiprocessing` does. A function that has no such name (a lambda,
one inside another, one typed at a prompt or in a notebook) goes by value, for which the machine needs `cloudpickle`.
"""

from __future__ import annotations

import os
import pickle
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ...pilot.model.errors import UsageError

_CALLER = '''\
"""Calls one function and keeps what it returns, or raises."""
import importlib, os, runpy, sys, traceback, types

sys.path[:0] = {paths!r}
import {pickler} as pickle

main = {main!r}
if main:
    module = types.ModuleType("__mp_main__")
    module.__dict__.update(runpy.run_path(main, run_name="__mp_main__"))
    sys.modules["__main__"] = sys.modules["__mp_main__"] = module
for name in {imports!r}:
    importlib.import_module(name)
try:
    with open({given!r}, "rb") as file:
        function, args, kwargs = pickle.load(file)
    if isinstance(function, tuple):
        found = importlib.import_module(function[0])
        for name in function[1].split("."):
            found = getattr(found, name)
        function = found.__wrapped__
    kept, code = (True, function(*args, **kwargs), ""), 0
except Exception as error:
    traceback.print_exc()
    kept, code = (False, error, traceback.format_exc()), 1
try:
    text = pickle.dumps(kept)
except Exception as error:
    traceback.print_exc()
    text, code = pickle.dumps((False, RuntimeError("cannot be pickled: %s" % error), traceback.format_exc())), 1
with open({result!r} + ".tmp", "wb") as file:
    file.write(text)
os.replace({result!r} + ".tmp", {result!r})
sys.exit(code)
'''


class FunctionError(UsageError):
    """A function cannot be sent to another process."""

    code = "function"


def prepared(
    function: Callable[..., Any],
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
    given: str,
    result: str,
    imports: Sequence[str] = (),
    paths: Sequence[str] = (),
) -> tuple[str, bytes]:
    """The text of the program that makes the call, and what it reads; `given` and `result` are paths of pickles on the machine.

    Raises FunctionError.
    """
    pickler, main = "pickle", ""
    packed = _by_name((_named(function), tuple(args), dict(kwargs)))
    if packed is not None and b"__main__" in packed:
        main = os.path.abspath(getattr(sys.modules["__main__"], "__file__", None) or "")
    if packed is None or (main and not os.path.isfile(main)):  # there is no file at a prompt or in a notebook
        pickler, main = "cloudpickle", ""
        packed = _by_value((function, tuple(args), dict(kwargs)))
    text = _CALLER.format(
        pickler=pickler,
        paths=[*paths, *(os.path.abspath(each) for each in sys.path)],
        main=main,
        imports=list(imports),
        given=given,
        result=result,
    )
    return text, packed


def _by_name(call: tuple[Any, ...]) -> bytes | None:
    """None when something in it has no name."""
    try:
        return pickle.dumps(call)
    except (pickle.PicklingError, AttributeError, TypeError):
        return None


def _by_value(call: tuple[Any, ...]) -> bytes:
    import cloudpickle

    try:
        return bytes(cloudpickle.dumps(call))
    except Exception as error:  # an argument's own methods may raise anything
        remedy = "arguments, and what the function has from around it, must be picklable"
        raise FunctionError(f"cannot be pickled: {error}", where=repr(call[0]), remedy=remedy) from error


def _named(function: Callable[..., Any]) -> Any:
    """What stands for the function: itself, or its module and name when a decorator has that name now."""
    found: Any = sys.modules.get(function.__module__)
    for name in getattr(function, "__qualname__", "").split("."):
        found = getattr(found, name, None)
    decorated = found is not function and getattr(found, "__wrapped__", None) is function
    return (function.__module__, function.__qualname__) if decorated else function


def unpack(text: bytes) -> Any:
    """What the function returned; what it raised is raised again, with its traceback there as a note in `__cause__`."""
    sys.modules.setdefault("__mp_main__", sys.modules["__main__"])
    good, value, trace = pickle.loads(text)
    if good:
        return value
    raise value from RuntimeError(f"\n{trace}")
