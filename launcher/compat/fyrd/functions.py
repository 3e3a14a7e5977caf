"""Python functions as jobs: pickled with their arguments, called by a Python on the machine; for what comes back see `data`.

The Python on the machine needs nothing of ours. Functions are pickled by name, so the machine must be able to import what they
are in; the main script is run there under another name, as `multiprocessing` does. A function that has no such name (a lambda,
one inside another, one typed at a prompt or in a notebook) goes by value, for which the machine needs `cloudpickle`.
"""

from __future__ import annotations

import hashlib
import os
import pickle
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ....pilot.model.errors import UsageError
from .data import ENCODER

_IN_A_CALL = "PILOTFISH_IN_A_CALL"
"""Set on the machine while the main script is run for the definitions in it."""

_CALLER = '''\
"""Calls one function and keeps what it returns, or raises."""
import base64, hashlib, hmac, importlib, json, os, runpy, sys, traceback, types

sys.path[:0] = {paths!r}
import {pickler} as pickle

KEY = bytes.fromhex({key!r})


{encoder}

def pickled(value):
    return base64.b64encode(pickle.dumps(value)).decode()


def full_name(kind):
    return "%s.%s" % (kind.__module__, kind.__qualname__)


def returned(value):
    try:
        return {{"good": True, "value": data(value)}}
    except (ValueError, RecursionError):
        pass
    try:
        return {{"good": True, "type": full_name(type(value)), "pickle": pickled(value)}}
    except Exception as error:
        raise RuntimeError("the result cannot be pickled: %s" % error)


def raised(error):
    try:
        text = str(error)
    except Exception:
        text = "cannot be shown"
    kept = {{"good": False, "type": full_name(type(error)), "text": text, "trace": traceback.format_exc()}}
    try:
        kept["args"] = data(error.args)
    except (ValueError, RecursionError):
        pass
    try:
        kept["pickle"] = pickled(error)
        pickle.loads(base64.b64decode(kept["pickle"]))
    except Exception:
        kept.pop("pickle", None)
    return kept


main = {main!r}
if main:
    os.environ[{in_a_call!r}] = main
    module = types.ModuleType("__mp_main__")
    module.__dict__.update(runpy.run_path(main, run_name="__mp_main__"))
    sys.modules["__main__"] = sys.modules["__mp_main__"] = module
    del os.environ[{in_a_call!r}]
for name in {imports!r}:
    if not name.startswith(("import ", "from ")):
        importlib.import_module(name)
try:
    with open({given!r}, "rb") as file:
        text = file.read()
    if hashlib.sha256(text).hexdigest() != {digest!r}:
        raise RuntimeError("%s is not what was submitted" % {given!r})
    try:
        function, args, kwargs = pickle.loads(text)
    except AttributeError as error:
        if main:
            raise AttributeError("%s; define it above `if __name__ == '__main__':` of %s" % (error, main))
        raise
    if isinstance(function, tuple):
        found = importlib.import_module(function[0])
        for name in function[1].split("."):
            found = getattr(found, name)
        function = found.__wrapped__
    names = getattr(getattr(function, "__func__", function), "__globals__", {{}})
    for line in {imports!r}:
        if line.startswith(("import ", "from ")):
            exec(line, names)
    value = function(*args, **kwargs)
    kept, code = returned(value), 0
except Exception as error:
    traceback.print_exc()
    kept, code = raised(error), 1
text = sealed(kept, KEY)
with open({result!r} + ".tmp", "wb") as file:
    file.write(text)
os.replace({result!r} + ".tmp", {result!r})
sys.exit(code)
'''


class FunctionError(UsageError):
    """A function cannot be sent to another process."""

    code = "function"


def refuse_inside_a_call(name: str) -> None:
    """Raises FunctionError where a main script submits jobs while it is only run for what it defines."""
    if _IN_A_CALL in os.environ:
        what = f"{os.environ[_IN_A_CALL]} submits jobs when it is imported, so each job would submit more"
        raise FunctionError(what, where=name, remedy="put that part below `if __name__ == '__main__':`")


def prepared(
    function: Callable[..., Any],
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
    given: str,
    result: str,
    key: bytes,
    imports: Sequence[str] = (),
    paths: Sequence[str] = (),
) -> tuple[str, bytes]:
    """The text of the program that makes the call, and what it reads; `given` and `result` are paths on the machine.

    What it writes is signed with the key, so it tells the result of this job from any other file.
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
        digest=hashlib.sha256(packed).hexdigest(),
        result=result,
        key=key.hex(),
        encoder=ENCODER,
        in_a_call=_IN_A_CALL,
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
