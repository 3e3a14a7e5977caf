"""What one batch job asks for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Resources:
    """What one batch job asks for; keys and defaults are DPDispatcher's, the group at the end is ours.

    Attributes:
        group_size: tasks of one job; 0 puts all into one.
        strategy: how the tasks are run; in the user's order, which is part of the hash.
        para_deg: tasks of a job that run at the same time (times the devices, with `if_cuda_multi_devices`).
        wait_time: seconds to wait after each submit.
        kwargs: keys of one batch system.
        walltime_s: time limit of the job in seconds.
        memory_mib: memory per node in MiB.
        dependency: ids of batch jobs that must have ended well before.
        max_jobs: how many jobs of the submission may be queued or running at once.
    """

    number_node: int = 1
    cpu_per_node: int = 1
    gpu_per_node: int = 0
    queue_name: str = ""
    group_size: int = 1
    custom_flags: tuple[str, ...] = ()
    strategy: Mapping[str, Any] = field(default_factory=dict)
    para_deg: int = 1
    module_purge: bool = False
    module_unload_list: tuple[str, ...] = ()
    module_list: tuple[str, ...] = ()
    source_list: tuple[str, ...] = ()
    envs: Mapping[str, Any] = field(default_factory=dict)
    prepend_script: tuple[str, ...] = ()
    append_script: tuple[str, ...] = ()
    wait_time: float = 0
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    walltime_s: float | None = None
    account: str | None = None
    qos: str | None = None
    memory_mib: int | None = None
    exclusive: bool = False
    reservation: str | None = None
    dependency: tuple[str, ...] = ()
    max_jobs: int | None = None

    @property
    def device_per_task(self) -> bool:
        """Each running task has a GPU of its own (`if_cuda_multi_devices`)."""
        return bool(self.strategy.get("if_cuda_multi_devices", False))

    @property
    def ratio_unfinished(self) -> float:
        """0 <= r < 1; when no more than this share of the tasks is left, they are cancelled."""
        return float(self.strategy.get("ratio_unfinished", 0.0))

    @property
    def header_template(self) -> str | None:
        """A local file that replaces the batch system's header."""
        return self.strategy.get("customized_script_header_template_file")
