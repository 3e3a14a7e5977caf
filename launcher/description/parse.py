"""Descriptions as users write them (DPDispatcher's JSON, YAML, TOML) to values, and back.

Reading checks everything and names the place; writing gives DPDispatcher's keys in its order, ours only when they are set,
so its hashes hold.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ...pilot.model import walltime
from ...pilot.model.errors import UsageError
from . import schema
from .resources import Resources
from .schema import DescriptionError, check
from .secrets import is_reference
from .task import Task

CONTEXTS = {"Local": "LocalContext", "LazyLocal": "LazyLocalContext", "SSH": "SSHContext"}
MACHINES = ("Slurm", "SlurmJobArray", "PBS", "Torque", "LSF", "SGE", "JH_UniScheduler", "Shell", "Fugaku")
_LATER = ("DistributedShell", "Bohrium", "DpCloudServer", "Lebesgue", "OpenAPI", "HDFS")

_DEFAULTS_ALWAYS = ("LSF", "SGE", "JH_UniScheduler")
"""DPDispatcher wants `kwargs` here; for others its defaults are only in `kwargs` that are given, which the hash shows."""

_ELSEWHERE = {key.name: "write it below `kwargs`" for table in schema.KWARGS.values() for key in table}

_MEMORY = re.compile(r"(\d+(?:\.\d+)?)\s*([KMGT]?)(?:i?B)?", re.IGNORECASE)
_MIB = {"": 1.0, "K": 1 / 1024, "M": 1.0, "G": 1024.0, "T": 1024.0 * 1024}
_HASH = re.compile(r"[0-9a-f]{40}")
_DRIVE = re.compile(r"[A-Za-z]:")


@dataclass(frozen=True)
class MachineDescription:
    """A machine and the way to it; the names are those of the classes (`Slurm`, `SSHContext`).

    `profile` holds the keys of `remote_profile` as the user gave them, without defaults: those that are missing depend on
    other files (~/.ssh/config). It may hold secrets, so it is not in the repr.
    """

    batch_type: str
    context_type: str
    local_root: str
    remote_root: str | None = None
    clean_asynchronously: bool = False
    create_remote_root: bool = False
    profile: Mapping[str, Any] = field(default_factory=dict, repr=False)
    retry_count: int = 3


@dataclass(frozen=True)
class PilotDescription:
    """How the tasks of a submission are run by pilots; see schema.PILOT."""

    pilots: int = 1
    max_allocations: int = 10
    bootstrap: str = "auto"
    python: str | None = None
    wheelhouse: str | None = None
    options: tuple[str, ...] = ()


@dataclass(frozen=True)
class SubmissionDescription:
    """A whole submission: tasks, machine, resources.

    Raises DescriptionError for a path that leads out of its folder.
    """

    work_base: str
    machine: MachineDescription
    resources: Resources
    tasks: tuple[Task, ...]
    forward_common_files: tuple[str, ...] = ()
    backward_common_files: tuple[str, ...] = ()
    previous_submission_hash: str | None = None
    continue_on_failure: bool = False
    pilot: PilotDescription | None = None

    def __post_init__(self) -> None:
        safe_path(self.work_base, "work_base", globs=False, absolute=True)
        for name in ("forward_common_files", "backward_common_files"):
            for number, pattern in enumerate(getattr(self, name)):
                safe_path(pattern, f"{name}[{number}]")
        # Where the work is done in the folder itself nothing is staged, and tasks may be beside each other.
        beside = self.machine.context_type == "LazyLocalContext"
        for number, task in enumerate(self.tasks):
            safe_path(task.task_work_path, f"task_list[{number}].task_work_path", beside=beside)


# --- reading ------------------------------------------------------------------------------------------------------------


def parse_machine(given: Any, where: str = "machine") -> MachineDescription:
    found = check(schema.MACHINE, given, where)
    context = _name(found["context_type"], CONTEXTS, f"{where}.context_type", "Context")
    profile = found["remote_profile"]
    table = {"SSHContext": schema.SSH_PROFILE, "LocalContext": schema.LOCAL_PROFILE}.get(CONTEXTS[context])
    if table is not None:
        known = check(table, profile, f"{where}.remote_profile")
        profile = {name: known[name] for name in known if name in profile}
    profile = {name: value for name, value in profile.items() if not str(name).startswith("_")}
    if CONTEXTS[context] != "LazyLocalContext" and not found["remote_root"]:
        raise DescriptionError("key 'remote_root' is required", where=where, remedy="give the folder on the machine")
    batch_type = _name(found["batch_type"], MACHINES, f"{where}.batch_type", "")
    return MachineDescription(
        batch_type=batch_type,
        context_type=CONTEXTS[context],
        local_root=found["local_root"],
        remote_root=found["remote_root"],
        clean_asynchronously=found["clean_asynchronously"],
        create_remote_root=found["create_remote_root"],
        profile=profile,
        retry_count=found["retry_count"],
    )


def _name(given: str, known: Sequence[str] | Mapping[str, str], where: str, suffix: str) -> str:
    """The known name, whatever its case, with or without the suffix."""

    def plain(name: str) -> str:
        return name.lower().removesuffix(suffix.lower()) if suffix else name.lower()

    for name in known:
        if plain(given) == plain(name):
            return name
    for name in _LATER:
        if plain(given) == plain(name):
            raise DescriptionError(
                f"{given!r} is not built yet", where=where, remedy=f"this version has {', '.join(known)}"
            )
    remedy = schema.nearest(given, known) or f"known are {', '.join(known)}"
    raise DescriptionError(f"unknown {given!r}", where=where, remedy=remedy)


def parse_resources(given: Any, where: str = "resources") -> Resources:
    """A `batch_type` beside the keys fills in the defaults of that system's `kwargs`, as in DPDispatcher."""
    found = check((*schema.RESOURCES, schema.SYSTEM), given, where, _ELSEWHERE)
    strategy = check(schema.STRATEGY, found["strategy"], f"{where}.strategy")
    ordered = {name: strategy[name] for name in found["strategy"] if name in strategy}
    ordered |= {name: strategy[name] for name in ("if_cuda_multi_devices", "ratio_unfinished") if name not in ordered}
    kwargs = {name: value for name, value in found["kwargs"].items() if not str(name).startswith("_")}
    if found["batch_type"] is not None:
        system = _name(found["batch_type"], MACHINES, f"{where}.batch_type", "")
        if "kwargs" in given or system in _DEFAULTS_ALWAYS:
            kwargs = schema.check_kwargs(system, found["kwargs"], f"{where}.kwargs")
    memory = found["memory"]
    limit = found["walltime"]
    resources = Resources(
        number_node=found["number_node"],
        cpu_per_node=found["cpu_per_node"],
        gpu_per_node=found["gpu_per_node"],
        queue_name=_one_line(found["queue_name"], f"{where}.queue_name"),
        group_size=found["group_size"],
        custom_flags=tuple(found["custom_flags"]),
        strategy=ordered,
        para_deg=found["para_deg"],
        module_purge=found["module_purge"],
        module_unload_list=tuple(found["module_unload_list"]),
        module_list=tuple(found["module_list"]),
        source_list=tuple(found["source_list"]),
        envs={name: value for name, value in found["envs"].items() if not str(name).startswith("_")},
        prepend_script=tuple(found["prepend_script"]),
        append_script=tuple(found["append_script"]),
        wait_time=found["wait_time"],
        kwargs=kwargs,
        walltime_s=None if limit is None else _seconds(limit, f"{where}.walltime"),
        account=_optional_line(found["account"], f"{where}.account"),
        qos=_optional_line(found["qos"], f"{where}.qos"),
        memory_mib=None if memory is None else _mebibytes(memory, f"{where}.memory"),
        exclusive=found["exclusive"],
        reservation=_optional_line(found["reservation"], f"{where}.reservation"),
        dependency=tuple(_one_line(name, f"{where}.dependency") for name in found["dependency"]),
        max_jobs=found["max_jobs"],
    )
    _consistent(resources, where)
    return resources


def _consistent(resources: Resources, where: str) -> None:
    ratio = resources.ratio_unfinished
    if not 0 <= ratio < 1:
        raise DescriptionError(
            f"ratio_unfinished must be smaller than 1.0, not {ratio}", where=f"{where}.strategy", remedy="0 means all"
        )
    if resources.device_per_task and resources.gpu_per_node < 1:
        what = "gpu_per_node can not be smaller than 1 when if_cuda_multi_devices is True"
        raise DescriptionError(what, where=f"{where}.gpu_per_node")
    if resources.device_per_task and resources.number_node != 1:
        what = "number_node must be 1 when if_cuda_multi_devices is True"
        raise DescriptionError(what, where=f"{where}.number_node")


def parse_task(given: Any, where: str = "task") -> Task:
    found = check(schema.TASK, given, where)
    for name in ("forward_files", "backward_files"):
        for number, pattern in enumerate(found[name]):
            safe_path(pattern, f"{where}.{name}[{number}]")
    for name in ("outlog", "errlog"):
        if found[name] is not None:
            safe_path(found[name], f"{where}.{name}", globs=False)
    own = found["resources"]
    return Task(
        command=found["command"],
        task_work_path=found["task_work_path"],
        forward_files=tuple(found["forward_files"]),
        backward_files=tuple(found["backward_files"]),
        outlog=found["outlog"],
        errlog=found["errlog"],
        task_name=found["task_name"],
        resources=None if own is None else _task_resources(own, f"{where}.resources"),
        dependencies=tuple(found["dependencies"]),
        iteration=found["iteration"],
        retries=found["retries"],
    )


def _task_resources(given: dict[str, Any], where: str) -> dict[str, Any]:
    """Only what was given; times in seconds, memory in MiB."""
    found = check(schema.TASK_RESOURCES, given, where)
    found = {name: value for name, value in found.items() if name in given and value is not None}
    if "memory" in found:
        found["memory"] = _mebibytes(found["memory"], f"{where}.memory")
    if "wt" in found:
        found["wt"] = _seconds(found["wt"], f"{where}.wt")
    return found


def parse_pilot(given: Any, where: str = "pilot") -> PilotDescription:
    found = check(schema.PILOT, given, where)
    if found["bootstrap"] not in ("auto", "never", "always"):
        raise DescriptionError(
            f"unknown {found['bootstrap']!r}", where=f"{where}.bootstrap", remedy="auto, never or always"
        )
    return PilotDescription(
        pilots=found["pilots"],
        max_allocations=found["max_allocations"],
        bootstrap=found["bootstrap"],
        python=found["python"],
        wheelhouse=found["wheelhouse"],
        options=tuple(found["options"]),
    )


def parse_submission(given: Any) -> SubmissionDescription:
    found = check(schema.SUBMISSION, given, "")
    previous = found["previous_submission_hash"]
    if previous is not None and not _HASH.fullmatch(previous):
        raise DescriptionError(f"{previous!r} is not 40 hex digits", where="previous_submission_hash")
    resources = dict(found["resources"])
    pilot = None if found["pilot"] is None else parse_pilot(found["pilot"])
    if pilot is not None:
        resources.setdefault("group_size", 0)
    return SubmissionDescription(
        work_base=found["work_base"],
        machine=parse_machine(found["machine"]),
        resources=parse_resources(resources),
        tasks=tuple(parse_task(each, f"task_list[{i}]") for i, each in enumerate(found["task_list"])),
        forward_common_files=tuple(found["forward_common_files"]),
        backward_common_files=tuple(found["backward_common_files"]),
        previous_submission_hash=previous,
        continue_on_failure=found["continue_on_failure"],
        pilot=pilot,
    )


def safe_path(path: str, where: str, *, globs: bool = True, absolute: bool = False, beside: bool = False) -> None:
    """Refuse a path that leads out of its folder, unless it may be `absolute`, or `beside` the folder.

    A backslash counts as a slash.
    """
    plain = path.replace("\\", "/")
    wrong = ""
    if "\0" in plain:
        wrong = "a NUL is not allowed"
    elif not absolute and (plain.startswith("/") or _DRIVE.match(plain)):
        wrong = "absolute paths are not allowed in staging entries"
    elif not beside and not (absolute and plain.startswith("/")) and ".." in plain.split("/"):
        wrong = "parent-directory traversal is not allowed"
    elif not globs and any(sign in plain for sign in "*?["):
        wrong = "glob patterns are not allowed here"
    if wrong:
        raise DescriptionError(f"{wrong}: {path}", where=where, remedy="write a path below the folder it belongs to")


def _one_line(text: str, where: str) -> str:
    """Refuse what would end a directive's line."""
    if "\n" in text or "\r" in text:
        raise DescriptionError(f"{text!r} has a line break", where=where)
    return text


def _optional_line(text: str | None, where: str) -> str | None:
    return None if text is None else _one_line(text, where)


def _seconds(value: str | float, where: str) -> float:
    """A bare number is seconds."""
    try:
        return walltime.parse(value if isinstance(value, str) else f"{value}s")
    except UsageError as error:
        raise DescriptionError(error.what, where=where, remedy=error.remedy) from None


def _mebibytes(value: str | int, where: str) -> int:
    match = _MEMORY.fullmatch(str(value).strip())
    amount = round(float(match[1]) * _MIB[match[2].upper()]) if match else 0
    if amount < 1:
        raise DescriptionError(f"{value!r} is not an amount of memory", where=where, remedy="write 4G, 500M, or MiB")
    return amount


# --- writing ------------------------------------------------------------------------------------------------------------


def task_to_dict(task: Task) -> dict[str, Any]:
    """DPDispatcher's keys in its order; `task_name` and ours when set."""
    written: dict[str, Any] = {
        "command": task.command,
        "task_work_path": task.task_work_path,
        "forward_files": list(task.forward_files),
        "backward_files": list(task.backward_files),
        "outlog": task.outlog,
        "errlog": task.errlog,
    }
    ours = {
        "task_name": task.task_name,
        "resources": task.resources,
        "dependencies": list(task.dependencies),
        "iteration": task.iteration,
        "retries": task.retries,
    }
    return written | {name: value for name, value in ours.items() if value not in (None, [], 0)}


def resources_to_dict(resources: Resources) -> dict[str, Any]:
    names = [key.name for key in schema.RESOURCES if not key.ours]
    written = {name: _plain(getattr(resources, name)) for name in names}
    ours = {
        "walltime": None if resources.walltime_s is None else walltime.form(resources.walltime_s),
        "account": resources.account,
        "qos": resources.qos,
        "memory": resources.memory_mib,
        "exclusive": resources.exclusive,
        "reservation": resources.reservation,
        "dependency": list(resources.dependency),
        "max_jobs": resources.max_jobs,
    }
    return written | {name: value for name, value in ours.items() if value not in (None, [], False)}


def machine_to_dict(machine: MachineDescription, *, secrets: bool = False) -> dict[str, Any]:
    """Without `secrets` the values of secret keys are left out; references to where they are (`env:NAME`) stay."""
    hidden = {key.name for key in schema.SSH_PROFILE if key.secret}
    profile = {
        name: value
        for name, value in machine.profile.items()
        if secrets or name not in hidden or value is None or is_reference(value)
    }
    if machine.context_type == "LocalContext":
        profile = {"symlink": True} | profile
    written: dict[str, Any] = {
        "batch_type": machine.batch_type,
        "context_type": machine.context_type,
        "local_root": machine.local_root,
        "remote_root": machine.remote_root,
        "clean_asynchronously": machine.clean_asynchronously,
    }
    if machine.context_type == "SSHContext":
        written["create_remote_root"] = machine.create_remote_root
    return written | {"remote_profile": profile, "retry_count": machine.retry_count}


def pilot_to_dict(pilot: PilotDescription) -> dict[str, Any]:
    default = PilotDescription()
    names = [key.name for key in schema.PILOT]
    return {name: _plain(getattr(pilot, name)) for name in names if getattr(pilot, name) != getattr(default, name)}


def _plain(value: Any) -> Any:
    if isinstance(value, tuple):
        return list(value)
    return dict(value) if isinstance(value, Mapping) else value
