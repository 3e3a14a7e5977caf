"""The batch jobs behind allocations: asked for, looked at, cancelled; each by its record (`launcher/job/single.py`).

An allocation's id is the hash of its batch job, so what the journal says of it and what the record says cannot drift apart. The
allocator, of which there is one, is the only program that hands them over. So of a record without an id one of three things
holds: the batch system lists the job (its id is noted), or it does not answer (nothing is known, and nothing is done), or it
answers and has no such job. Then, when the command that handed it over has had time to end, the job's claim is taken in its
place: should it come up after all it ends at once, and nothing that nobody knows of ever runs.
"""

from __future__ import annotations

import posixpath
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from ...pilot.model.errors import JournalError, PilotfishError
from ...pilot.wire import connection
from ..contexts.base import Context
from ..contexts.registry import build_context
from ..description.machine import MachineDescription, parse_machine
from ..description.machine_file import machine_file
from ..description.pilot import Pilot
from ..description.resources import Resources
from ..job import ends, store
from ..job.single import JobRecord, Phase, new_hash
from ..job.spec import JobToPlace
from ..job.states import JobState, Reason, Status
from ..machines.base import MachineBusyError
from ..machines.registry import build_machine
from ..submission import bootstrap
from ..submission.command_jobs import file_name, machine_of
from ..submission.looking import look_at
from ..submission.single import Script, SingleJob, write_ends
from .journal import FOLDER
from .request import AllocationMachine, Order, command_for, resources_for
from .spec import AllocationSpec

MAKER = "alloc"
_HERE = "here:"
_FOLDER = "jobs"
_REMOTE_FOLDER = ".pilotfish-alloc"
_HANDED_OVER_S = 60.0
"""So long the command of an allocator that was killed may still be handing a job over."""
_LAST_LINES = 12
Tell = Callable[[str], None]


def machine_here() -> str:
    """What a spec says for the batch system of this host, which is asked what it is; later it may not answer."""
    return f"{_HERE}{machine_of(None).batch_type}"


def target_of(spec: AllocationSpec) -> AllocationMachine:
    """The machine of a spec, as its file says it now. Raises DescriptionError."""
    if spec.machine.startswith(_HERE):
        here = {"batch_type": spec.machine.removeprefix(_HERE), "context_type": "LazyLocal", "local_root": "."}
        return AllocationMachine(parse_machine(here), {}, Pilot())
    machine, asked, pilot = machine_file(spec.machine)
    return AllocationMachine(machine, asked, Pilot() if pilot is None else Pilot.load_from_dict(pilot))


def foreseen(aux: Path, spec: AllocationSpec, nodes: int, walltime_s: float) -> str:
    """The script that would be handed over; nothing is submitted, and nobody connected to."""
    jobs, target = BatchJobs(aux), target_of(spec)
    job = SingleJob(JobRecord("0" * 40, target.machine, "."))
    script = jobs.script(spec, target, job, nodes, walltime_s)
    files = build_machine(target.machine.batch_type).script(job.described(script))
    return "\n".join(files.values())


class BatchJobs:
    """Those of the pilot with this auxiliary folder. Connections are kept; `close` gives them back.

    `python`: with which agents are started where the machine is this one.
    """

    def __init__(
        self,
        aux: Path,
        clock: Callable[[], float] = time.time,
        tell: Tell = lambda text: None,
        python: str = sys.executable,
    ) -> None:
        self._aux = aux
        self._python = python
        self._clock = clock
        self._tell = tell
        self._contexts: dict[str, Context] = {}
        self._handles: dict[str, SingleJob] = {}
        self._ready: set[str] = set()
        """Machines on which Pilotfish has been found, by spec."""
        self._sent: dict[str, tuple[int, float]] = {}
        """Which manager's connection file lies on machines that do not see the pilot's folder, by spec."""

    def close(self) -> None:
        for context in self._contexts.values():
            context.close()
        self._contexts.clear()
        self._handles.clear()

    # --- asking ---------------------------------------------------------------------------------------------------------

    @staticmethod
    def new_id() -> str:
        return new_hash()

    def submit(self, spec: AllocationSpec, allocation: str, nodes: int, walltime_s: float) -> str:
        """Ask for it; the batch system's id.

        Raises MachineBusyError: it may have been taken, which `look` finds out; any other error: it has not been.
        """
        target = target_of(spec)
        record = JobRecord(allocation, target.machine, ".", f"{file_name(spec.name)}.{allocation[:8]}", MAKER)
        job = self._handle(spec, replace(record, created_s=self._clock()))
        job.enter(self._folder(job.context, target))
        script = self.script(spec, target, job, nodes, walltime_s)
        self._make_ready(spec, target, job.context)
        job.submit(script)
        return job.id

    def script(
        self, spec: AllocationSpec, target: AllocationMachine, job: SingleJob, nodes: int, walltime_s: float
    ) -> Script:
        """What is handed over. Raises DescriptionError for what this batch system cannot be asked for."""
        local = job.context.local
        order = Order(job.hash, nodes, walltime_s, self._connection(spec, job.context, target))
        here = replace(target, pilot=Pilot(python=self._python)) if local else target
        out = f"{job.record.name}.out"
        return Script(
            command_for(spec, here, order, local=local),
            job.record.name,
            resources=resources_for(spec, target, nodes, walltime_s),
            out=out,
            err=out,
        )

    def _folder(self, context: Context, target: AllocationMachine) -> str:
        if context.local:
            return str(self._aux / FOLDER / _FOLDER)
        return posixpath.join(target.machine.remote_root or "~", _REMOTE_FOLDER, self._aux.name.lstrip("."))

    def _connection(self, spec: AllocationSpec, context: Context, target: AllocationMachine) -> str:
        """What its agents read: the pilot's own file, which is true to the day, unless they need a copy."""
        if not _needs_copy(spec, context):
            return str(self._aux / connection.FILE_NAME)
        return posixpath.join(self._folder(context, target), f"{spec.name}.{connection.FILE_NAME}")

    def _make_ready(self, spec: AllocationSpec, target: AllocationMachine, context: Context) -> None:
        if not context.local and spec.name not in self._ready:
            environment = [*target.asked.get("prepend_script", ())]
            bootstrap.ensure(context, target.pilot, target.machine.remote_root or "~", environment, self._tell)
            self._ready.add(spec.name)
        if _needs_copy(spec, context):
            self.send_connection(spec, connection.read(self._aux / connection.FILE_NAME))

    def send_connection(self, spec: AllocationSpec, info: connection.ConnectionFile) -> None:
        """Let agents that do not see the pilot's folder, or are at the end of a tunnel, find its manager, also a new one."""
        target = target_of(spec)
        context = self._context(spec, target.machine)
        if not _needs_copy(spec, context) or self._sent.get(spec.name) == (info.pid, info.started_s):
            return
        copy = connection.by_way_of(info, spec.agents_connect) if spec.agents_connect else info
        context.write({self._connection(spec, context, target): connection.encode(copy)})
        self._sent[spec.name] = info.pid, info.started_s

    # --- looking --------------------------------------------------------------------------------------------------------

    def look(self, spec: AllocationSpec, allocations: Sequence[str]) -> dict[str, Status | None]:
        """Where these are now; None for one that was never handed over. `unknown`: the batch system gives no answer.

        Raises ContextLostError and its like when the machine cannot be reached.
        """
        found: dict[str, Status | None] = {}
        jobs: list[SingleJob] = []
        for allocation in allocations:
            job = self._known(spec, allocation)
            if job is None:
                found[allocation] = None
            elif job.record.phase is Phase.INTENDED and not job.id:
                found[allocation] = self._settle(job)
            else:
                jobs.append(job)
        return {**found, **{job.hash: status for job, status in zip(jobs, look_at(jobs), strict=True)}}

    def _settle(self, job: SingleJob) -> Status:
        """Of a job that nobody has an id for."""
        try:
            wanted = JobToPlace(job.hash, "", (), (), Resources(), job.folder)
            listed = build_machine(job.record.machine.batch_type).find(job.context, [wanted])
        except MachineBusyError as error:
            return Status(JobState.unknown, error.what)
        if job.find() or listed:
            return Status(JobState.waiting)
        claim = posixpath.join(job.folder, f".{job.hash}.0.claim")
        if self._clock() - (job.record.submitted_s or 0.0) < _HANDED_OVER_S or not ends.claim(job.context, claim):
            return Status(JobState.unsubmitted)
        end = write_ends(job.context, {job: Status(JobState.terminated, reason=Reason.LAUNCH)})[job]
        job.step(lambda record: record.ended(end))
        return end

    def job_id(self, spec: AllocationSpec, allocation: str) -> str:
        job = self._known(spec, allocation)
        return "" if job is None else job.id

    def last_lines(self, spec: AllocationSpec, allocation: str) -> str:
        """What it said last; empty when that cannot be had."""
        job = self._known(spec, allocation)
        if job is None:
            return ""
        with suppress(PilotfishError):
            return (job.last_lines(job.record.out, _LAST_LINES) or job.last_words(_LAST_LINES)).strip()
        return ""

    # --- ending ---------------------------------------------------------------------------------------------------------

    def cancel(self, spec: AllocationSpec, allocation: str) -> None:
        """Raises MachineBusyError: it is to be tried again."""
        job = self._known(spec, allocation)
        if job is not None:
            job.cancel()

    def forget(self, spec: AllocationSpec, allocation: str) -> None:
        """Remove what is kept of one that is over, here and on its machine; what it has printed stays."""
        job = self._known(spec, allocation)
        self._handles.pop(allocation, None)
        if job is not None:
            with suppress(PilotfishError):
                job.forget(force=True)

    # --- handles --------------------------------------------------------------------------------------------------------

    def _known(self, spec: AllocationSpec, allocation: str) -> SingleJob | None:
        if allocation in self._handles and self._handles[allocation].submitted:
            return self._handles[allocation]
        try:
            record = store.load(allocation)
        except JournalError:
            return None
        with suppress(PilotfishError):  # the file of the machine has gone: what the record says of it will do
            record = replace(record, machine=target_of(spec).machine)
        return self._handle(spec, record)

    def _handle(self, spec: AllocationSpec, record: JobRecord) -> SingleJob:
        job = self._handles[record.hash] = SingleJob(record, self._clock)
        job.share(self._context(spec, record.machine))
        return job

    def _context(self, spec: AllocationSpec, machine: MachineDescription) -> Context:
        if spec.name not in self._contexts:
            # One machine that cannot be reached must not keep the others waiting: the next look tries again.
            at_once = {"reconnect_for": 0} if machine.context_type == "SSHContext" else {}
            self._contexts[spec.name] = build_context(replace(machine, profile={**machine.profile, **at_once}))
        return self._contexts[spec.name]


def _needs_copy(spec: AllocationSpec, context: Context) -> bool:
    return bool(spec.agents_connect) or not context.local
