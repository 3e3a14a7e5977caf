"""fyrd's helpers: a decorator that makes jobs of functions, data frames and text files worked on in parts."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from functools import wraps
from itertools import pairwise
from pathlib import Path
from typing import Any

from ...submission.job_options import ClusterError, check_arguments, split_keywords
from . import run
from .job import Job, wait_for

__all__ = ["jobify", "parapply", "parapply_summary", "splitrun"]

Function = Callable[..., Any]


def jobify(
    name: str | None = None, profile: str | None = None, qtype: str | None = None, submit: bool = True, **options: Any
) -> Callable[[Function], Callable[..., Job]]:
    """A decorator: calling the function makes a Job of it, which is submitted. The function itself is its `__wrapped__`."""

    def decorate(function: Function) -> Callable[..., Job]:
        @wraps(function)
        def call(*args: Any, **kwargs: Any) -> Job:
            job = Job(function, args, kwargs, name=name, profile=profile, qtype=qtype, **options)
            return job.submit() if submit else job

        return call

    return decorate


def _tidy(options: Mapping[str, Any]) -> dict[str, Any]:
    """Parts leave nothing behind unless that is asked for."""
    return {"clean_files": True, "clean_outputs": True, **check_arguments(options)}


# --- data frames --------------------------------------------------------------------------------------------------------------


def parapply(
    jobs: int,
    df: Any,
    func: Function,
    args: Sequence[Any] = (),
    profile: str | None = None,
    applymap: bool = False,
    merge_axis: int = 0,
    merge_apply: bool = False,
    name: str = "parapply",
    imports: Sequence[str] | None = None,
    direct: bool = True,
    **kwds: Any,
) -> Any:
    """`df.apply(func, args=args, ...)` in so many jobs, each with some of the rows; the frame of all results.

    Args:
        applymap: `df.map` instead: for each value.
        merge_axis: along which axis the results are put together.
        merge_apply: apply the function once more, to the result.
        direct: wait for it; otherwise a submitted Job that does all this is given.
        kwds: options of jobs, `qtype` and `machine`; others are for `apply`.
    """
    options, for_pandas, where = _split(kwds)
    given = {"args": args, "profile": profile, "applymap": applymap, "merge_axis": merge_axis, "imports": imports}
    given |= {"merge_apply": merge_apply, "name": name, **options, **for_pandas}
    if not direct:
        return Job(parapply, (jobs, df, func), given | where, name=name, profile=profile, **where).submit()
    method, more = _method(df, applymap, args, for_pandas)
    parts = _rows(df, jobs)
    made = [
        Job(
            method,
            (part, func),
            more,
            name=f"{name}_{number}_of_{len(parts)}",
            profile=profile,
            **where,
            **_tidy({**options, **({"imports": list(imports)} if imports else {})}),
        ).submit()
        for number, part in enumerate(parts, 1)
    ]
    wait_for(made)
    import pandas as pd

    found = pd.concat([job.get() for job in made], axis=merge_axis)
    return method(found, func, **more) if merge_apply else found


def parapply_summary(
    jobs: int,
    df: Any,
    func: Function,
    args: Sequence[Any] = (),
    profile: str | None = None,
    applymap: bool = False,
    name: str = "parapply",
    imports: Sequence[str] | None = None,
    direct: bool = True,
    **kwds: Any,
) -> Any:
    """`parapply` with a function that sums up columns (a mean): it is called for each part, and then for those results."""
    options, for_pandas, where = _split(kwds)
    given = {"args": args, "profile": profile, "applymap": applymap, "name": name, "imports": imports}
    given |= {**options, **for_pandas}
    if not direct:
        return Job(parapply_summary, (jobs, df, func), given | where, name=name, profile=profile, **where).submit()
    parts = parapply(jobs, df, func, merge_axis=1, **{**given, **where})
    method, more = _method(parts.T, applymap, args, for_pandas)
    return method(parts.T, func, **more)


def _split(kwds: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    """(options of jobs, what is for pandas, where jobs go)."""
    options, others = split_keywords(kwds)
    where: dict[str, Any] = {name: others.pop(name) for name in ("qtype", "machine") if name in others}
    return options, others, where


def _rows(df: Any, jobs: int) -> list[Any]:
    """Parts with nearly as many rows each; never more than there are rows."""
    if not isinstance(jobs, int) or isinstance(jobs, bool) or jobs < 1:
        raise ValueError(f"{jobs!r} is not a number of jobs")
    count = max(1, min(jobs, len(df)))
    ends = [round(len(df) * number / count) for number in range(count + 1)]
    return [df.iloc[start:end] for start, end in pairwise(ends)]


def _method(df: Any, applymap: bool, args: Sequence[Any], kwds: Mapping[str, Any]) -> tuple[Function, dict[str, Any]]:
    """(the method of data frames, its arguments besides the function): pandas' own, so a machine needs nothing of ours."""
    kind = type(df)
    if not hasattr(kind, "apply") or not hasattr(kind, "iloc"):
        raise ValueError(f"expected a data frame, not {kind.__name__}")
    if not applymap:
        return kind.apply, {"args": tuple(args), **kwds}
    return getattr(kind, "map", None) or kind.applymap, dict(kwds)


# --- text files ---------------------------------------------------------------------------------------------------------------


def splitrun(
    jobs: int,
    infile: str,
    inheader: bool,
    command: str | Function,
    args: Any = None,
    kwargs: Mapping[str, Any] | None = None,
    name: str | None = None,
    qtype: str | None = None,
    profile: str | None = None,
    outfile: str | None = None,
    outheader: bool = False,
    merge_func: Callable[[list[Any]], Any] | None = None,
    direct: bool = True,
    **kwds: Any,
) -> Any:
    """Cut a text file into parts, run a command or function for each in a job of its own, put the results together.

    `{file}` in the command, or in arguments of the function, is the part; `{outfile}` is what becomes a part of `outfile`.

    Args:
        inheader, outheader: the first line is a header: each part has it, the output has it once.
        merge_func: makes one result of the list of all; lists that functions return are put behind each other without it.
        direct: wait for it; otherwise a submitted Job that does all this is given.

    Returns:
        The absolute path of `outfile` where that is given, else the results.
    """
    options = check_arguments({key: value for key, value in kwds.items() if key != "machine"})
    where = {"qtype": qtype, "profile": profile, **({"machine": kwds["machine"]} if "machine" in kwds else {})}
    label = name or f"split_{os.path.basename(infile)}"
    if not direct:
        given = {"args": args, "kwargs": kwargs, "name": label, "outfile": outfile, "outheader": outheader}
        given |= {"merge_func": merge_func, **options, **where}
        return Job(splitrun, (jobs, infile, inheader, command), given, name=label, **where).submit()
    if outfile is not None and not _names_outfile(command, args, kwargs):
        raise ClusterError("there is no {outfile} in the command or its arguments", where="splitrun")
    folder = Path(options.get("scriptpath") or options.get("runpath") or ".")
    parts = run.split_file(infile, jobs, folder, keep_header=inheader)
    outputs = [f"{part}.out" for part in parts]
    made = [
        _one_part(command, args, kwargs, {"file": part, "outfile": output}, f"{label}_{number}", where, options)
        for number, (part, output) in enumerate(zip(parts, outputs, strict=True), 1)
    ]
    try:
        wait_for(made)
        found = [job.get() for job in made]
        if outfile is not None:
            return _put_together(outputs, outfile, outheader)
    finally:
        for path in [*parts, *(outputs if outfile is not None else ())]:
            Path(path).unlink(missing_ok=True)
    if merge_func is not None:
        return merge_func(found)
    return run.merge_lists(found) if all(isinstance(each, list) for each in found) else found


def _names_outfile(command: str | Function, args: Any, kwargs: Mapping[str, Any] | None) -> bool:
    texts = [command, *run.listify(args), *(kwargs or {}).values()]
    return any(isinstance(each, str) and "{outfile}" in each for each in texts)


def _one_part(
    command: str | Function,
    args: Any,
    kwargs: Mapping[str, Any] | None,
    values: Mapping[str, str],
    name: str,
    where: Mapping[str, Any],
    options: Mapping[str, Any],
) -> Job:
    def filled(given: Any) -> Any:
        if not isinstance(given, str):
            return given
        for key, value in values.items():
            given = given.replace(f"{{{key}}}", os.path.abspath(value))
        return given

    words = [filled(each) for each in (args if isinstance(args, list | tuple) else run.listify(args))]
    named = {key: filled(value) for key, value in (kwargs or {}).items()}
    return Job(filled(command), words, named, name=name, **where, **_tidy(options)).submit()


def _put_together(parts: Sequence[str], outfile: str, header: bool) -> str:
    with run.open_zipped(outfile, "w") as whole:
        for number, part in enumerate(parts):
            with run.open_zipped(part) as file:
                if header and number:
                    file.readline()
                for line in file:
                    whole.write(line)
    return os.path.abspath(outfile)
