"""Python functions as jobs: pickled with their arguments, called by a Python on the machine, their result pickled back.

The Python on the machine needs nothing of ours. Functions are pickled by name, so the machine must be able to import what they
are in; the main script is run there under another name, as `multiprocessing` does.
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
import importlib, os, pickle, runpy, sys, traceback, types

sys.path[:0] = {paths!r}
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


def pack(function: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]) -> bytes:
    """Raises FunctionError."""
    named: Any = function
    if _by_name(function) is not function and getattr(_by_name(function), "__wrapped__", None) is function:
        named = (function.__module__, function.__qualname__)  # a decorator has its name
    try:
        return pickle.dumps((named, tuple(args), dict(kwargs)))
    except (pickle.PicklingError, AttributeError, TypeError) as error:
        remedy = "send a function of the top level of a module or script, no lambda; arguments must be picklable too"
        raise FunctionError(f"cannot be pickled: {error}", where=repr(function), remedy=remedy) from error


def _by_name(function: Callable[..., Any]) -> Any:
    found: Any = sys.modules.get(function.__module__)
    for name in getattr(function, "__qualname__", "").split("."):
        found = getattr(found, name, None)
    return found


def caller(
    function: Callable[..., Any], given: str, result: str, imports: Sequence[str] = (), paths: Sequence[str] = ()
) -> str:
    """The text of the program that calls it; `given` and `result` are paths of pickles on the machine.

    Raises FunctionError for a function that was typed at a prompt.
    """
    main = ""
    if function.__module__ == "__main__":
        main = os.path.abspath(getattr(sys.modules["__main__"], "__file__", "") or "")
        if not os.path.isfile(main):
            raise FunctionError("is in no file", where=repr(function), remedy="write it into a module, and import that")
    return _CALLER.format(
        paths=[*paths, *(os.path.abspath(each) for each in sys.path)],
        main=main,
        imports=list(imports),
        given=given,
        result=result,
    )


def unpack(text: bytes) -> Any:
    """What the function returned; what it raised is raised again, with its traceback there as a note in `__cause__`."""
    sys.modules.setdefault("__mp_main__", sys.modules["__main__"])
    good, value, trace = pickle.loads(text)
    if good:
        return value
    raise value from RuntimeError(f"\n{trace}")
