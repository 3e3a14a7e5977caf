"""What an execution model is told of a task's place, and the files it wants to be there while the task runs."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable, Mapping
from contextlib import suppress

from .. import variable_names
from ..execmodels.base import LaunchError, Place
from ..model.execution_models import STARTS_ONE_PROCESS
from ..model.ids import TaskKey
from ..model.job_spec import Execution
from ..systems.base import BatchSystem
from ..systems.registry import system_of
from ..wire import frames
from ..wire.frames import Settings, TaskStart
from .tasks import HeldGrant

_MOST_OF_NAME = 150
OF_ATTEMPT = (variable_names.TASK, variable_names.RUN)
"""Variables that differ from attempt to attempt."""
_OF_RUN = ("QCG_PM_STEP_ID", *OF_ATTEMPT)


def stem(settings: Settings, agent_id: str, name: str, start: TaskStart) -> str:
    """How the paths of this attempt's files begin; `name` is the task's.

    Only the launcher reads them, and it runs here: without a shared folder another will do.
    """
    readable = name.replace("/", "_")[-_MOST_OF_NAME:]
    file = f"{readable}.{start.job_no}-{start.run}"
    if os.path.isdir(settings.aux_dir):
        return os.path.join(settings.aux_dir, file)
    return os.path.join(tempfile.gettempdir(), f"pilotfish-{agent_id}-{file}")


def is_alone(execution: Execution, held: HeldGrant, settings: Settings) -> bool:
    """Whether the task is one process, which may start others by a launcher of its own."""
    return held.is_one_core or not settings.models or execution.model in STARTS_ONE_PROCESS


def place_of(
    execution: Execution, held: HeldGrant, settings: Settings, gpus: bytes, stem: str, key: TaskKey
) -> Place | None:
    """Where a task is to run, for its execution model; None when the program is simply started.

    That is so for every task of one core, for one process on one node, where nothing needs a host file, and
    everywhere when models are ignored.
    `gpus` is the name of the variable for GPUs.
    """
    if held.is_one_core or not settings.models:  # first: it is so for most tasks of most pilots
        return None
    nodes, system = held.grant.nodes, system_of(settings.batch)
    if len(nodes) == 1 and execution.model in STARTS_ONE_PROCESS and not system.hostfile_variable:
        return None
    spread = {frames.SPREAD_VARIABLE: frames.spread_mark(settings, key)} if len(nodes) > 1 else {}
    of_grant = [name for name in map(os.fsdecode, held.env) if not _is_of_system(name, system)]
    return Place(
        nodes=nodes,
        bound=held.grant.bind,
        here=settings.here,
        batch=settings.batch,
        gpus=os.fsdecode(gpus) if gpus in held.env else "",
        stem=stem,
        env=spread,
        options=execution.model_opts or {},
        mem_bytes=held.grant.mem_bytes,
        of_job=[*execution.env, *settings.env, *of_grant, *_OF_RUN, *spread],
    )


def _is_of_system(variable: str, system: BatchSystem) -> bool:
    """The system itself tells ranks on other nodes of theirs."""
    return system.variable_prefix != "" and variable.startswith(system.variable_prefix)


def write_files(files: Mapping[str, str]) -> None:
    """Raises LaunchError."""
    for path, text in files.items():
        try:
            number = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
            with open(number, "w", encoding="utf-8", errors="surrogateescape") as file:
                file.write(text)
        except OSError as error:
            remove_files(files)
            raise LaunchError(f"cannot write '{path}' for the task: {error.strerror}") from error


def remove_files(paths: Iterable[str]) -> None:
    for path in paths:
        with suppress(OSError):
            os.unlink(path)
