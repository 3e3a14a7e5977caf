"""`pilotfish report`, and the commands of QCG-PilotJob for the same: `qcg-pm-report` and `qcg-pm-processes`.

One table has the views with what follows their names and the options that each takes. The native command puts the run before
the view, as one asks more than one thing of a run; the original's put it behind.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import click

from ..pilot.console import echo
from ..pilot.model.errors import UsageError
from .run_folder import LAST


class ViewKind(NamedTuple):
    """A view as the command line has it.

    Attributes:
        summary: for help.
        words: what must follow its name.
        more: what may follow, any number of times (`FILE`: once).
        options: which of _OPTIONS it takes.
    """

    summary: str
    words: tuple[str, ...] = ()
    more: str = ""
    options: tuple[str, ...] = ()


_DETAILS = ("details",)
VIEWS: dict[str, ViewKind] = {
    "stats": ViewKind("tasks, cores, times and overhead", options=_DETAILS),
    "text": ViewKind("every task with its history"),
    "job": ViewKind("all that is known of these tasks", more="TASK"),
    "jobs": ViewKind("the tasks that ran, a line for each", options=("state", "node", "core", "sort", "details")),
    "allocation": ViewKind("the tasks that ran on a core", words=("NODE", "CORE")),
    "launch-stats": ViewKind("what starting the tasks has cost", options=_DETAILS),
    "rusage": ViewKind("how busy the cores were", options=("details", "wo_init", "until_last_job")),
    "gantt": ViewKind("a picture of what ran where and when", more="FILE", options=("real",)),
    "gantt-gaps": ViewKind("a picture of when cores were idle", more="FILE", options=("real",)),
    "efficiency": ViewKind("how busy the cores were while they could have been", options=_DETAILS),
    "efficiency-core": ViewKind("the same of one core", words=("NODE", "CORE"), options=_DETAILS),
    "tree": ViewKind("the processes of these tasks", more="TASK", options=("all",)),
    "apps": ViewKind("of these processes those of the program itself", more="TASK"),
}
"""All but the last two are of qcg-pm-report, those of qcg-pm-processes."""
_PROCESSES = ("tree", "apps")

_OPTIONS: dict[str, Callable[[Callable[..., None]], Callable[..., None]]] = {
    "details": click.option("--details", is_flag=True, help="With every task or core."),
    "state": click.option("--state", help="Only tasks in this state."),
    "node": click.option("--node", help="Only tasks that ran on this node."),
    "core": click.option("--core", help="Only tasks that ran on this core."),
    "sort": click.option(
        "--sort",
        type=click.Choice(["start", "finish", "runtime", "name", "state"], case_sensitive=False),
        help="In this order; default: as they ended.",
    ),
    "wo_init": click.option("--wo-init", is_flag=True, help="From the start of the first task, not of the pilot."),
    "until_last_job": click.option(
        "--until-last-job", is_flag=True, help="Each core to the end of its last task, not to the end of the pilot."
    ),
    "real": click.option(
        "--real", is_flag=True, help="Accepted: times measured around the process are always used, if there are some."
    ),
    "all": click.option("--all", "all", is_flag=True, help="With all processes below, not only the task's program."),
}

_ONLY_ORIGINAL = ("real",)


def _with(names: Sequence[str]) -> Callable[[Callable[..., None]], Callable[..., None]]:
    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        for name in reversed(names):
            command = _OPTIONS[name](command)
        return command

    return decorate


class _Report(click.Command):
    """Its help lists the views."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Views"):
            formatter.write_dl([(_usage(name), kind.summary) for name, kind in VIEWS.items()])
        super().format_options(ctx, formatter)


def _usage(name: str) -> str:
    kind = VIEWS[name]
    more = {"": (), "FILE": ("[FILE]",)}.get(kind.more, (f"{kind.more}...",))
    return " ".join((name, *kind.words, *more))


@click.command(cls=_Report)
@click.argument("words", nargs=-1, metavar="[RUN]... [VIEW [ARGS]...]")
@click.option("--html", type=click.Path(dir_okay=False), help="Write all of it as one page for the browser.")
@_with([name for name in _OPTIONS if name not in _ONLY_ORIGINAL])
@click.option("--csv", "as_csv", is_flag=True, help="Print the view as CSV.")
@click.option("--json", "as_json", is_flag=True, help="Print the view as JSON.")
@click.option("--verbose", is_flag=True, help="Say which files are read.")
@click.option(
    "--wd", type=click.Path(), default=".", show_default=True, help="Working folder in which runs are looked up."
)
def report(
    words: tuple[str, ...], html: str | None, as_csv: bool, as_json: bool, verbose: bool, wd: str, **options: Any
) -> None:
    """Tell what a run was like: as a page with pictures (--html), or one VIEW as text, CSV, JSON or picture.

    RUN is a name, `last` (the default), or a folder; several are looked at together. The default VIEW is stats.

    \b
    pilotfish report monday --html monday.html
    pilotfish report monday stats --details
    pilotfish report jobs --state failed --csv
    pilotfish report monday tuesday gantt both.svg
    """
    place = next((place for place, word in enumerate(words) if word in VIEWS), len(words))
    runs, view, rest = words[:place] or (LAST,), words[place:][:1], words[place + 1 :]
    if html is not None and (view or as_csv or as_json):
        raise UsageError("a page has all views", where="--html", remedy="leave out the view, --csv and --json")
    from .report.command import print_view, write_page

    if html is not None:
        _check_options("--html", (), options)
        write_page(runs, Path(wd), html, verbose)
        return
    name = view[0] if view else "stats"
    if VIEWS[name].more == "TASK" and not rest:
        raise UsageError(f"{name} of which tasks?", where=name, remedy=f"write: {_usage(name)}")
    _check(name, rest, options)
    form = "csv" if as_csv else "json" if as_json else "text"
    if as_csv and as_json:
        raise UsageError("only one of --csv and --json", where="--csv")
    print_view(name, rest, _of_view(name, options), runs, Path(wd), form, verbose)


def _check(name: str, rest: Sequence[str], options: Mapping[str, Any]) -> None:
    """Raises UsageError."""
    kind = VIEWS[name]
    least = len(kind.words)
    most = None if kind.more == "TASK" else least + bool(kind.more)
    if len(rest) < least or (most is not None and len(rest) > most):
        raise UsageError(f"{name} is followed by {len(rest)} words", where=name, remedy=f"write: {_usage(name)}")
    _check_options(name, kind.options, options)


def _check_options(name: str, allowed: Sequence[str], options: Mapping[str, Any]) -> None:
    for option, value in options.items():
        if value and option not in allowed:
            takers = [other for other, kind in VIEWS.items() if option in kind.options]
            flag = f"--{option.replace('_', '-')}"
            raise UsageError(f"{name} does not take {flag}", where=flag, remedy=f"it is for {', '.join(takers)}")


def _of_view(name: str, options: Mapping[str, Any]) -> dict[str, Any]:
    return {option: options[option] for option in VIEWS[name].options if option in options}


# --- the original's commands --------------------------------------------------------------------------------------------


def _original(program: str, names: Sequence[str]) -> click.Group:
    return click.Group(
        program, commands=[_original_view(name) for name in names], help=f"As {program} of QCG-PilotJob."
    )


def _original_view(name: str) -> click.Command:
    @click.command(name, help=f"{VIEWS[name].summary[0].upper()}{VIEWS[name].summary[1:]}.")
    @click.argument("wdir", type=click.Path(exists=True, file_okay=False))
    @click.argument("words", nargs=-1, metavar=_usage(name).partition(" ")[2])
    @_with(VIEWS[name].options)
    @click.option("--verbose", is_flag=True, help="Say which files are read.")
    def view(wdir: str, words: tuple[str, ...], verbose: bool, **options: Any) -> None:
        from .report.command import print_view

        _check(name, words, options)
        print_view(name, words, options, (wdir,), Path(wdir), "text", verbose, together=True)

    return view


qcg_report = _original("qcg-pm-report", [name for name in VIEWS if name not in _PROCESSES])
"""`qcg-pm-report VIEW [OPTIONS] WDIR [ARGS]...`: call `qcg_report.main(argv)`. WDIR: all runs in it together."""
qcg_processes = _original("qcg-pm-processes", _PROCESSES)


def main(program: str, argv: Sequence[str]) -> int:
    """Run `qcg-pm-report` or `qcg-pm-processes` with these arguments; returns the exit code. Errors become one line."""
    from ..pilot.model.errors import PilotfishError

    command = {"qcg-pm-report": qcg_report, "qcg-pm-processes": qcg_processes}[program]
    try:
        code = command.main(list(argv), prog_name=program, standalone_mode=False)
    except click.ClickException as error:
        error.show()
        code = error.exit_code
    except click.exceptions.Abort:
        code = 130
    except PilotfishError as error:
        echo(f"error: {error}", err=True)
        code = 2 if isinstance(error, UsageError) else 1
    return code if isinstance(code, int) else 0
