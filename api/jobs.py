"""`Jobs`: a list of job descriptions, built with keywords or read from a file (the old ones, and our own attributes)."""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from itertools import islice
from numbers import Integral
from pathlib import Path
from typing import Any

from ..pilot.wire.describe_iteration import MOST_ITERATIONS
from . import html
from .errors import FileError, InvalidJobDescriptionError, JobNotDefinedError
from .plain import as_json, as_text

MAX_ITERATIONS = MOST_ITERATIONS
"""Most iterations of one job. (The old API took 65,536.)"""

_Path = tuple[str, ...]

_ATTRIBUTES: dict[str, tuple[tuple[type, ...], _Path]] = {
    "name": ((str,), ("name",)),
    "exec": ((str,), ("execution", "exec")),
    "script": ((str,), ("execution", "script")),
    "args": ((list, str), ("execution", "args")),
    "env": ((dict,), ("execution", "env")),
    "stdin": ((str,), ("execution", "stdin")),
    "stdout": ((str,), ("execution", "stdout")),
    "stderr": ((str,), ("execution", "stderr")),
    "wd": ((str,), ("execution", "wd")),
    "modules": ((list, str), ("execution", "modules")),
    "venv": ((str,), ("execution", "venv")),
    "model": ((str,), ("execution", "model")),
    "model_opts": ((dict,), ("execution", "model_opts")),
    "numCores": ((int, dict), ("resources", "numCores")),
    "numNodes": ((int, dict), ("resources", "numNodes")),
    "wt": ((str,), ("resources", "wt")),
    "min_time": ((str,), ("resources", "min_time")),
    "mem": ((str, int), ("resources", "mem")),
    "gpus": ((int, float, str), ("resources", "nodeCrs", "gpu")),
    "nodeCrs": ((dict,), ("resources", "nodeCrs")),
    "resources": ((dict, list), ("resources",)),
    "iteration": ((int, list, tuple, range, dict), ("iteration",)),
    "params": ((list, tuple, dict), ("iteration", "params")),
    "grid": ((dict,), ("iteration", "grid")),
    "after": ((list, str), ("dependencies", "after")),
    "attributes": ((dict,), ("attributes",)),
    "priority": ((int,), ("priority",)),
    "retries": ((int,), ("retries",)),
    "retry": ((list, dict), ("retry",)),
    "stream": ((bool,), ("execution", "stream")),
}
"""Attribute of `add` -> (types, where it goes in the description)."""

_WORDS = {
    str: "text",
    int: "a whole number",
    float: "a number",
    list: "a list",
    range: "a range",
    dict: "a mapping",
    bool: "True or False",
}

_MOST_SHOWN = 20

_SIZE: dict[str, tuple[type, ...]] = {"min": (int,), "max": (int,), "exact": (int,), "scheduler": (str, dict)}
_ITERATION: dict[str, tuple[type, ...]] = {
    "start": (int,),
    "stop": (int,),
    "values": (list, tuple, range),
    "params": (list, tuple, dict),
    "grid": (dict,),
}


class Jobs:
    """Job descriptions in the order in which they were added. `add` and `add_std` return self, so calls can be chained."""

    MAX_ITERATIONS = MAX_ITERATIONS

    def __init__(self) -> None:
        self._jobs: dict[str, dict[str, Any]] = {}

    def __len__(self) -> int:
        return len(self._jobs)

    def __repr__(self) -> str:
        return f"<Jobs {len(self)}>"

    def _repr_html_(self) -> str:
        """What a notebook shows of it: the first of them."""
        rows = [_shown(job) for job in islice(self._jobs.values(), _MOST_SHOWN)]
        return html.facts("Jobs", {"jobs": len(self)}) + html.table(("name", "runs", "iteration", "after"), rows)

    def add(self, dict_attributes: Mapping[str, Any] | None = None, **attributes: Any) -> Jobs:
        """Add a job by simple attributes; keywords win over `dict_attributes`.

        Attributes: name (default: a unique one), exec or script, args, env, stdin, stdout, stderr, wd, modules, venv, model,
        model_opts, numCores and numNodes (a number or `{min, max, exact, scheduler}`), wt, mem, gpus (a number, or part of
        one: 0.25, "1/3"), nodeCrs, resources (a mapping: how much of named resources; or a list of
        alternatives, see docs/resources.md), iteration (a number, a range, a list of
        values, or an object, see docs/jobs.md), params (a row for each task as a list of mappings, or a mapping of columns),
        grid (a mapping of lists or ranges, a task for each combination), after, attributes, priority, retries, retry (a rule
        for failures or a list of them, see docs/jobs.md), stream (True: what has no file goes into streams).

        A path or bytes may stand where text is wanted; numbers and paths in args, in values of env and of
        iterations become text.

        Raises InvalidJobDescriptionError.
        """
        described = {**(dict_attributes or {}), **attributes}
        described.setdefault("name", str(uuid.uuid4()))
        job: dict[str, Any] = {}
        for name, value in described.items():
            self._put(job, name, value)
        execution = job.get("execution", {})
        if not execution.get("exec") and not execution.get("script"):
            remedy = f"job {described['name']!r} needs exec='PROGRAM', or script='SHELL TEXT'"
            raise InvalidJobDescriptionError("No 'exec' nor 'script' defined", remedy=remedy)
        if execution.get("exec") and execution.get("script"):
            remedy = f"leave one of them out of job {described['name']!r}"
            raise InvalidJobDescriptionError("Both 'exec' and 'script' defined", remedy=remedy)
        return self._append(job)

    def _put(self, job: dict[str, Any], name: str, value: Any) -> None:
        if name not in _ATTRIBUTES:
            near = get_close_matches(str(name), _ATTRIBUTES, 1)
            remedy = f"did you mean {near[0]}?" if near else f"known are {', '.join(_ATTRIBUTES)}"
            raise InvalidJobDescriptionError(f"Unknown attribute {name}", remedy=remedy)
        types, path = _ATTRIBUTES[name]
        if isinstance(value, (bytes, os.PathLike)) and str in types:
            value = as_text(value)
        elif isinstance(value, Integral) and int in types and not isinstance(value, (bool, int)):
            value = int(value)
        elif isinstance(value, (tuple, range)) and list in types and tuple not in types:
            value = list(value)
        if not isinstance(value, types) or (isinstance(value, bool) and bool not in types):
            remedy = f"{repr(value)[:40]} is not {' or '.join(_WORDS[kind] for kind in types if kind in _WORDS)}"
            raise InvalidJobDescriptionError(f"Invalid attribute {name} type {type(value)}", remedy=remedy)
        place = job
        for member in path[:-1]:
            place = place.setdefault(member, {})
        if name == "resources" and isinstance(value, dict) and isinstance(place.get(name, {}), dict):
            place.setdefault(name, {}).update(value)
            return
        if isinstance(place, list) or (name == "resources" and name in place):
            remedy = "put it into each of them"
            raise InvalidJobDescriptionError(f"Attribute {name} beside a list of alternatives", remedy=remedy)
        place[path[-1]] = _normal(name, value)

    def add_std(self, dict_attributes: Mapping[str, Any] | None = None, **attributes: Any) -> Jobs:
        """Add a job in the form of the submit request. Raises InvalidJobDescriptionError."""
        job = {**(dict_attributes or {}), **attributes}
        job.setdefault("name", str(uuid.uuid4()))
        execution = job.get("execution")
        if not isinstance(execution, dict) or not (execution.get("exec") or execution.get("script")):
            remedy = f"job {job['name']!r}: give execution={{'exec': PROGRAM}}, or script"
            raise InvalidJobDescriptionError('Missing "execution/exec" key', remedy=remedy)
        return self._append(job)

    def _append(self, job: dict[str, Any]) -> Jobs:
        name = job["name"]
        if name in self._jobs:
            raise InvalidJobDescriptionError(f"Job {name} already in list", remedy="give it another name")
        self._jobs[name] = _plain(job)
        return self

    def remove(self, name: str) -> None:
        """Raises JobNotDefinedError."""
        if name not in self._jobs:
            raise JobNotDefinedError(name, remedy="it is not in this list; job_names() has those that are")
        del self._jobs[name]

    def clear(self) -> int:
        """Remove all jobs; returns how many there were."""
        count = len(self._jobs)
        self._jobs.clear()
        return count

    def job_names(self) -> list[str]:
        return list(self._jobs)

    def ordered_job_names(self) -> list[str]:
        return list(self._jobs)

    def jobs(self) -> list[dict[str, Any]]:
        """The descriptions in the form of the submit request."""
        return list(self._jobs.values())

    def ordered_jobs(self) -> list[dict[str, Any]]:
        return list(self._jobs.values())

    def load_from_file(self, file_path: str | Path) -> None:
        """Add the jobs of a JSON file (an array of descriptions). Raises FileError, InvalidJobDescriptionError."""
        try:
            jobs = json.loads(Path(file_path).read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise FileError(f'File to open/write file "{file_path}": {error}') from error
        if not isinstance(jobs, list) or not all(isinstance(job, dict) for job in jobs):
            raise FileError(f'File to open/write file "{file_path}": not an array of job descriptions')
        for job in jobs:
            self.add_std(job)

    def save_to_file(self, file_path: str | Path) -> None:
        """Write all jobs as JSON. Raises FileError."""
        try:
            Path(file_path).write_text(json.dumps(self.ordered_jobs(), indent=2) + "\n", encoding="utf-8")
        except (OSError, TypeError) as error:
            raise FileError(f'File to open/write file "{file_path}": {error}') from error


def _shown(job: Mapping[str, Any]) -> tuple[str, ...]:
    execution, after = job["execution"], (job.get("dependencies") or {}).get("after", ())
    args = execution.get("args") or ()
    words = [execution.get("exec") or execution.get("script"), *([args] if isinstance(args, str) else args)]
    iteration = json.dumps(job["iteration"]) if "iteration" in job else ""
    return job["name"], " ".join(map(str, words)), iteration, ", ".join([after] if isinstance(after, str) else after)


_IN_TEXT = frozenset({("execution", "args"), ("execution", "env"), ("iteration", "values")})
"""Where all values will be text."""


def _plain(job: Mapping[str, Any]) -> dict[str, Any]:
    """A copy of the description that can be written as JSON. Raises InvalidJobDescriptionError."""
    plain: dict[str, Any] = {}
    for name, value in job.items():
        if isinstance(value, Mapping):
            plain[name] = {
                member: as_json(content, f"{name}.{member}", in_text=(name, member) in _IN_TEXT)
                for member, content in value.items()
            }
        else:
            plain[name] = as_json(value, name)
    return plain


def _normal(name: str, value: Any) -> Any:
    """The value in the form of the submit request."""
    if name in ("numCores", "numNodes"):
        return {"exact": value} if isinstance(value, int) else _checked(name, value, _SIZE)
    if name == "iteration":
        return _iteration(value)
    if name in ("params", "grid"):
        return _columns(value)
    if name == "after":
        return [value] if isinstance(value, str) else value
    return value


def _checked(name: str, value: Mapping[str, Any], members: Mapping[str, tuple[type, ...]]) -> dict[str, Any]:
    for member, content in value.items():
        if member not in members:
            raise InvalidJobDescriptionError(f"Unknown {name} attribute {member}")
        if not isinstance(content, members[member]):
            raise InvalidJobDescriptionError(f"Invalid {name} attribute {member} type {type(content)}")
    return dict(value)


def _iteration(value: int | list[Any] | tuple[Any, ...] | range | dict[str, Any]) -> dict[str, Any]:
    if isinstance(value, int):
        normal: dict[str, Any] = {"start": 0, "stop": value}
    elif isinstance(value, range) and value.step == 1:
        normal = {"start": value.start, "stop": value.stop}
    elif isinstance(value, (list, tuple, range)):
        normal = {"values": list(value)}
    else:
        normal = _checked("iteration", value, _ITERATION)
    if "stop" in normal and "values" in normal:
        raise InvalidJobDescriptionError("Stop and values iteration attribute are excluding")
    if "values" in normal:
        count = len(normal["values"])
    elif "stop" in normal:
        count = normal["stop"] - normal.get("start", 0)
    elif normal.keys() & {"params", "grid"}:
        return {member: _columns(content) for member, content in normal.items()}
    else:
        raise InvalidJobDescriptionError("Required attribute stop of element iteration not defined")
    if not 0 <= count <= MAX_ITERATIONS:
        raise InvalidJobDescriptionError(f"Wrong number of iterations - outside range (0, {MAX_ITERATIONS})")
    return normal


def _columns(value: Any) -> Any:
    """A table of parameters with each range as the request has it."""
    if isinstance(value, Mapping):
        return {name: _column(content) for name, content in value.items()}
    return list(value) if isinstance(value, tuple) else value


def _column(values: Any) -> Any:
    if isinstance(values, range):
        return {"start": values.start, "stop": values.stop, "step": values.step}
    if isinstance(values, (str, bytes, Mapping)) or not isinstance(values, Iterable):
        return values
    return list(values)  # also an array of numpy, or a column of a table
