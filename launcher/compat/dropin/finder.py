"""How Python finds the modules of the old systems in Pilotfish.

Two finders stand in `sys.meta_path`. The first is asked before any other, so that what it serves wins over an original in the
program's own folder or in site-packages. The second is asked last, and says why a module of an old system cannot be had.
Nothing of ours is loaded before it is asked for.

A module that is there under the same name is that module under a second one; others are a `Collection`. What a program sets in
either (`fyrd.logme.MIN_LEVEL = "debug"`) has its effect.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Sequence
from importlib import import_module
from importlib.machinery import ModuleSpec, PathFinder
from types import CodeType, ModuleType
from typing import Any

from .tables import COMMANDS, PARTS, SYSTEMS, System

_OURS = __name__.removesuffix(".launcher.compat.dropin.finder")
_ASKED = ("__all__", "__version__")
"""Of a module's own attributes only these are looked for in its parts."""


class Collection(ModuleType):
    """A module with the names of several, looked up when they are asked for."""

    def __init__(self, name: str, parts: Sequence[str], finder: Served) -> None:
        super().__init__(name, f"{name}, as Pilotfish serves it.")
        self.__dict__["_parts"] = tuple(parts)
        self.__dict__["_finder"] = finder

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            return self._own(name)
        for part in self._parts:
            value = getattr(_load(part, self.__name__), name, None)
            if value is not None and not isinstance(value, ModuleType):
                return value
        full = f"{self.__name__}.{name}"
        if self._finder.parts(full) is not None:  # as there, where a package imports its modules
            return import_module(full)
        for part in self._parts:  # what is None, or a module that it has imported
            if hasattr(_load(part, self.__name__), name):
                return getattr(_load(part, self.__name__), name)
        raise AttributeError(f"module {self.__name__!r} of Pilotfish has no attribute {name!r}")

    def __setattr__(self, name: str, value: Any) -> None:
        """In the part that has it; what none has, and the modules that Python notes in their packages, here."""
        if not name.startswith("__") and not isinstance(value, ModuleType):
            for part in self._parts:
                if hasattr(_load(part, self.__name__), name):
                    setattr(_load(part, self.__name__), name, value)
                    return
        super().__setattr__(name, value)

    def _own(self, name: str) -> Any:
        if name == "__all__":
            return sorted({public for part in self._parts for public in _public(_load(part, self.__name__))})
        system = _system(self.__name__)
        if name == "__version__" and system is not None and self.__name__ in (system.top, f"{system.top}.executor_api"):
            return system.version
        raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")

    def __dir__(self) -> list[str]:
        return sorted({*self.__dict__, *self._own("__all__")})


class Served:
    """Finds modules of the systems in `names`; more may be added."""

    def __init__(self) -> None:
        self.names: dict[str, System] = {}

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if name == "qcg" and "qcg" in self.names:
            return _namespace(name)
        if _system(name, self.names.values()) is None:
            return None
        parts = self.parts(name)
        if parts is None:
            return _original(name)
        loader: Any = Loader(name, parts, self)  # it has what loaders need; `abc` is not loaded for it
        return ModuleSpec(name, loader, is_package=_is_package(name))

    def parts(self, name: str) -> tuple[str, ...] | None:
        """Our modules behind that of this name; None where there is none."""
        system = _system(name, self.names.values())
        if system is None:
            return None
        home = f"{system.home}{name.removeprefix(system.top)}"
        same = (home,) if _exists(f"{_OURS}.{home}") else ()
        if not same and name not in PARTS:
            return None
        return (*same, *(part for part in PARTS.get(name, ()) if part != home))

    def find_distributions(self, context: Any = None) -> Iterator[Any]:
        """For `importlib.metadata.version("qcg-pilotjob")`: the version whose names are served."""
        wanted = _normal(getattr(context, "name", None))
        for system in self.names.values():
            if wanted in system.distributions:
                from .distribution import Named

                yield Named(wanted, system.version)


class Loader:
    """Makes a module of `parts`."""

    def __init__(self, name: str, parts: Sequence[str], finder: Served) -> None:
        self._name, self._parts, self._finder = name, parts, finder
        self._spec: ModuleSpec | None = None

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        if len(self._parts) == 1 and self._name not in PARTS:
            module = _load(self._parts[0], self._name)
            self._spec = module.__spec__
            return module
        return Collection(self._name, self._parts, self._finder)

    def exec_module(self, module: ModuleType) -> None:
        """There is nothing left to do, but that a module of ours stays what it was."""
        if self._spec is not None:
            module.__spec__ = self._spec
        elif self._parts:
            _load(self._parts[0], self._name)  # an import that cannot succeed is to fail here

    def get_code(self, name: str) -> CodeType:
        """What `python -m NAME` runs."""
        if name not in COMMANDS:
            raise ImportError(f"{name} is no program", name=name)
        return compile(f"from {__package__}.commands import become; become({COMMANDS[name]!r})", f"<{name}>", "exec")

    def get_source(self, name: str) -> None:
        """None: there is no file of this name (`inspect`, tracebacks)."""

    def is_package(self, name: str) -> bool:
        return _is_package(name)


class Missing:
    """Asked when nobody has found a module."""

    def __init__(self, served: Served) -> None:
        self._served = served

    def find_spec(self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None) -> None:
        system = _system(name, self._served.names.values())
        if system is not None:
            raise ModuleNotFoundError(
                f"No module named {name!r}: Pilotfish serves the documented modules of {system.distributions[0]} "
                f"{system.version}, and the original is not installed here",
                name=name,
            )


def install(names: Iterable[str]) -> Served:
    """Serve the modules of these systems in this process from now on. May be called again, for more of them."""
    served = next((finder for finder in sys.meta_path if isinstance(finder, Served)), None)
    if served is None:
        served = Served()
        sys.meta_path.insert(0, served)
        sys.meta_path.append(Missing(served))
    served.names |= {name: SYSTEMS[name] for name in names}
    return served


def is_served(module: ModuleType) -> bool:
    """Whether this is a module of ours under an old name."""
    return isinstance(module, Collection) or module.__name__.startswith(f"{_OURS}.")


def _system(name: str, among: Iterable[System] = tuple(SYSTEMS.values())) -> System | None:
    return next((system for system in among if f"{name}.".startswith(f"{system.top}.")), None)


def _is_package(name: str) -> bool:
    system = _system(name)
    assert system is not None
    home = ".".join([_OURS, f"{system.home}{name.removeprefix(system.top)}"])
    spec = _spec(home)
    of_ours = spec is not None and spec.submodule_search_locations is not None
    return of_ours or name == system.top or any(known.startswith(f"{name}.") for known in PARTS)


def _exists(name: str) -> bool:
    return _spec(name) is not None


def _spec(name: str) -> ModuleSpec | None:
    """Without importing it; its packages are ours and small."""
    from importlib.util import find_spec

    try:
        return find_spec(name)
    except ModuleNotFoundError:  # a package above it is not there
        return None


def _load(part: str, name: str) -> ModuleType:
    """Our module `part`, for the old name. Raises ImportError that says what this Python lacks."""
    try:
        return import_module(f"{_OURS}.{part}")
    except ImportError as error:
        if (error.name or "").startswith(_OURS):
            raise
        what = f"Pilotfish, which serves {name}, cannot be loaded into {sys.executable}"
        version = ".".join(map(str, sys.version_info[:2]))
        raise ImportError(f"{what} (Python {version}): {error}; install pilotfish there", name=name) from error


def _public(module: ModuleType) -> Iterable[str]:
    """What `import *` takes: of a module without `__all__` its own classes and functions, and its constants."""
    if hasattr(module, "__all__"):
        return list(module.__all__)
    return [
        name
        for name, value in vars(module).items()
        if not name.startswith("_")
        and getattr(value, "__module__", module.__name__ if name.isupper() else "") == module.__name__
    ]


def _namespace(name: str) -> ModuleSpec | None:
    """`qcg` is a package that several distributions share. Where there is none here, an empty one."""
    if PathFinder.find_spec(name) is not None:
        return None
    spec = ModuleSpec(name, None, is_package=True)
    spec.submodule_search_locations = []
    return spec


def _original(name: str) -> ModuleSpec | None:
    """A module of the original that we do not have, where it is installed. It finds ours where it imports those we have."""
    path: list[str] | None = None
    spec = None
    words = name.split(".")
    for count in range(1, len(words) + 1):
        spec = PathFinder.find_spec(".".join(words[:count]), path)
        if spec is None or (count < len(words) and spec.submodule_search_locations is None):
            return None
        path = list(spec.submodule_search_locations or ())
    return spec


def _normal(name: str | None) -> str:
    return (name or "").lower().replace("_", "-").replace(".", "-")
