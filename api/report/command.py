"""What `pilotfish report` does once its words are understood: find the runs, read them, print a view or write the page."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ...pilot.console import echo
from ...pilot.model.errors import LostError, PilotfishError
from ...pilot.wire import ownership
from ...pilot.wire.connection import AUX_PREFIX
from ..run_folder import RunFolder, find_run
from . import gantt, process_views, use_views, views
from .reading import find_all, read_runs
from .record import Record
from .rendering import PRINTERS
from .traces import Traces
from .view import View


def print_view(
    name: str,
    words: Sequence[str],
    options: Mapping[str, Any],
    runs: Sequence[str],
    wd: Path,
    form: str,
    verbose: bool = False,
    together: bool = False,
) -> None:
    """One view of these runs. `together`: a working folder stands for all runs in it, else for the latest.

    Raises PilotfishError for a run that is not there or cannot be read, UsageError for words that name nothing.
    """
    folders = find_runs(runs, wd, together)
    record = _read(folders, verbose)
    if name in gantt.VIEWS:
        gantt.write(name, record, words[0] if words else None, form)
        return
    view = _VIEWS[name](record, folders, words, options)
    PRINTERS[form](view, record)


def find_runs(runs: Sequence[str], wd: Path, together: bool = False) -> list[RunFolder]:
    """Each once, in the order in which they are named. A folder may be one of an original pilot."""
    found: dict[Path, RunFolder] = {}
    for run in runs:
        for folder in _find(run, wd, together):
            found.setdefault(folder.path, folder)
    return list(found.values())


def _find(run: str, wd: Path, together: bool) -> list[RunFolder]:
    path = Path(run)
    if together and path.is_dir():
        folders = [RunFolder(each.name.removeprefix(AUX_PREFIX), each) for each in find_all(path.absolute())]
        if not folders:
            raise LostError("there is no run here", where=str(path.absolute()), remedy="name the folder it ran in")
        for folder in folders:
            ownership.check_folder(folder.path)
        return folders
    try:
        return [find_run(run, wd)]
    except LostError:
        originals = list(find_all(path.absolute())) if path.is_dir() else []
        if not originals:
            raise
        latest = max(originals, key=lambda each: each.stat().st_mtime)
        ownership.check_folder(latest)
        return [RunFolder(latest.name.removeprefix(AUX_PREFIX), latest)]


def _read(folders: Sequence[RunFolder], verbose: bool) -> Record:
    if verbose:
        for folder in folders:
            echo(f"reading {folder.path}", err=True)
    return read_runs(folders)


def _traces(folders: Sequence[RunFolder]) -> Traces:
    return Traces([path for folder in folders for path in sorted(folder.path.parent.glob("ptrace_*.log"))])


Made = Callable[[Record, Sequence[RunFolder], Sequence[str], Mapping[str, Any]], View]

_VIEWS: dict[str, Made] = {
    "stats": lambda record, _, words, options: views.stats(record, **options),
    "text": lambda record, _, words, options: views.text(record),
    "job": lambda record, _, words, options: views.job(record, *words),
    "jobs": lambda record, _, words, options: views.jobs(record, **options),
    "allocation": lambda record, _, words, options: views.allocation_view(record, *words),
    "launch-stats": lambda record, _, words, options: use_views.launch_stats(record, **options),
    "rusage": lambda record, _, words, options: use_views.rusage(record, **options),
    "efficiency": lambda record, _, words, options: use_views.efficiency(record, **options),
    "efficiency-core": lambda record, _, words, options: use_views.efficiency_core(
        record, words[0], words[1], **options
    ),
    "tree": lambda record, folders, words, options: process_views.tree(record, _traces(folders), words, **options),
    "apps": lambda record, folders, words, options: process_views.apps(record, _traces(folders), words),
}


def write_page(runs: Sequence[str], wd: Path, path: str, verbose: bool = False) -> None:
    """The page. Raises PilotfishError."""
    from . import page

    record = _read(find_runs(runs, wd), verbose)
    try:
        Path(path).write_text(page.render(record), encoding="utf-8")
    except OSError as error:
        raise PilotfishError(f"cannot be written: {error.strerror}", where=path) from error
    echo(f"report written to {path}", err=True)
