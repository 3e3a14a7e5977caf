"""What one batch job asks for."""

from __future__ import annotations

import copy
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from ...pilot.model import walltime as times
from . import arguments, names, schema, systems
from .schema import DescriptionError, InconsistentError
from .units import mebibytes, seconds
from .written import Written, listed

_LINES = ("queue_name", "account", "qos", "reservation")
"""Each becomes a directive's line."""
_FOR_A_SHELL = re.compile(r"`|\$[({A-Za-z_]")
_CHECKED = tuple(key for key in schema.RESOURCES if key.name not in ("walltime", "memory"))


def _remedy_for_key_of_system(name: str) -> str:
    known = systems.known()
    tables = [known.keys(each).keys for each in known.names()]
    return "write it below `kwargs`" if any(key.name == name for table in tables for key in table) else ""


@dataclass(eq=False, repr=False, init=False)
class Resources(Written):
    """What one batch job asks for; keys and defaults are DPDispatcher's, the group at the end is ours.

    Attributes:
        group_size: tasks of one job; 0 puts all into one.
        strategy: how the tasks are run; in the user's order, which is part of the hash.
        para_deg: tasks of a job that run at the same time (times the devices, with `if_cuda_multi_devices`).
        wait_time: seconds to wait after each submit.
        kwargs: keys of one batch system; the constructor puts there what it does not know.
        walltime_s: time limit of the job in seconds; `walltime` is the same as text.
        memory_mib: memory per node in MiB; `memory` may be given as text.
        dependency: ids of batch jobs that must have ended well before.
        max_jobs: how many jobs of the submission may be queued or running at once.
    """

    number_node: int
    cpu_per_node: int
    gpu_per_node: int
    queue_name: str
    group_size: int
    custom_flags: list[str]
    strategy: dict[str, Any]
    para_deg: int
    module_purge: bool
    module_unload_list: list[str]
    module_list: list[str]
    source_list: list[str]
    envs: dict[str, Any]
    prepend_script: list[str]
    append_script: list[str]
    wait_time: float
    kwargs: dict[str, Any]
    walltime_s: float | None
    account: str | None
    qos: str | None
    memory_mib: int | None
    exclusive: bool
    reservation: str | None
    dependency: list[str]
    max_jobs: int | None

    def __init__(
        self,
        number_node: int = 1,
        cpu_per_node: int = 1,
        gpu_per_node: int = 0,
        queue_name: str = "",
        group_size: int = 1,
        *,
        custom_flags: Iterable[str] | None = None,
        strategy: Mapping[str, Any] | None = None,
        para_deg: int = 1,
        module_unload_list: Iterable[str] | None = None,
        module_purge: bool = False,
        module_list: Iterable[str] | None = None,
        source_list: Iterable[str] | None = None,
        envs: Mapping[str, Any] | None = None,
        prepend_script: Iterable[str] | None = None,
        append_script: Iterable[str] | None = None,
        wait_time: float = 0,
        walltime: str | float | None = None,
        walltime_s: float | None = None,
        account: str | None = None,
        qos: str | None = None,
        memory: str | int | None = None,
        memory_mib: int | None = None,
        exclusive: bool = False,
        reservation: str | None = None,
        dependency: Iterable[str] | None = None,
        max_jobs: int | None = None,
        **kwargs: Any,
    ) -> None:
        self.number_node, self.cpu_per_node, self.gpu_per_node = number_node, cpu_per_node, gpu_per_node
        self.queue_name, self.group_size, self.para_deg = queue_name, group_size, para_deg
        self.custom_flags, self.dependency = listed(custom_flags), listed(dependency)
        self.module_purge, self.module_unload_list = module_purge, listed(module_unload_list)
        self.module_list, self.source_list = listed(module_list), listed(source_list)
        self.prepend_script, self.append_script = listed(prepend_script), listed(append_script)
        self.strategy, self.envs = _copied(strategy), _without_comments(_copied(envs))
        self.wait_time, self.max_jobs, self.exclusive = wait_time, max_jobs, exclusive
        self.account, self.qos, self.reservation = account, qos, reservation
        named = kwargs.pop("kwargs", None)
        self.kwargs = _without_comments(_copied({**(named or {}), **kwargs}))
        self.walltime_s, self.memory_mib = walltime_s, memory_mib
        if walltime is not None:
            self.walltime = walltime
        if memory is not None:
            self.memory = memory
        self.check()
        self.strategy = _complete(self.strategy)

    @property
    def walltime(self) -> str | float | None:
        """The time limit as text, `1h30m`; a number is seconds."""
        return None if self.walltime_s is None else times.form(self.walltime_s)

    @walltime.setter
    def walltime(self, value: str | float | None) -> None:
        self.walltime_s = None if value is None else seconds(value, "resources.walltime")

    @property
    def memory(self) -> str | int | None:
        """Memory per node in MiB; may be set as text, `4G`."""
        return self.memory_mib

    @memory.setter
    def memory(self, value: str | int | None) -> None:
        self.memory_mib = None if value is None else mebibytes(value, "resources.memory")

    def check(self, where: str = "resources") -> None:
        """Raises DescriptionError for a key that has no allowed value; `where` is the place of the resources."""
        schema.check_values(_CHECKED, vars(self), where)
        schema.check(schema.STRATEGY, self.strategy, f"{where}.strategy")
        for name in _LINES:
            _one_line(getattr(self, name), f"{where}.{name}")
        for name in self.dependency:
            _one_line(name, f"{where}.dependency")
        if not 0 <= self.ratio_unfinished < 1:
            what = f"ratio_unfinished must be smaller than 1.0, not {self.ratio_unfinished}"
            raise InconsistentError(what, where=f"{where}.strategy", remedy="0 means all")
        if self.device_per_task and self.gpu_per_node < 1:
            what = "gpu_per_node can not be smaller than 1 when if_cuda_multi_devices is True"
            raise InconsistentError(what, where=f"{where}.gpu_per_node")
        if self.device_per_task and self.number_node != 1:
            what = "number_node must be 1 when if_cuda_multi_devices is True"
            raise InconsistentError(what, where=f"{where}.number_node")

    @classmethod
    def load_from_dict(cls, resources_dict: Mapping[str, Any], allow_ref: bool = False) -> Resources:
        """`allow_ref`: `$ref` may name other files. Raises DescriptionError."""
        return cls._load(resources_dict, allow_ref)

    @classmethod
    def deserialize(cls, resources_dict: Mapping[str, Any]) -> Resources:
        """From `serialize`. Raises DescriptionError."""
        return cls._parse(resources_dict)

    @classmethod
    def _parse(cls, mapping: Any) -> Resources:
        """A `batch_type` beside the keys fills in the defaults of that system's `kwargs`, as in DPDispatcher."""
        given = schema.check((*schema.RESOURCES, schema.SYSTEM), mapping, "resources", _remedy_for_key_of_system)
        system = given.pop("batch_type")
        if system is not None:
            its_own = systems.known().keys(names.batch_type(system, "resources.batch_type"))
            if "kwargs" in mapping or its_own.wanted:
                given["kwargs"] = schema.check_kwargs(its_own.keys, given["kwargs"], "resources.kwargs")
        return cls(**given)

    def serialize(self) -> dict[str, Any]:
        """DPDispatcher's keys in its order; ours when set."""
        written = {key.name: copy.copy(getattr(self, key.name)) for key in schema.RESOURCES if not key.ours}
        ours = {key.name: copy.copy(getattr(self, key.name)) for key in schema.RESOURCES if key.ours}
        return written | {name: value for name, value in ours.items() if value not in (None, [], False)}

    @staticmethod
    def arginfo(detail_kwargs: bool = True) -> Any:
        """The keys of resources: as text, to check a mapping, or as a part of a `dargs` tree.

        `detail_kwargs`: `kwargs` are those of the batch system that `batch_type` names, and are checked.
        """
        branch = arguments.resources_of_a_system() if detail_kwargs else arguments.RESOURCES
        return arguments.tree(branch, lambda mapping: Resources.load_from_dict(mapping).serialize())

    @property
    def device_per_task(self) -> bool:
        """Each running task has a GPU of its own (`if_cuda_multi_devices`)."""
        return bool(self.strategy.get("if_cuda_multi_devices", False))

    @property
    def ratio_unfinished(self) -> float:
        """0 <= r < 1; when no more than this share of the tasks is left, they are cancelled."""
        return float(self.strategy.get("ratio_unfinished", 0.0))

    def unexpanded(self) -> list[str]:
        """Variables whose values look as if a shell should expand them. None does: they are quoted."""
        texts = {name: value if isinstance(value, list) else [value] for name, value in self.envs.items()}
        return [name for name, values in texts.items() if any(_FOR_A_SHELL.search(str(each)) for each in values)]

    @property
    def header_template(self) -> str | None:
        """A local file that replaces the batch system's header."""
        return self.strategy.get("customized_script_header_template_file")


def _copied(mapping: Mapping[str, Any] | None) -> dict[str, Any]:
    """A copy of its own, lists in it too; what is no mapping is refused by the check."""
    return copy.deepcopy(dict(mapping)) if isinstance(mapping, Mapping) else {} if mapping is None else mapping


def _without_comments(mapping: dict[str, Any]) -> dict[str, Any]:
    if not isinstance(mapping, Mapping):
        return mapping
    return {name: value for name, value in mapping.items() if not str(name).startswith("_")}


def _complete(strategy: dict[str, Any]) -> dict[str, Any]:
    """In the user's order, then the defaults that DPDispatcher writes; without comments."""
    known = {key.name: key.default for key in schema.STRATEGY if key.name != "customized_script_header_template_file"}
    return {**_without_comments(strategy), **{name: known[name] for name in known if name not in strategy}}


def _one_line(text: str | None, where: str) -> None:
    """Refuse what would end a directive's line."""
    if text is not None and ("\n" in text or "\r" in text):
        raise DescriptionError(f"{text!r} has a line break", where=where)
