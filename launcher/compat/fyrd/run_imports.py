"""What a function's module imports, as statements: fyrd's collectors. Our jobs need none: they import the module itself."""

from __future__ import annotations

import inspect
import os
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

Function = Callable[..., Any]
PROT_IMPT = """\
try:
    {}
except ImportError:
    pass
"""


def _listed(given: str | Iterable[str] | None) -> list[str]:
    return [given] if isinstance(given, str) else list(given or ())


def syspath_fmt(syspaths: str | Sequence[str]) -> str:
    """Statements that append these folders. Raises FileNotFoundError."""
    lines = []
    for path in _listed(syspaths):
        if "sys.path" in path:
            lines.append(path)
        elif os.path.exists(path):
            lines.append(f"sys.path.append({os.path.abspath(path)!r})")
        else:
            raise FileNotFoundError(f"there is no folder {path}")
    return "\n".join(lines)


def normalize_imports(imports: str | Sequence[str] | None, prot: bool = True) -> list[str]:
    """Statements, each once, of names of modules and statements; with `prot` a module that is missing is no error."""
    given = _listed(imports)
    if wrong := [each for each in given if not isinstance(each, str)]:
        raise ValueError(f"{wrong[0]!r} is not text")
    paths = [each.rstrip() for each in given if each.startswith("sys.path.")]
    found = []
    for each in given:
        if each.startswith(("sys.path.", "@")):
            continue
        whole = each.startswith(("import ", "from ", "try:"))
        line = each.rstrip() if whole else f"import {each}"
        found.append(PROT_IMPT.format(line) if prot and not line.startswith("try:") else line)
    return list(dict.fromkeys([*paths, *found]))


def _module(function: Function) -> Any:
    return inspect.getmodule(function)


def get_function_path(function: Function) -> str | None:
    """The folder of its module; None for one that has no file."""
    path = getattr(_module(function), "__file__", None)
    return os.path.dirname(os.path.abspath(path)) if path else None


def update_syspaths(function: Function, kwds: Mapping[str, Any] | None = None) -> list[str]:
    """The folder of its module, and those of the option `syspaths`."""
    own = get_function_path(function)
    return [*([own] if own else []), *_listed((kwds or {}).get("syspaths"))]


def import_function(function: Function, mode: str = "string") -> Any:
    """Statements that import it, as text or `list`; nothing for one of the main script. Raises ValueError."""
    if not callable(function):
        raise ValueError(f"{function!r} is not a function")
    if mode not in ("string", "list"):
        raise ValueError(f"mode {mode!r} is neither string nor list")
    module, lines = _module(function), []
    if module is not None and module.__name__ != "__main__" and getattr(module, "__file__", None):
        folder = os.path.abspath(os.path.join(os.path.dirname(module.__file__), *[".."] * module.__name__.count(".")))
        owner = type(function.__self__) if inspect.ismethod(function) else function
        name = getattr(owner, "__name__", "*")
        lines = [f"sys.path.append({folder!r})", f"import {module.__name__}", f"from {module.__name__} import {name}"]
    return lines if mode == "list" else "\n".join(lines)


def get_imports(function: Function, mode: str = "string") -> Any:
    """What a function can use of modules and of other functions, as statements (`string`, `prot`), or as names (`list`)."""
    if mode not in ("string", "prot", "list"):
        raise ValueError(f"mode {mode!r} is none of string, prot and list")
    known = vars(_module(function)) if _module(function) is not None else {}
    names = {**known, **getattr(function, "__globals__", {})}
    public = {name: each for name, each in names.items() if not name.startswith(("_", "@"))}
    modules = sorted((name, each.__name__) for name, each in public.items() if inspect.ismodule(each))
    functions = sorted(
        (name, each.__name__, each.__module__)
        for name, each in public.items()
        if callable(each) and hasattr(each, "__name__") and getattr(each, "__module__", None) not in (None, "__main__")
    )
    if mode == "list":
        return modules, functions
    lines = [f"import {full}" if name == full else f"import {full} as {name}" for name, full in modules]
    lines += [
        f"from {home} import {own}" if name == own else f"from {home} import {own} as {name}"
        for name, own, home in functions
    ]
    return normalize_imports(lines, prot=mode == "prot")


def get_all_imports(function: Function, kwds: Mapping[str, Any], prot: bool = False) -> list[str]:
    """Those of the option `imports`, and those of the function."""
    return normalize_imports([*_listed(kwds.get("imports")), *get_imports(function)], prot=prot)


def export_globals(function: Function) -> None:
    """Make sure that the module of a function can be imported by its name."""
    module = _module(function)
    if module is not None:
        sys.modules.setdefault(module.__name__, module)


def export_imports(function: Function, kwds: Mapping[str, Any]) -> list[str]:
    """All statements that a function needs."""
    export_globals(function)
    return [*import_function(function, "list"), *get_all_imports(function, kwds)]


def export_run(function: Function, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    """Call it, when its imports are done; `imports` among its arguments is taken for those."""
    given = dict(kwargs)
    names: dict[str, Any] = {"sys": sys}
    for line in normalize_imports(given.pop("imports", None)):
        exec(line, names)
    return function(*args, **given)
