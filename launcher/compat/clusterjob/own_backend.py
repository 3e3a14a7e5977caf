"""A batch system as somebody's own class has it: `JobScript.register_backend`.

Its commands run in the job's folder on the job's machine. The script that it is given is ours, as on every batch system, so how
a job has ended is known from what the job writes itself; its words for a job that is alive are taken.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from ....pilot.model.errors import TransientError
from ...contexts.base import Context
from ...contexts.shell import Text, users, words
from ...job import script
from ...job.spec import JobToPlace, is_id
from ...job.states import Listing
from ...machines import registry
from ...machines.base import BatchSystem, MachineBusyError, SubmitRefusedError
from .backends import ClusterjobBackend, Command, LPbsBackend
from .headers import Backend, backends
from .status import status_of

log = logging.getLogger("clusterjob.utils")


@dataclass(frozen=True)
class KnownRun:
    """What `cmd_status` and `cmd_cancel` are told of a job; its machine is reached already."""

    job_id: str
    backend: ClusterjobBackend
    remote: None = None


class OwnBackend(BatchSystem):
    """One class for each backend that is registered; `script` is the JobScript that is just submitted."""

    backend: ClassVar[ClusterjobBackend]

    def __init__(self, jobscript: Any = None) -> None:
        self._jobscript = jobscript

    @staticmethod
    def of(style: Backend, jobscript: Any) -> BatchSystem | None:
        """To submit that script with; None where the backend is one of ours."""
        if style.own is None:
            return None
        kind: Any = registry.system(style.batch_type)
        made: BatchSystem = kind(jobscript)
        return made

    def script(self, job: JobToPlace) -> dict[str, str]:
        return script.render([], job, variables=registry.job_variables(self.kind))

    def submit(self, context: Context, job: JobToPlace) -> str:
        given = self._jobscript.named(job.script_name)
        response = self._run(context, self.backend.cmd_submit(given), cwd=job.root, once=True)
        job_id = self.backend.get_job_id(response)
        if not job_id or not is_id(str(job_id)):
            raise SubmitRefusedError(response.strip()[-1000:] or "printed nothing", where=self.backend.name)
        context.write({f"{job.root}/{job.id_file}": str(job_id).encode()})
        return str(job_id)

    def query(self, context: Context, ids: Sequence[str]) -> Listing:
        found = Listing()
        for name in ids:
            code = self._code(context, name)
            found[name] = status_of(code)
            if code is None:
                found.unclear.add(name)
        return found

    def _code(self, context: Context, job_id: str) -> int | None:
        run = KnownRun(job_id, self.backend)
        for finished in (False, True):
            response = self._run(context, self.backend.cmd_status(run, finished=finished))
            code = self.backend.get_status(response, finished=finished)
            if code is not None:
                return code
        return None

    def cancel(self, context: Context, ids: Sequence[str]) -> None:
        for name in ids:
            self._run(context, self.backend.cmd_cancel(KnownRun(name, self.backend)))

    def _run(self, context: Context, command: Command, *, cwd: str | None = None, once: bool = False) -> str:
        """What it prints on both streams, whatever its exit code."""
        text: Text = users(command) if isinstance(command, str) else words(command)
        log.debug("COMMAND: %s", text)
        try:
            done = context.run(text, cwd=cwd, timeout_s=120.0, once=once)
        except TransientError as error:
            raise MachineBusyError(error.what, where=error.where) from error
        log.debug("RESPONSE: %s", done.out + done.err)
        return done.out + done.err


_registered: dict[str, Backend] = {}


def register(backend: object, name: str | None = None) -> None:
    """Raises TypeError for what is no ClusterjobBackend, AttributeError for one without a name."""
    if not isinstance(backend, ClusterjobBackend):
        raise TypeError(f"backend must be an instance of ClusterjobBackend, not {type(backend).__name__}")
    known_as = name or backend.name
    members = {"kind": f"backend-{known_as}", "backend": backend, "__doc__": f"The backend {known_as}."}
    registry.register(type("OwnBackend", (OwnBackend,), members))
    _registered[known_as] = Backend(str(members["kind"]), backend.extension, None, backend)


def registered() -> dict[str, Backend]:
    """Those that a program has registered, by name."""
    if LPbsBackend.name not in _registered:
        register(LPbsBackend())
    return _registered


def all_backends() -> dict[str, Backend]:
    """Ours, and those that were registered, which go before ours of the same name."""
    return {**backends(), **registered()}
