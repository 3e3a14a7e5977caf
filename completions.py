"""What a shell is told for an argument that names something: a run, a task, a machine, a submission, a batch job.

One table for all commands, which know nothing of it: it is looked at only while a shell completes a line. Whatever fails (no
such folder, a file that is torn, a pilot that does not answer) means that nothing is suggested.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import click
from click.shell_completion import CompletionItem

_MOST = 200
_LARGEST_JOURNAL_BYTES = 16 << 20
"""Reading a larger one takes longer than somebody waits for a key."""
_PILOT_ANSWERS_IN_S = 1.0
Names = Callable[[click.Context, str], Iterable[str]]


def _runs(context: click.Context, incomplete: str) -> Iterable[str]:
    from .api.run_folder import LAST, runs_in

    return [LAST, *(run.name for run in runs_in(_folder(context)))]


def _folder(context: click.Context) -> Path:
    return Path(context.params.get("wd") or ".")


def _tasks(context: click.Context, incomplete: str) -> Iterable[str]:
    """Names of jobs, and behind a colon those of iterations."""
    from .api.run_folder import find_run
    from .api.task_records import TaskRecords
    from .pilot.wire import journal

    run = find_run(context.params.get("run") or "last", _folder(context))
    if (run.path / journal.FILE_NAME).stat().st_size > _LARGEST_JOURNAL_BYTES:
        return []
    jobs = TaskRecords(run.path).jobs
    job, colon, _ = incomplete.partition(":")
    if colon and job in jobs and jobs[job].iteration is not None:
        return [jobs[job].task_name(pos) for pos in range(min(jobs[job].task_count, 10 * _MOST))]
    return [f"{name}:" if spec.iteration is not None else name for name, spec in jobs.items()]


def _of_report(context: click.Context, incomplete: str) -> Iterable[str]:
    """Runs or a view; behind a view what it is about."""
    from .api.report_cli import VIEWS

    view = next((word for word in context.params.get("words") or () if word in VIEWS), None)
    if view is None:
        return [*_runs(context, incomplete), *VIEWS]
    return _tasks(context, incomplete) if VIEWS[view].more == "TASK" else ()


def _jobs_of_pilot(context: click.Context, incomplete: str) -> Iterable[str]:
    from .api.manager import Manager

    settings = {"connect_timeout": _PILOT_ANSWERS_IN_S, "log_file": os.devnull}
    pilot = Manager(context.params.get("connect"), settings)
    try:
        return list(pilot.client.jobs())
    finally:
        pilot.close()


def _submissions(context: click.Context, incomplete: str) -> Iterable[str]:
    from .launcher.submission import store

    return ["last", *(name[:10] for name in store.names()), *_batch_jobs(context, incomplete)]


def _tasks_of_submission(context: click.Context, incomplete: str) -> Iterable[str]:
    from .launcher.submission import store

    found = store.find(context.params["beginning"])
    return [task.task_name or task.folder for task in found.description.tasks]


def _batch_jobs(context: click.Context, incomplete: str) -> Iterable[str]:
    from .launcher.job import store

    records = list(store.all_records())
    return ["last", *(record.hash[:10] for record in records), *(record.id for record in records if record.id)]


def _machines(context: click.Context, incomplete: str) -> Iterable[str]:
    from .launcher.description.files import machine_names

    return machine_names()


def _profiles(context: click.Context, incomplete: str) -> Iterable[str]:
    from .launcher.submission.profiles import get_profiles

    return get_profiles()


def _options_of_jobs(context: click.Context, incomplete: str) -> Iterable[str]:
    from .launcher.submission.job_options import OPTIONS

    return OPTIONS if context.info_name == "edit" and incomplete.startswith("-") else (f"{name}=" for name in OPTIONS)


def _systems(context: click.Context, incomplete: str) -> Iterable[str]:
    from .launcher.submission.queues import qtypes

    return qtypes()


def _files(context: click.Context, incomplete: str) -> Iterable[str]:
    return ()


def _allocations(context: click.Context, incomplete: str) -> Iterable[str]:
    from .launcher.cli.alloc import names_at

    return names_at(context.params.get("connect"))


_OF_PILOT = ("status", "info", "cancel", "remove", "explain")
_OF_RUN = ("show", "wait", "rm", "cat", "tail", "top")
NAMES: dict[tuple[str, str], Names] = {
    **{(command, "run"): _runs for command in _OF_RUN},
    ("report", "words"): _of_report,
    ("cat", "task"): _tasks,
    ("tail", "task"): _tasks,
    **{(command, "names"): _jobs_of_pilot for command in _OF_PILOT},
    ("submissions *", "beginning"): _submissions,
    ("submissions logs", "task"): _tasks_of_submission,
    ("submissions cancel", "task"): _tasks_of_submission,
    ("alloc *", "names"): _allocations,
    ("job *", "beginnings"): _batch_jobs,
    ("job *", "beginning"): _batch_jobs,
    ("job *", "after"): _batch_jobs,
    ("job *", "profile"): _profiles,
    ("job profile *", "name"): _profiles,
    ("job profile *", "names"): _profiles,
    ("job profile *", "old"): _profiles,
    ("job profile *", "pairs"): _options_of_jobs,
    ("job keywords", "system"): _systems,
    ("job run", "files"): _files,
    ("*", "machine"): _machines,
    ("*", "connect"): _files,
    ("*", "file"): _files,
    ("*", "folder"): _files,
    ("run", "words"): _files,
}
"""(Command, or `*` for all or all below; the parameter's name) -> what it names. What is more exact wins."""
_WITH_FILES = (_machines, _runs, _of_report, _files)
"""Where a path may stand as well."""


class _Named(click.ParamType):  # type: ignore[type-arg]  # generic in some releases only
    """In the place of a parameter's type while a shell completes."""

    name = "named"

    def __init__(self, names: Names) -> None:
        self._names = names

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        try:
            names = dict.fromkeys(self._names(ctx, incomplete))
        except Exception:  # a shell that completes a line is no place for errors
            names = {}
        found = [CompletionItem(name) for name in names if name.startswith(incomplete)][:_MOST]
        if not found and self._names in _WITH_FILES:
            return [CompletionItem(incomplete, type="file")]
        return found


def attach(command: click.Command, path: Sequence[str]) -> None:
    """Let the parameters of a command, and of those below it, suggest what they name."""
    for param in command.params:
        names = _names_for(path, str(param.name))
        if names is not None and not isinstance(param.type, (click.Choice, click.Path)):
            param.type = _Named(names)
    below: dict[str, Any] = getattr(command, "commands", {})
    for name, each in below.items():
        attach(each, [*path, name])


def _names_for(path: Sequence[str], param: str) -> Names | None:
    places = [" ".join(path), *(" ".join([*path[:count], "*"]) for count in range(len(path) - 1, -1, -1))]
    return next((NAMES[place, param] for place in places if (place, param) in NAMES), None)
