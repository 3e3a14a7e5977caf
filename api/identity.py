"""What makes two tasks the same one: what they do, not where they stand in a file.

A task is known by its *work* (command, parameters, environment, folders, files it names itself, cores, nodes, GPUs, and the
work of what it waits for) and, where a job has iterations, by a *key* (its value, and its index where the work uses it).
Under which *limits* it runs (wall time, memory, retries) matters only as long as it has not succeeded.

Program files that a command names are not looked into.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import Any

from ..pilot.model.errors import UsageError
from ..pilot.model.job_spec import JobSpec, Parameter
from ..pilot.model.variables import names_in
from ..pilot.wire.describe import describe_jobs, undescribe

_JOB_NAME = re.compile(r"\$(?:\$|jname(?![A-Za-z0-9_])|\{jname\})")
_INDEX = re.compile(r"\$(?:it(?![A-Za-z0-9_])|\{it\})")
_LIMITS = ("wt", "min_time", "mem")
_DIGEST_BYTES = 12


@dataclass(frozen=True)
class Wanted:
    """One job as a file describes it now. `label`: its name there. `keys`: by position; None without iterations."""

    label: str
    job: dict[str, Any]
    spec: JobSpec
    work: str
    limits: str
    keys: Sequence[str] | None

    @property
    def count(self) -> int:
        return self.spec.task_count

    @property
    def start(self) -> int:
        return 0 if self.spec.iteration is None else self.spec.iteration.start

    def key(self, pos: int) -> str:
        return "" if self.keys is None else self.keys[pos]


class Indices(Sequence[str]):
    """The keys of iterations that are only numbered, without a text for each of perhaps millions."""

    def __init__(self, start: int, stop: int) -> None:
        self._range = range(start, stop)

    def __len__(self) -> int:
        return len(self._range)

    def __getitem__(self, at: Any) -> Any:
        return [str(index) for index in self._range[at]] if isinstance(at, slice) else str(self._range[at])


def named(job: Mapping[str, Any]) -> dict[str, Any]:
    """A description with `${jname}` filled in: the pilot may come to know the job by another name."""
    name = job["name"]

    def filled(value: Any) -> Any:
        if isinstance(value, str):
            return (
                _JOB_NAME.sub(lambda match: match[0] if match[0] == "$$" else name, value)
                if "jname" in value
                else value
            )
        if isinstance(value, list):
            return [filled(element) for element in value]
        return {member: filled(element) for member, element in value.items()} if isinstance(value, dict) else value

    return {member: filled(value) for member, value in job.items()}


def identify(jobs: Sequence[dict[str, Any]]) -> list[Wanted]:
    """The jobs with their identities, each after those it waits for.

    Raises UsageError for anything that is not a job description.
    """
    for number, job in enumerate(jobs):
        if not isinstance(job.get("name"), str) or "$" in job["name"]:
            remedy = "give it a name, or resume without FILE"
            raise UsageError(
                "without a fixed name nobody can tell whether it ran", where=f"jobs[{number}]", remedy=remedy
            )
    filled = [named(job) for job in jobs]
    specs = {spec.name: spec for spec in describe_jobs(filled, None)}
    if len(specs) < len(jobs):
        names = [spec.name for spec in describe_jobs(filled, None)]
        twice = next(name for place, name in enumerate(names) if name in names[:place])
        raise UsageError(f"Job {twice} already exist", where="jobs", remedy="give each job a name of its own")
    raw = {job["name"]: job for job in filled}
    done: dict[str, Wanted] = {}
    for name in _in_order(specs):
        done[name] = _wanted(raw[name], specs[name], done)
    return list(done.values())


def _in_order(specs: Mapping[str, JobSpec]) -> Iterator[str]:
    """Names, each after those it waits for; what waits in a ring is left for the pilot to refuse, in any order."""
    waiting = {
        name: {dependency.job for dependency in spec.after if dependency.job in specs and dependency.job != name}
        for name, spec in specs.items()
    }
    dependents: dict[str, list[str]] = {}
    for name, needs in waiting.items():
        for need in needs:
            dependents.setdefault(need, []).append(name)
    ready = [name for name, needs in waiting.items() if not needs]
    for name in ready:  # grows while it is gone through
        yield name
        for dependent in dependents.get(name, ()):
            waiting[dependent].discard(name)
            if not waiting[dependent]:
                ready.append(dependent)
    yield from (name for name, needs in waiting.items() if needs)


def _wanted(job: dict[str, Any], spec: JobSpec, done: Mapping[str, Wanted]) -> Wanted:
    described = undescribe(spec)
    resources = described["resources"]
    ways = resources if isinstance(resources, list) else [resources]
    limits = [way.pop(member, None) for way in ways for member in _LIMITS] + [spec.retries] + described.get("retry", [])
    after = sorted(_dependency(text, done) for text in map(str, spec.after))
    text = json.dumps([described["execution"], resources, spec.iteration is None, after], sort_keys=True)
    return Wanted(spec.name, job, spec, _digest(text), _digest(json.dumps(limits)), _keys(spec, text, done))


def _dependency(text: str, done: Mapping[str, Wanted]) -> str:
    """What a job waits for, as a part of what it is: that it ran after that very work."""
    name, _, index = text.partition(":")
    target = done.get(name)
    if target is None:
        return text
    if index == "${it}" or target.keys is None:
        return f"{target.work}:{index}"
    if index:
        return f"{target.work}:{target.key(int(index) - target.start) if _has(target, int(index)) else index}"
    keys = f"{target.start}+{target.count}" if isinstance(target.keys, Indices) else "\n".join(target.keys)
    return f"{target.work}:{_digest(keys)}"


def _has(target: Wanted, index: int) -> bool:
    return target.start <= index < target.start + target.count


def _keys(spec: JobSpec, text: str, done: Mapping[str, Wanted]) -> Sequence[str] | None:
    iteration = spec.iteration
    if iteration is None:
        return None
    targets = [done[each.job] for each in spec.after if each.same_index and each.job in done]
    targets = [target for target in targets if not isinstance(target.keys, Indices)]
    if iteration.is_numbered and not targets:
        return Indices(iteration.start, iteration.stop)
    with_index = not iteration.is_numbered and _INDEX.search(text) is not None
    params = _used(iteration.params, text)
    keys = []
    for pos in range(iteration.count):
        index = iteration.start + pos
        value = (
            "\0".join([f"{param.name}={param.at(pos)}" for param in params]) if iteration.params else spec.value_of(pos)
        )
        parts = [str(value)] + [str(index)] * with_index
        parts += [target.key(index - target.start) for target in targets if _has(target, index)]
        keys.append("\0".join(parts))
    return keys


def _used(params: Sequence[Parameter], text: str) -> list[Parameter]:
    """The parameters that make a difference: a column of remarks may change, or come and go."""
    names = names_in(text)
    return sorted(
        (param for param in params if names & {"itval", param.name, f"itval.{param.name}"}), key=attrgetter("name")
    )


def _digest(text: str) -> str:
    return hashlib.blake2b(text.encode(errors="surrogateescape"), digest_size=_DIGEST_BYTES).hexdigest()
