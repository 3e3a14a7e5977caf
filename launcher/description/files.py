"""Description files: JSON, YAML or TOML, with `$ref` to other files where it is allowed, and machines by name."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ...pilot import formats
from .schema import DescriptionError, nearest

SUFFIXES = tuple(formats.SUFFIXES)


def load(path: str | Path, *, allow_ref: bool = False) -> Any:
    """What a JSON, YAML or TOML file says. Raises DescriptionError with the file and, where known, the line."""
    path = Path(path)
    text = _text(path, str(path), "cannot be read")
    try:
        return _referred(_parsed(text, _form(path), str(path)), path.parent, allow_ref, (path.resolve(),), str(path))
    except RecursionError:  # YAML can also refer to itself
        raise DescriptionError("is nested too deeply", where=str(path)) from None


def parse_toml(text: str, where: str) -> dict[str, Any]:
    """TOML text. Raises DescriptionError."""
    tables: dict[str, Any] = _parsed(text, "toml", where)
    return tables


def refer(value: Any, folder: Path, allowed: bool, where: str) -> Any:
    """The value with each `{"$ref": FILE}` replaced; files are looked for in `folder`."""
    return _referred(value, folder, allowed, (), where)


def _parsed(text: str, form: str, where: str) -> Any:
    try:
        return formats.parse(text, form)
    except formats.FormatError as error:
        raise DescriptionError(str(error), where=where) from error


def _form(path: Path) -> str:
    """Of a file with another suffix it is JSON."""
    return formats.SUFFIXES.get(path.suffix, "json")


def _referred(value: Any, folder: Path, allowed: bool, above: tuple[Path, ...], where: str) -> Any:
    """The value with each `{"$ref": FILE, ...}` replaced by the file's content; keys beside it win."""
    if isinstance(value, list):
        return [_referred(each, folder, allowed, above, where) for each in value]
    if not isinstance(value, dict):
        return value
    if "$ref" not in value:
        return {name: _referred(each, folder, allowed, above, where) for name, each in value.items()}
    if not allowed:
        raise DescriptionError(
            "$ref is not allowed by default", where=where, remedy="give --allow-ref or allow_ref=True"
        )
    path = (folder / str(value["$ref"])).resolve()
    if path in above:
        raise DescriptionError(f"$ref {value['$ref']!r} leads back to itself", where=where)
    text = _text(path, where, f"$ref {path}")
    base = _parsed(text, _form(path), str(path))
    base = _referred(base, path.parent, allowed, (*above, path), str(path))
    own = {name: _referred(each, folder, allowed, above, where) for name, each in value.items() if name != "$ref"}
    if own and not isinstance(base, dict):
        raise DescriptionError(f"$ref {value['$ref']!r} is not a mapping, so no key can be added", where=where)
    return base | own if own else base


def _text(path: Path, where: str, what: str) -> str:
    """The text of a file, without the mark that editors on Windows begin it with."""
    try:
        return path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise DescriptionError(f"{what}: {error.strerror}", where=where) from error
    except UnicodeDecodeError:
        raise DescriptionError(f"{what}: is not UTF-8 text", where=where) from None


def machines_folder(environ: Mapping[str, str] = os.environ) -> Path:
    """Where machine files with names are: `~/.config/pilotfish/machines`."""
    return Path(environ.get("XDG_CONFIG_HOME") or Path.home() / ".config") / "pilotfish" / "machines"


def machine_names() -> dict[str, Path]:
    """The named machines with their files."""
    folder = machines_folder()
    files = sorted(file for file in folder.iterdir() if file.suffix in SUFFIXES) if folder.is_dir() else []
    return {file.stem: file for file in files}


def machine_by_name(name: str, folder: Path | None = None) -> Any:
    """What the file of that name says; NAME may also be the path of a file, from `folder` (default: the current one)."""
    known = machine_names()
    if name in known:
        return load(known[name])
    if Path(name).suffix in SUFFIXES:
        return load(Path(folder or "", name).expanduser())
    remedy = nearest(name, known) or (
        f"put a file {name}.json, .yaml or .toml into {machines_folder()}, or let `pilotfish init --save-machine` write it"
    )
    raise DescriptionError(f"there is no machine {name!r}", where="machine", remedy=remedy)
