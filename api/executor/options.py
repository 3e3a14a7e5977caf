"""What a call may ask for: resources and conditions, checked when they are named and not when the call runs."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Generic, NamedTuple, ParamSpec, TypeVar, overload

from ...pilot.model.errors import InvalidJobError
from ...pilot.model.resources import is_resource_name
from ...pilot.model.walltime import form
from ...pilot.wire.describe import describe_jobs
from ..errors import WrongArgumentsError
from ..plain import as_text, as_word
from .future import Future

P = ParamSpec("P")
T = TypeVar("T")

Pairs = tuple[tuple[str, Any], ...]


class Options(NamedTuple):
    """As the description of a job has them, but hashable: equal ones may travel together."""

    execution: Pairs = ()
    resources: Pairs = ()
    retries: int = 0
    priority: int = 0
    after: tuple[Future[Any], ...] = ()
    max_calls: int = 0
    max_bytes: int = 0
    ranks: int = 0
    """Of MPI; 0: it is no MPI function."""
    files: tuple[str, ...] = ()
    """Those whose content counts among the arguments, for a cache."""

    def members(self) -> dict[str, Any]:
        """The members of a description, but for `after`."""
        description: dict[str, Any] = {"execution": {name: _json(value) for name, value in self.execution}}
        if self.resources:
            description["resources"] = {name: _json(value) for name, value in self.resources}
        description |= {name: value for name in ("retries", "priority") if (value := getattr(self, name))}
        return description


_RESOURCES = {"cores": "numCores", "nodes": "numNodes", "mem": "mem", "wt": "wt", "tags": "tags"}
_OTHERS = ("ranks", "gpus", "resources", "retries", "priority", "after", "max_calls", "max_mem", "files")
_EXECUTION = {"env": "env", "wd": "wd", "python": "exec", "venv": "venv", "modules": "modules"}
_OF_RANKS = {"model": "model", "model_opts": "model_opts"}
"""How the ranks of MPI functions are started."""
_KEYWORDS = {member: keyword for keyword, member in (*_RESOURCES.items(), *_EXECUTION.items())}


def with_keywords(options: Options, keywords: Mapping[str, Any]) -> Options:
    """`options` with these changed. Raises WrongArgumentsError or InvalidJobError (both ValueError) for what makes no sense."""
    known = (*_RESOURCES, *_EXECUTION, *_OF_RANKS, *_OTHERS)
    unknown = sorted(keywords.keys() - {*known})
    if unknown:
        raise WrongArgumentsError(f"unknown option {unknown[0]!r}", remedy=f"known are {', '.join(known)}")
    resources, execution = dict(options.resources), dict(options.execution)
    changed: dict[str, Any] = {}
    for name, value in keywords.items():
        if name in _RESOURCES:
            resources[_RESOURCES[name]] = _hashable(value, name)
        elif name in _EXECUTION or name in _OF_RANKS:
            execution[_EXECUTION.get(name, name)] = _hashable(value, name)
        else:
            changed[_FIELDS.get(name, name)] = _READ.get(name, _as_it_is)(value)
    ranks = changed.get("ranks", options.ranks)
    if ranks:
        resources["numCores"] = _cores_of_ranks(
            ranks, resources.get("numNodes"), "ranks" in keywords and "cores" in keywords
        )
    elif "model" in execution or "model_opts" in execution:
        raise WrongArgumentsError(
            "only the ranks of an MPI function have a model", where="model", remedy="give ranks, too"
        )
    if "gpus" in changed:
        resources["nodeCrs"] = (("gpu", changed.pop("gpus")),)
    resources |= changed.pop("resources", {})
    if "venv" in keywords and "python" not in keywords:
        execution["exec"] = "python"
    changed |= {"resources": tuple(sorted(resources.items())), "execution": tuple(sorted(execution.items()))}
    found = options._replace(**changed)
    _check(found)
    return found


def _check(options: Options) -> None:
    """As the pilot will."""
    if isinstance(options.max_calls, bool) or not isinstance(options.max_calls, int) or options.max_calls < 0:
        raise WrongArgumentsError(f"{options.max_calls!r} is not a whole number of at least 0", where="max_calls")
    description = options.members() | {"name": "options"}
    description["execution"] |= {"calls": {"executor": "options", "data": "", "ranks": options.ranks}}
    try:
        describe_jobs([description], None)
    except InvalidJobError as error:
        member = error.where.rpartition(".")[2]
        where = {**_KEYWORDS, "gpu": "gpus"}.get(member, member)
        raise WrongArgumentsError(error.what, where=where, remedy=error.remedy) from None


def _number(value: object, where: str) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < float("inf"):
        remedy = 'write seconds, or text such as "10m"'
        raise WrongArgumentsError(f"{value!r} is not a time", where=where, remedy=remedy)
    return float(value)


def _bytes(value: object) -> int:
    from ...pilot.model.units import parse_bytes

    if not isinstance(value, str):
        raise WrongArgumentsError(f"{value!r} is not an amount of memory", where="max_mem", remedy='write "2G"')
    return parse_bytes(value)


def _futures(value: Iterable[Future[Any]]) -> tuple[Future[Any], ...]:
    if isinstance(value, Future):
        return (value,)
    futures = tuple(value)
    for future in futures:
        if not isinstance(future, Future):
            raise WrongArgumentsError(f"{future!r} is not a future of an executor", where="after")
    return futures


def _hashable(value: Any, where: str) -> Any:
    if where == "wt" and not isinstance(value, str):
        return form(_number(value, where))
    if isinstance(value, Mapping):
        return ("{}", *((str(name), _hashable(element, where)) for name, element in value.items()))
    if isinstance(value, (bytes, os.PathLike)):
        return as_text(value)
    if isinstance(value, (list, tuple, set, frozenset)):
        return ("[]", *(_hashable(element, where) for element in value))
    return value


def _json(value: Any) -> Any:
    """The way back."""
    if not isinstance(value, tuple):
        return value
    if value and value[0] == "[]":
        return [_json(element) for element in value[1:]]
    pairs = value[1:] if value and value[0] == "{}" else value
    return {name: _json(element) for name, element in pairs}


def _ranks(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise WrongArgumentsError(f"{value!r} is not a number of ranks", where="ranks", remedy="write 8")
    return value


def _cores_of_ranks(ranks: int, nodes: object, has_cores: bool) -> int:
    """Of each node, if so many nodes are asked for, else of all together. There is one for each rank."""
    if has_cores:
        raise WrongArgumentsError(
            "an MPI function has a core for each of its ranks", where="cores", remedy="leave it out"
        )
    if nodes is None:
        return ranks
    if isinstance(nodes, bool) or not isinstance(nodes, int) or nodes < 1 or ranks % nodes:
        remedy = "have as many ranks on each node, or leave out nodes"
        raise WrongArgumentsError(f"{ranks} ranks cannot be spread over {nodes!r} nodes", where="nodes", remedy=remedy)
    return ranks // nodes


def _files(value: Any) -> tuple[str, ...]:
    paths = [value] if isinstance(value, (str, os.PathLike)) else value
    return tuple(as_word(path, "files") for path in paths)


def _as_it_is(value: Any) -> Any:
    return value


def _named(value: object) -> dict[str, Any]:
    """How much of named resources."""
    if not isinstance(value, Mapping):
        remedy = 'write {"licence": 1}'
        raise WrongArgumentsError(f"{value!r} is not a mapping of names and amounts", where="resources", remedy=remedy)
    for name in value:
        if not isinstance(name, str) or not is_resource_name(name):
            remedy = "cores, nodes, gpus, mem, tags and wt are options of their own"
            raise WrongArgumentsError(f"{name!r} is not a named resource", where="resources", remedy=remedy)
    return {name: _hashable(amount, name) for name, amount in value.items()}


_FIELDS = {"max_mem": "max_bytes"}
_READ: dict[str, Callable[[Any], Any]] = {
    "ranks": _ranks,
    "resources": _named,
    "after": _futures,
    "max_mem": _bytes,
    "files": _files,
}
"""What makes the value of an option of what was given."""


class TaskFunction(Generic[P, T]):
    """A function with what its calls ask for. Called here, it is just the function."""

    def __init__(self, function: Callable[P, T], options: Mapping[str, Any]) -> None:
        with_keywords(Options(), options)
        self.function = function
        self.options = dict(options)
        self.__name__ = getattr(function, "__name__", type(function).__name__)
        self.__doc__ = function.__doc__
        self.__wrapped__ = function

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> T:
        return self.function(*args, **kwargs)

    def __repr__(self) -> str:
        return f"<task {self.__name__} {self.options}>"


@overload
def task(function: Callable[P, T], /, **options: Any) -> TaskFunction[P, T]: ...


@overload
def task(**options: Any) -> Callable[[Callable[P, T]], TaskFunction[P, T]]: ...


def task(function: Any = None, /, **options: Any) -> Any:
    """A function whose calls ask for these options (see `Executor.options`): `task(fn, cores=4)`, or as a decorator.

    @task(cores=4, mem="2G")
    def simulate(steps: int) -> float: ...

    executor.submit(simulate, 1000)
    """
    if function is None:
        return lambda decorated: TaskFunction(decorated, options)
    if not callable(function):
        raise TypeError(f"{function!r} is not a function")
    return TaskFunction(function, options)
