"""clusterjob's interface for batch systems, and its classes for those that we have.

A class of somebody's own is used through `own_backend`. Ours are not: these classes only tell in clusterjob's terms what the
tables in `machines/` say, for programs that ask them, or derive from them.
"""

from __future__ import annotations

import re
import shlex
import sys
from abc import ABC, abstractmethod
from typing import Any, ClassVar, Protocol

from ....pilot.model.errors import PilotfishError
from ...contexts.base import Done
from ...contexts.shell import word
from ...job.spec import JobVariables
from ...job.states import JobState, Listing, Status
from ...machines import registry
from ...machines.commands import BatchMachine
from .headers import Backend, ResourcesNotSupportedError, backends, headers, time_to_seconds
from .status import code_of

__all__ = [
    "ClusterjobBackend",
    "LPbsBackend",
    "LsfBackend",
    "PbsBackend",
    "PbsProBackend",
    "ResourcesNotSupportedError",
    "SgeBackend",
    "SlurmBackend",
    "time_to_minutes",
]

_VARIABLE = re.compile(r"\$(?:\{CLUSTERJOB_[A-Z_]+\}|CLUSTERJOB_[A-Z_]+)")
Command = str | list[str]
"""Words, or a text for a shell."""


class Submitted(Protocol):
    """What a backend needs of a job that was handed over: an AsyncResult."""

    @property
    def job_id(self) -> str | None: ...


class Described(Protocol):
    """What a backend needs of a job script."""

    resources: dict[str, Any]
    filename: str | None


class ClusterjobBackend(ABC):
    """A batch system for job scripts. `JobScript.register_backend(MyBackend())` makes it known under its `name`.

    Attributes:
        name: what `JobScript.backend` says to have it.
        extension: how names of scripts end, without the dot.
        common_keys: resources that every backend writes, or raises ResourcesNotSupportedError for.
    """

    name: str
    extension: str
    common_keys: ClassVar[list[str]] = [
        "name",
        "queue",
        "time",
        "nodes",
        "ppn",
        "threads",
        "mem",
        "stdout",
        "stderr",
    ]

    @abstractmethod
    def cmd_submit(self, jobscript: Any) -> Command:
        """The command that hands over `jobscript.filename`; it runs in the script's folder."""

    @abstractmethod
    def get_job_id(self, response: str) -> str | None:
        """The id in what that command printed, on both streams; None when there is no id."""

    @abstractmethod
    def cmd_status(self, run: Any, finished: bool = False) -> Command:
        """The command that asks where `run.job_id` is; with `finished` one that also knows jobs that have ended."""

    @abstractmethod
    def get_status(self, response: str, finished: bool = False) -> int | None:
        """One of `status.STATUS_CODES` for what that command printed; None when it tells nothing."""

    @abstractmethod
    def cmd_cancel(self, run: Any) -> Command:
        """The command that ends the job `run.job_id`."""

    @abstractmethod
    def resource_headers(self, jobscript: Any) -> list[str]:
        """The directives for `jobscript.resources`. Raises ResourcesNotSupportedError."""

    @abstractmethod
    def replace_body_vars(self, body: str) -> str:
        """The text with the batch system's variables in the place of `$CLUSTERJOB_ID` and the like."""


class _Ours(ClusterjobBackend):
    """A batch system of ours."""

    _batch_type: ClassVar[str]
    _name_variable: ClassVar[str]

    @property
    def _machine(self) -> BatchMachine:
        machine = registry.build_machine(self._batch_type)
        assert isinstance(machine, BatchMachine)
        return machine

    @property
    def _style(self) -> Backend:
        return next(style for style in backends().values() if style.batch_type == self._batch_type)

    @property
    def prefix(self) -> str:
        """What each directive begins with."""
        directives = self._machine.directives
        return "" if directives is None else directives.prefix

    @property
    def job_vars(self) -> dict[str, str]:
        """clusterjob's variables, with braces and without -> those of the batch system."""
        found = {"NAME": f"${self._name_variable}", **_variables(registry.system(self._batch_type).variables)}
        bare = {f"$CLUSTERJOB_{name}": value for name, value in found.items()}
        return bare | {f"${{CLUSTERJOB_{name}}}": value for name, value in found.items()}

    @property
    def status_mapping(self) -> dict[str, int]:
        """The batch system's words -> codes; of a job that has ended its exit code tells more."""
        table = getattr(sys.modules[type(self._machine).__module__], "STATES", {})
        return {word: code_of(Status(state, reason=reason)) for word, (state, reason) in table.items()}

    def cmd_submit(self, jobscript: Described) -> Command:
        return self._command(self._machine.dialect.submit.format(script=word(str(jobscript.filename))))

    def get_job_id(self, response: str) -> str | None:
        try:
            return self._machine.id_in(Done(0, response, ""))
        except PilotfishError:
            return None

    def cmd_status(self, run: Submitted, finished: bool = False) -> Command:
        dialect = self._machine.dialect
        listing = dialect.probe or dialect.listing  # where the listing has all jobs, of this one alone
        asked = dialect.history if finished and dialect.history is not None else listing
        return str(asked([run.job_id or ""]))

    def get_status(self, response: str, finished: bool = False) -> int | None:
        dialect = self._machine.dialect
        readers = (dialect.read_probe or dialect.read_listing, dialect.read_history if finished else None)
        rows = [row for read in readers if read is not None for row in _rows(read(response))]
        if rows:
            return code_of(rows[-1])
        known = self.status_mapping
        words = [word for line in response.splitlines() for word in line.split() if word in known]
        return known[words[-1]] if words else None

    def cmd_cancel(self, run: Submitted) -> Command:
        return self._command(str(self._machine.dialect.cancel([run.job_id or ""])))

    def resource_headers(self, jobscript: Described) -> list[str]:
        return headers(self._style, jobscript.resources)

    def replace_body_vars(self, body: str) -> str:
        known = self.job_vars
        return _VARIABLE.sub(lambda match: known.get(match[0], match[0]), body)

    @staticmethod
    def _command(text: str) -> Command:
        return text if set(text) & set("<|;&$\n") else shlex.split(text)


def _rows(listing: Listing) -> list[Status]:
    return [status for status in listing.values() if status.state is not JobState.unknown]


def _variables(told: JobVariables) -> dict[str, str]:
    """Without clusterjob's prefix."""
    pairs = {
        "ID": told.id,
        "ARRAY_INDEX": told.element,
        "SUBMIT_HOST": told.submit_host,
        "WORKDIR": told.submit_folder,
        "NODELIST": told.nodes,
    }
    nodes = f"`cat ${told.node_file[0]}`" if told.node_file else "`hostname`"
    found = {name: f"${variables[0]}" for name, variables in pairs.items() if variables}
    return {"SUBMIT_HOST": "`hostname`", "NODELIST": nodes, **found}


class SlurmBackend(_Ours):
    name, extension = "slurm", "slr"
    _batch_type, _name_variable = "Slurm", "SLURM_JOB_NAME"


class PbsBackend(_Ours):
    """Torque."""

    name, extension = "pbs", "pbs"
    _batch_type, _name_variable = "Torque", "PBS_JOBNAME"


class PbsProBackend(PbsBackend):
    name = "pbspro"
    _batch_type = "PBS"


class LPbsBackend(PbsBackend):
    """PBS behind commands that are called `lqsub`, `lqstat` and `lqdel`."""

    name = "lpbs"

    def cmd_submit(self, jobscript: Described) -> Command:
        return ["lqsub", str(jobscript.filename)]

    def cmd_status(self, run: Submitted, finished: bool = False) -> Command:
        return ["lqstat", run.job_id or ""]

    def cmd_cancel(self, run: Submitted) -> Command:
        return ["lqdel", run.job_id or ""]


class LsfBackend(_Ours):
    name, extension = "lsf", "lsf"
    _batch_type, _name_variable = "LSF", "LSB_JOBNAME"


class SgeBackend(_Ours):
    name, extension = "sge", "sge"
    _batch_type, _name_variable = "SGE", "JOB_NAME"


def time_to_minutes(text: str | int) -> int:
    """A time limit in whole minutes, rounded up. Raises ValueError."""
    return -(-time_to_seconds(text) // 60)
