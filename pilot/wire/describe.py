"""A job description (JSON value) -> JobSpec, and back. Every error names the place, the value and the remedy.

This is the only place where user data is a dict. Twenty thousand jobs in one request are usual, so nothing is worked out
twice: equal `resources` objects give the same Resources, repeated texts are kept once.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from sys import intern
from typing import Any

import msgspec

from ..model.errors import InvalidJobError
from ..model.execution_models import MODEL_OPTIONS
from ..model.job_spec import NO_MAPPING, Dependency, Execution, JobSpec, Need, Resources
from ..model.resources import APART, fraction
from ..model.steps import SLICE, Pause, Steps, finish
from ..model.units import form_bytes
from ..model.variables import substitute, substitute_all, substitute_in_steps
from ..model.walltime import form
from . import legacy
from .check import check_members, is_count, need_object, need_text, shown
from .describe_calls import check_inputs, describe_calls
from .describe_iteration import iteration_in_steps, undescribe_iteration, whole
from .describe_resources import DEFAULT_RESOURCES, describe_resources, with_label
from .describe_retry import describe_retry, undescribe_retry
from .legacy import FormError
from .word_limits import MOST_ALL_BYTES, MOST_WORD_BYTES, at_least, byte_count, fits_word

_BAD_NAME = re.compile("""[${}()'" \t\n\0\U0010ff80-\U0010ffff\ud800-\udfff]""")
"""The last are bytes that are not text: names stand in topics, reports and on the screen."""
_INDEX = re.compile(r"[+-]?\d{1,18}", re.ASCII)
_JOB_MEMBERS = frozenset(
    {"name", "execution", "resources", "iteration", "dependencies", "attributes", "priority", "retries", "retry"}
)
_TEXTS = ("exec", "script", "wd", "stdin", "stdout", "stderr", "venv", "model")
_EXECUTION_MEMBERS = frozenset({*_TEXTS, "args", "env", "modules", "model_opts", "stream", "calls"})
_ALL_OPTIONS = sorted(frozenset().union(*MODEL_OPTIONS.values()))
_ITERATION_KINDS = frozenset({"stop", "values", "params", "grid"})
_SURE_TO_FIT = MOST_WORD_BYTES // 4
_MANY = MOST_ALL_BYTES // MOST_WORD_BYTES
"""Of fewer words none of which is too long not all together can be."""
_LARGE_BYTES = 64 << 10
"""A description of more than this is filled in by slices."""


class Once:
    """Equal parts of the descriptions of one request, kept once."""

    def __init__(self) -> None:
        self._texts: dict[str | None, str | None] = {}
        self._resources: dict[str, Resources] = {}
        self._environments: dict[tuple[tuple[str, str], ...], Mapping[str, str]] = {}

    def text(self, text: str | None) -> str | None:
        return self._texts.setdefault(text, text)

    def resources(self, raw: Any, where: str) -> Resources:
        key = repr(raw)
        resources = self._resources.get(key)
        if resources is None:
            resources = self._resources[key] = describe_resources(raw, where)
        return resources

    def environment(self, raw: Mapping[str, str]) -> Mapping[str, str]:
        return self._environments.setdefault(tuple(raw.items()), raw)


def describe_jobs(raw: Iterable[object], variables: Mapping[str, str] | None) -> list[JobSpec]:
    """All descriptions of one submit. `variables` None: there is nothing to fill in.

    Raises FormError or InvalidJobError for the first that is wrong.
    """
    return finish(describe_in_steps(list(raw), variables))


def describe_in_steps(raw: list[Any], variables: Mapping[str, str] | None) -> Steps[list[JobSpec]]:
    """The same in slices. `raw` is used up."""
    once = Once()
    for number, job in enumerate(raw):
        _check_form(job, f"jobs[{number}]")
        if not (number + 1) % SLICE:
            yield Pause.MORE
    specs = []
    for number, job in enumerate(raw):
        specs.append((yield from _describe(job, f"jobs[{number}]", variables, once)))
        raw[number] = None
        if not (number + 1) % SLICE:
            yield Pause.MORE
    return specs


def _check_form(job: object, where: str) -> None:
    """The first stage, whose texts clients may know."""
    if not isinstance(job, dict):
        raise FormError(legacy.NO_JOB_OBJECT, where=where, remedy='write {"name": ..., "execution": {...}}')
    if "name" not in job:
        raise FormError(legacy.NO_NAME, where=f"{where}.name", remedy='give each job a "name" of its own')
    if "execution" not in job:
        raise FormError(
            legacy.NO_EXECUTION,
            where=f"{where}.execution",
            remedy='write {"exec": PROGRAM, "args": [...]}, or {"script": TEXT}',
        )
    if "iteration" in job:
        iteration = job["iteration"]
        if not isinstance(iteration, dict) or not iteration.keys() & _ITERATION_KINDS:
            raise FormError(
                legacy.ITERATION_FORM, where=f"{where}.iteration", remedy='write {"stop": N}, or values, params or grid'
            )
        start, stop = iteration.get("start", 0), iteration.get("stop")
        if is_count(start) and is_count(stop) and start > stop:
            raise FormError(
                legacy.ITERATION_ORDER,
                where=f"{where}.iteration",
                remedy=f"start is {start}, stop is {stop}: stop is the number after the last",
            )


def _describe(job: Any, where: str, variables: Mapping[str, str] | None, once: Once) -> Steps[JobSpec]:
    """In slices, because a job may have a million values, or wait for as many others."""
    name = need_text(job["name"], f"{where}.name")
    if variables is not None:
        name = substitute(name, variables)
        values = {**variables, "jname": name}
        is_large = len(msgspec.msgpack.encode(job)) > _LARGE_BYTES
        job = (yield from substitute_in_steps(job, values)) if is_large else substitute_all(job, values)
    if unfit := _BAD_NAME.search(name):
        remedy = f"leave out {shown(unfit[0])}"
        raise InvalidNameError(legacy.BAD_NAME.format(name), where=f"{where}.name", remedy=remedy)
    if ":" in name:
        raise InvalidJobError(legacy.COLON_IN_NAME.format(name), where=f"{where}.name", remedy="leave the colon out")
    if not job.keys() <= _JOB_MEMBERS:
        check_members(job, _JOB_MEMBERS, where)
    resources = once.resources(job["resources"], f"{where}.resources") if "resources" in job else DEFAULT_RESOURCES
    if resources is not DEFAULT_RESOURCES:
        resources = with_label(resources, name)
    spec = JobSpec(
        name,
        _execution(job["execution"], f"{where}.execution", once),
        resources,
        (yield from iteration_in_steps(job["iteration"], f"{where}.iteration")) if "iteration" in job else None,
        ()
        if job.get("dependencies") is None
        else (yield from _after(job["dependencies"], f"{where}.dependencies", name)),
        _attributes(job.get("attributes"), f"{where}.attributes"),
        whole(job.get("priority", 0), f"{where}.priority", lowest=None),
        whole(job.get("retries", 0), f"{where}.retries", lowest=0),
        describe_retry(job["retry"], f"{where}.retry", resources) if "retry" in job else (),
    )
    if spec.execution.calls is not None:
        check_inputs(spec.execution.calls, spec.after, where)
    return spec


class InvalidNameError(FormError, InvalidJobError):
    """A name with forbidden characters; its text has no prefix on the wire."""

    prefix = ""


# --- execution ----------------------------------------------------------------------------------------------------------


def _execution(raw: Any, where: str, once: Once) -> Execution:
    if not isinstance(raw, dict):
        raise InvalidJobError(
            legacy.EXECUTION_TYPE, where=where, remedy='write {"exec": PROGRAM, "args": [...]}, or {"script": TEXT}'
        )
    if not raw.keys() <= _EXECUTION_MEMBERS:
        check_members(raw, _EXECUTION_MEMBERS, where)
    texts = {member: _text(raw.get(member), where, member) for member in _TEXTS}
    program, script, model = texts["exec"], texts["script"], texts["model"]
    calls = None if raw.get("calls") is None else describe_calls(raw, f"{where}.calls")
    if program is None and script is None and calls is None:
        raise InvalidJobError(legacy.NO_PROGRAM, where=where, remedy='give "exec" a program, or "script" shell text')
    args, env = raw.get("args"), raw.get("env")
    args, env = [] if args is None else args, NO_MAPPING if env is None else env
    if not isinstance(args, list):
        raise InvalidJobError(
            legacy.ARGS_TYPE, where=f"{where}.args", remedy=f"not {shown(args)}: write [...], each argument by itself"
        )
    if not isinstance(env, Mapping):
        raise InvalidJobError(
            legacy.ENV_TYPE, where=f"{where}.env", remedy=f'not {shown(env)}: write {{"NAME": "value"}}'
        )
    if script is not None and (program is not None or args or env):
        raise InvalidJobError(
            legacy.SCRIPT_AND_EXEC, where=where, remedy="a script has its own words: leave exec, args and env out"
        )
    _check_no_nul(raw, where)
    args = tuple([arg if isinstance(arg, str) else str(arg) for arg in args])
    if args or env:
        _check_lengths(args, env, where)
    return Execution(
        exec=None if program is None else intern(program),
        args=args,
        script=script,
        env=once.environment(_environment(env, f"{where}.env")) if env else NO_MAPPING,
        wd=once.text(texts["wd"]),
        stdin=once.text(texts["stdin"]),
        stdout=texts["stdout"],
        stderr=texts["stderr"],
        modules=_modules(raw.get("modules"), f"{where}.modules"),
        venv=once.text(texts["venv"]),
        model=None if model is None else _model(model, f"{where}.model"),
        model_opts=_model_options(raw.get("model_opts"), model or "default", f"{where}.model_opts"),
        stream="stream" in raw and _is_true(raw["stream"], f"{where}.stream"),
        calls=calls,
    )


def _is_true(raw: Any, where: str) -> bool:
    if raw is None or isinstance(raw, bool):
        return bool(raw)
    raise InvalidJobError(f"{shown(raw)} is not true or false", where=where)


def _is_absent(value: object) -> bool:
    """Programs fill in templates: what is null or empty asks for nothing, as in the old system, which tested for truth."""
    return value is None or (isinstance(value, (str, list, dict)) and not value)


def _text(raw: object, where: str, member: str) -> str | None:
    if _is_absent(raw):
        return None
    if not isinstance(raw, str):
        raise InvalidJobError(f"{shown(raw)} is not text", where=f"{where}.{member}", remedy="put it into quotes")
    return raw


def _check_no_nul(raw: Mapping[str, Any], where: str) -> None:
    """A program never sees a text beyond a NUL, and no path has one."""
    for member, value in raw.items():
        parts = value if isinstance(value, list) else (value,)
        if any(isinstance(part, str) and "\0" in part for part in parts):
            raise InvalidJobError(
                "there is a NUL character in it",
                where=f"{where}.{member}",
                remedy="no program can be given one: pass it in a file",
            )


def _check_lengths(args: Sequence[str], env: Mapping[str, Any], where: str) -> None:
    """What no program can be started with is refused before anything runs. Texts with variables are known only then."""
    for place, arg in enumerate(args):
        if len(arg) > _SURE_TO_FIT and not fits_word(arg) and "$" not in arg:
            _refuse_length(byte_count(arg), MOST_WORD_BYTES, f"{where}.args[{place}]", "an argument")
    for name, value in env.items():
        if isinstance(value, str) and len(value) + len(name) >= _SURE_TO_FIT and "$" not in value:
            count = byte_count(f"{name}={value}")
            if count > MOST_WORD_BYTES:
                _refuse_length(count, MOST_WORD_BYTES, f"{where}.env.{name}", "a variable with its name")
    if len(args) > _MANY or len(env) > _MANY:
        count = at_least(args) + at_least(map(str, env.values())) + at_least(env)
        if count > MOST_ALL_BYTES:
            _refuse_length(count, MOST_ALL_BYTES, where, "all arguments and variables")


def _refuse_length(count: int, most: int, where: str, what: str) -> None:
    raise InvalidJobError(
        f"{count} bytes are more than the kernel takes for {what}, {most}", where=where, remedy="pass it in a file"
    )


def _environment(raw: Mapping[str, Any], where: str) -> Mapping[str, str]:
    for name, value in raw.items():
        if not isinstance(value, str):
            raise InvalidJobError(f"{shown(value)} is not text", where=f"{where}.{name}", remedy=f'write "{value}"')
        if not name or "=" in name or "\0" in name + value:
            raise InvalidJobError(
                f"{shown(name)} cannot be a variable", where=where, remedy="a name is not empty, and has no = in it"
            )
    return raw


def _modules(raw: Any, where: str) -> tuple[str, ...]:
    if _is_absent(raw):
        return ()
    modules = [raw] if isinstance(raw, str) else raw
    if not isinstance(modules, list) or not all(isinstance(module, str) for module in modules):
        raise InvalidJobError(
            f"{shown(raw)} is not a module name or an array of them", where=where, remedy='write ["gcc/12", "openmpi"]'
        )
    return tuple([module for module in modules if module])


def _model(raw: str, where: str) -> str:
    """A model that is filled in only when the task starts is checked then."""
    model = raw.lower()
    if model not in MODEL_OPTIONS and "$" not in model:
        remedy = f"known are {', '.join(MODEL_OPTIONS)}"
        raise InvalidJobError(f"unknown job execution model {shown(raw)}", where=where, remedy=remedy)
    return intern(model)


def _model_options(raw: Any, model: str, where: str) -> Mapping[str, Any] | None:
    if raw is None:
        return None
    need_object(raw, where, legacy.MODEL_OPTS_TYPE)
    for member in raw:
        knowing = [name for name, options in MODEL_OPTIONS.items() if member in options]
        if model.lower() not in knowing and not (knowing and "$" in model):
            remedy = f"models that know it: {', '.join(knowing)}" if knowing else f"known are {', '.join(_ALL_OPTIONS)}"
            raise InvalidJobError(f"model {model} has no such option", where=f"{where}.{member}", remedy=remedy)
    options = {member: value for member, value in raw.items() if not _is_absent(value)}
    for member, value in options.items():
        parts = [value] if member == "mpirun" else value
        if not isinstance(parts, list) or not all(isinstance(part, str) and "\0" not in part for part in parts):
            wanted = "text" if member == "mpirun" else "an array of texts"
            raise InvalidJobError(
                f"{shown(value)} is not {wanted}",
                where=f"{where}.{member}",
                remedy='write "..."' if member == "mpirun" else 'write ["...", "..."]',
            )
    return options or None


# --- the rest -----------------------------------------------------------------------------------------------------------


def _after(raw: Any, where: str, name: str) -> Steps[tuple[Dependency, ...]]:
    need_object(raw, where, legacy.DEPENDENCIES_TYPE)
    check_members(raw, frozenset({"after"}), where)
    after = raw.get("after")
    if after is None:
        return ()
    if not isinstance(after, list):
        raise InvalidJobError(
            legacy.AFTER_TYPE, where=f"{where}.after", remedy=f"not {shown(after)}: write [NAME, ...]"
        )
    dependencies: list[Dependency] = []
    for place, text in enumerate(after, 1):
        dependencies.append(_dependency(text, f"{where}.after[{place - 1}]", name))
        if not place % SLICE:
            yield Pause.MORE
    return tuple(dependencies)


def _dependency(raw: Any, where: str, name: str) -> Dependency:
    job, colon, iteration = need_text(raw, where).partition(":")
    if job == name:
        raise InvalidJobError(f'job "{name}" cannot wait for itself', where=where)
    if not colon:
        return Dependency(intern(job))
    if iteration in ("${it}", "$it"):
        return Dependency(intern(job), same_index=True)
    if _INDEX.fullmatch(iteration) is None:
        remedy = f'write "{job}", "{job}:3" or "{job}:${{it}}"'
        raise InvalidJobError(f"{shown(iteration)} is not an iteration", where=where, remedy=remedy)
    return Dependency(intern(job), index=int(iteration))


def _attributes(raw: Any, where: str) -> Mapping[str, Any] | None:
    if raw is not None:
        need_object(raw, where, legacy.ATTRIBUTES_TYPE)
    attributes: Mapping[str, Any] | None = raw
    return attributes


# --- and back -----------------------------------------------------------------------------------------------------------


def undescribe(spec: JobSpec) -> dict[str, Any]:
    """The description as JSON values, in normal form; `execution` always has exec, args, env and script."""
    e = spec.execution
    execution: dict[str, Any] = {"exec": e.exec, "args": list(e.args), "env": dict(e.env), "script": e.script}
    for member in ("wd", "stdin", "stdout", "stderr", "venv", "model"):
        if getattr(e, member) is not None:
            execution[member] = getattr(e, member)
    if e.stream:
        execution["stream"] = True
    if e.modules:
        execution["modules"] = list(e.modules)
    execution["model_opts"] = dict(e.model_opts or {})
    if e.calls is not None:
        execution["calls"] = {"executor": e.calls.executor}
    described: dict[str, Any] = {"name": spec.name, "execution": execution, "resources": _undescribed(spec.resources)}
    if spec.iteration is not None:
        described["iteration"] = undescribe_iteration(spec.iteration)
    if spec.after:
        described["dependencies"] = {"after": [str(dependency) for dependency in spec.after]}
    if spec.attributes is not None:
        described["attributes"] = dict(spec.attributes)
    for member, value in (("priority", spec.priority), ("retries", spec.retries)):
        if value:
            described[member] = value
    if spec.retry:
        described["retry"] = undescribe_retry(spec.retry)
    return described


def _undescribed(resources: Resources) -> dict[str, Any] | list[dict[str, Any]]:
    if resources.alternatives:
        return [_undescribed_one(replace(resources, need=need)) for need in resources.needs]
    return _undescribed_one(resources)


def _undescribed_one(resources: Resources) -> dict[str, Any]:
    need, spread = resources.need, resources.scheduler
    described: dict[str, Any] = {}
    for member, size, spreads in (
        ("numNodes", need.nodes, spread is not None and spread.of_nodes),
        ("numCores", need.cores, spread is not None and not spread.of_nodes),
    ):
        if size is None:
            continue
        if spreads and spread is not None:
            params = {} if spread.parts is None else {"params": {"parts": spread.parts}}
            described[member] = {"min": size.min, "scheduler": {"name": spread.name, **params}}
        elif size.min == size.max:
            described[member] = {"exact": size.min}
        else:
            described[member] = {"min": size.min} | ({} if size.max is None else {"max": size.max})
    if resources.wt_s is not None:
        described["wt"] = form(resources.wt_s)
    if resources.min_time_s is not None:
        described["min_time"] = form(resources.min_time_s)
    if need.gpus:
        described["nodeCrs"] = {"gpu": need.gpus}
    if need.mem_bytes:
        described["mem"] = form_bytes(need.mem_bytes)
    described |= _undescribed_named(need)
    if need.tags:
        described["tags"] = list(need.tags)
    return described


def _undescribed_named(need: Need) -> dict[str, Any]:
    """Named resources, and how a task is placed."""
    described: dict[str, Any] = {"placement": need.placement.name.lower()} if need.placement else {}
    for name, amount, parts in need.named:
        if name.startswith(APART):
            described["apart"] = name.removeprefix(APART)
        else:
            described[name] = fraction(parts) if parts else amount
    return described
