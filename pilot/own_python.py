"""How a process of ours starts another one: by its interpreter, and with nothing but installed code.

`python -m pilotfish` would put the folder it is started in first on the module path. That is where the user works, so a file
`resource.py` or `logging.py` there, made by the user or by whoever may write to that folder, would be run in the place of the
module of this name. Python has had `-P` against this since 3.11; `-I` would also hide what PYTHONPATH and `pip --user` have.
"""

from __future__ import annotations

_BEGIN = (
    "import sys; sys.path[:] = filter(None, sys.path); from importlib.util import find_spec; "
    "find_spec('pilotfish') or sys.exit(sys.executable + ': No module named pilotfish'); "
)
PROGRAM = f"{_BEGIN}from pilotfish.__main__ import main; main()"
"""With `-c` the folder is the empty entry. `sys` is part of the interpreter, so the line itself cannot be misled."""


def pilotfish(python: str, *words: str) -> list[str]:
    """The command line of `pilotfish WORDS` with this interpreter, here or on another host."""
    return [python, "-c", PROGRAM, *words]


def of_module(python: str, module: str, function: str = "main") -> list[str]:
    """The command line of `function(WORDS)` in a module of ours, to which WORDS are to be added. It returns the exit code."""
    return [python, "-c", f"{_BEGIN}from {module} import {function}; sys.exit({function}(sys.argv[1:]))"]
