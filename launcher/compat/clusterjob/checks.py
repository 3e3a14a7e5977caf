"""Attributes and resources of job scripts, checked where they are set: a wrong one is told there and not while a job runs."""

from __future__ import annotations

import re
from textwrap import dedent
from typing import Any

from ...description.schema import DescriptionError, nearest
from .own_backend import all_backends

_WHOLE = frozenset({"nodes", "ppn", "threads"})
_MEMORY = re.compile(r"(\d+)\s*([kmgt]?)b?", re.IGNORECASE)
_MB = {"k": 1 / 1024, "": 1.0, "m": 1.0, "g": 1024.0, "t": 1024.0**2}


class UnknownBackendError(DescriptionError, ValueError):
    """No backend has this name."""

    code = "unknown-backend"


class SettingError(DescriptionError, ValueError):
    """An attribute or a resource of a job script has a value of a wrong kind."""

    code = "setting"


def attribute(name: str, value: Any) -> Any:
    """The value as it is kept. Raises UnknownBackendError, SettingError, ValueError."""
    if name in ("prologue", "epilogue"):
        if value is None:
            raise ValueError(f"{name} cannot be None")
        return dedent(str(value)).strip()
    if name in ("rootdir", "workdir"):
        text = str(value).strip()
        return text if text == "/" else text.removesuffix("/")
    if name == "max_sleep_interval":
        return _seconds(value)
    if name == "backend" and value not in (known := all_backends()):
        remedy = nearest(str(value), known) or f"known are {', '.join(sorted(known))}"
        raise UnknownBackendError(f"Unknown backend {value}", where="backend", remedy=remedy)
    if name == "resources":
        return {key: resource(key, each) for key, each in dict(value).items()}
    return value


def _seconds(value: Any) -> float:
    try:
        seconds = value if isinstance(value, int | float) and not isinstance(value, bool) else float(str(value))
    except ValueError:
        seconds = -1
    if not seconds > 0:
        raise SettingError(f"{value!r} is not a number of seconds above 0", where="max_sleep_interval")
    return seconds


def resource(key: str, value: Any) -> Any:
    """The value as it is written into directives. Raises SettingError."""
    if value is None or value is False:
        return value
    if key in _WHOLE:
        if isinstance(value, bool) or not re.fullmatch(r"\s*0*[1-9]\d*\s*", str(value)):
            raise SettingError(f"{value!r} is not a whole number above 0", where=f"resources.{key}")
        return int(value)
    if key == "mem":
        match = _MEMORY.fullmatch(str(value).strip())
        if isinstance(value, bool) or match is None:
            raise SettingError(
                f"{value!r} is not an amount of memory", where="resources.mem", remedy="write MB, or 4GB"
            )
        return max(1, round(int(match[1]) * _MB[match[2].lower()]))
    return value


class CheckedClass(type):
    """Attributes that are set on the class are checked like those of a script, and it knows what it had when it was made."""

    def __init__(cls, name: str, bases: tuple[type, ...], namespace: dict[str, Any]) -> None:
        super().__init__(name, bases, namespace)
        type.__setattr__(cls, "_pristine", public(cls))

    def __setattr__(cls, name: str, value: Any) -> None:
        super().__setattr__(name, attribute(name, value))


def public(kind: type) -> dict[str, Any]:
    """What is set on the class itself."""
    found = {name: value for name, value in vars(kind).items() if not name.startswith("_")}
    return {name: dict(value) if isinstance(value, dict) else value for name, value in found.items()}
