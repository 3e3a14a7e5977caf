"""`Job`: a shell command or a Python function as a batch job, after fyrd, whose names it has."""

from __future__ import annotations

import os
import posixpath
import secrets
import shlex
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Any, NoReturn

from ....pilot.model.errors import PilotfishError
from ...description import parse as description
from ...job.states import Reason, Status
from ...submission.machine import Machine
from ...submission.needs import Needed
from ...submission.single import OneJob, Script, look_at, make_folder
from . import data, functions
from .data import ForeignResultError, UntrustedResultError
from .local import JobQueue, LocalJob, default_queue
from .options import ClusterError, OptionsError, check_arguments, qtypes, to_resources
from .profiles import get_profile
from .words import BAD, GOOD, described, file_name, kind_of_queue, short_name, state_word

_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.2, 15.0


class Job:
    """A command or a function to be run on a cluster, or in the queue of this machine.

    Args:
        command: shell text, or a function.
        args: of the function, in a list or tuple; anything else is one argument. Those of a command are quoted and put
            behind it.
        kwargs: of the function.
        name: what the batch system shows; default: of the command or function, with 12 hex digits. The names of its files
            always have these digits, so jobs of one name share nothing.
        qtype: a batch system in small letters (`qtypes()`), or local; default: what there is.
        profile: name of a set of options; default: DEFAULT.
        queue: with `local`: a JobQueue; default: that of this process.
        machine: instead of `qtype`: a Machine, or the name of a machine file (also over SSH).
        keywords: options (`option_help()`); they win over the profile.

    Attributes:
        state: Not_Submitted, submitted, pending, running, completing, completed, failed, cancelled or vanished.
        exitcode: None while it runs, or when it is not known.
        reason: why it ended badly.
    """

    def __init__(
        self,
        command: str | Callable[..., Any],
        args: Any = None,
        kwargs: Mapping[str, Any] | None = None,
        name: str | None = None,
        qtype: str | None = None,
        profile: str | None = None,
        queue: JobQueue | None = None,
        machine: Machine | str | Mapping[str, Any] | None = None,
        **keywords: Any,
    ) -> None:
        if not callable(command) and not isinstance(command, str):
            remedy = "give a command as one text and its arguments as `args`"
            raise OptionsError(f"{command!r} is neither text nor a function", where="command", remedy=remedy)
        self.command = command
        self.args, self.keywords = _arguments(args), dict(kwargs or {})
        self.function = command if callable(command) else None
        self.kind = "script" if self.function is None else "function"
        self.options = {**get_profile(profile).args, **check_arguments(keywords)}
        self.machine = None if machine is None else described(machine)
        self.qtype = kind_of_queue(qtype, self.machine)
        self._given_name = None if name is None else str(name)
        self.queue = queue
        self._begin_anew()

    def _begin_anew(self) -> None:
        """A job that was never written or submitted, with files and a key of its own."""
        self.uuid = secrets.token_hex(6)
        self.name = self._given_name or f"{short_name(self.command)}.{self.uuid}"
        self.state, self.reason = "Not_Submitted", ""
        self.exitcode: int | None = None
        self.start: datetime | None = None
        self.end: datetime | None = None
        self.submit_time: datetime | None = None
        self.written = self.submitted = False
        self._key = secrets.token_bytes(32)
        self._place: OneJob | LocalJob | None = None
        self._out: tuple[str, str] | None = None
        self._result: bytes | None = None
        self._got = False

    def __repr__(self) -> str:
        return f"<Job {self.name} {self.id or '-'} {self.qtype} {self.state}>"

    @property
    def id(self) -> str | None:
        return (self._place.id or None) if self._place is not None else None

    @property
    def dependencies(self) -> list[Job | str]:
        return list(self.options.get("depends", []))

    @property
    def done(self) -> bool:
        return self.state in (*GOOD, *BAD)

    @property
    def running(self) -> bool:
        return self.state == "running"

    @property
    def runtime(self) -> timedelta | None:
        return None if self.start is None or self.end is None else self.end - self.start

    # --- files ------------------------------------------------------------------------------------------------------------

    def _at(self, option: str, name: str) -> str:
        """Path on the machine of a file of ours; relative folders are below the one in which the job runs."""
        place = self._placed()
        folder = self.options.get(option) or ""
        folder = os.path.expanduser(folder) if place.context.local else folder
        return posixpath.join(place.folder, folder, name)

    @property
    def _stem(self) -> str:
        """Its name with the digits that no other job has, fit for a file."""
        name = self.name.removesuffix(f".{self.uuid}")
        return f"{file_name(name)}.{self.uuid}"

    def _name(self, end: str) -> str:
        return f"{self._stem}.{self.options.get('suffix', 'cluster')}{end}"

    @property
    def outfile(self) -> str:
        return self._at("outpath", self.options.get("outfile") or self._name(".out"))

    @property
    def errfile(self) -> str:
        return self._at("outpath", self.options.get("errfile") or self._name(".err"))

    @property
    def poutfile(self) -> str:
        """What a function returned."""
        return self._at("outpath", self._name(".out.func.pickle"))

    @property
    def files(self) -> list[str]:
        """Its scripts."""
        names = ["_func.py", "_func.pickle.in"] if self.function is not None else [".script"]
        return [self._at("scriptpath", self._name(name)) for name in names]

    def write(self, overwrite: bool = True) -> Job:
        """Write its scripts. Raises FunctionError, OptionsError."""
        place = self._placed()
        texts = self._texts()
        known = {} if overwrite else place.context.read(list(texts))
        place.context.write({path: text for path, text in texts.items() if path not in known})
        self.written = True
        return self

    def _texts(self) -> dict[str, bytes]:
        if self.function is None:
            line = " ".join([str(self.command), *(shlex.quote(str(each)) for each in self.args)])
            return {self.files[0]: f"{line}\n".encode()}
        text, given = functions.prepared(
            self.function,
            self.args,
            self.keywords,
            self.files[1],
            self.poutfile,
            self._key,
            self.options.get("imports", ()),
            self.options.get("syspaths", ()),
        )
        return {self.files[0]: text.encode(), self.files[1]: given}

    def _placed(self) -> OneJob | LocalJob:
        if self._place is None:
            self._place = self._local_place() if self._is_local else self._batch_place()
        return self._place

    def _local_place(self) -> LocalJob:
        folder = os.path.abspath(os.path.expanduser(self.options.get("runpath", ".")))
        os.makedirs(folder, exist_ok=True)
        return LocalJob(default_queue() if self.queue is None else self.queue, self._stem, folder)

    def _batch_place(self) -> OneJob:
        machine = self.machine or description.parse_machine(
            {"batch_type": qtypes()[self.qtype], "context_type": "LazyLocal", "local_root": "."}
        )
        job = OneJob(machine, ".", secrets.token_hex(20))
        folder = self.options.get("runpath", ".")
        if not job.context.local:
            folder = posixpath.join(machine.remote_root or "~", folder)
        job.folder = make_folder(job.context, os.path.expanduser(folder) if job.context.local else folder)
        return job

    # --- running ----------------------------------------------------------------------------------------------------------

    def submit(
        self,
        wait_on_max_queue: bool = True,
        additional_keywords: Mapping[str, Any] | None = None,
        max_jobs: int | None = None,
    ) -> Job:
        """Write it and hand it over; nothing happens when that was done before.

        Args:
            wait_on_max_queue: with `max_jobs`: wait until fewer jobs of mine are in the queue.
            additional_keywords: more options.

        Raises:
            ClusterError: a job that it depends on has failed.
            SubmitRefusedError, QueueFullError, MachineBusyError: by the batch system.
        """
        if self.submitted:
            return self
        self.options.update(check_arguments(additional_keywords or {}))
        if max_jobs is not None and wait_on_max_queue and self.qtype != "local":
            from .queue import Queue

            Queue(user="self", qtype=self.qtype).wait_to_submit(max_jobs)
        waits_for = self._unfinished()
        place = self._placed()
        if not self.written:
            self.write()
        if isinstance(place, LocalJob):
            ids = [each if isinstance(each, str) else str(each.id) for each in waits_for]
            place.submit(self._script("local", ()), ids)
            place.queue.jobs[place.id] = self
        else:
            place.submit(self._script(self.qtype, self._needed(place, waits_for)))
        self.state, self.submitted, self.submit_time = "submitted", True, datetime.now()
        if isinstance(place, OneJob):
            with suppress(
                OSError, PilotfishError
            ):  # the batch system has it; others can still depend on it as on any job
                place.note_id()
        return self

    def _unfinished(self) -> list[Job | str]:
        """The jobs that it depends on and that have not ended well yet. Raises ClusterError for one that never will."""
        found: list[Job | str] = []
        for each in self.dependencies:
            known = self._in_local_queue(each) if self._is_local else each
            if not isinstance(known, Job):
                found.append(str(known))
                continue
            if known.submitted:
                known.update()
            if known.state in BAD or known.id is None:
                self._refuse_to_wait_for(known.name, known.state)
            if not known.done:
                found.append(known)
        return found

    @property
    def _is_local(self) -> bool:
        return self.machine is None and self.qtype == "local"

    def _in_local_queue(self, each: Job | str) -> Job:
        queue = default_queue() if self.queue is None else self.queue
        if not isinstance(each, Job):
            if str(each) not in queue.jobs:
                self._refuse_to_wait_for(f"job {each}", "unknown")
            return queue.jobs[str(each)]
        if each.submitted and not each.update().done and queue.jobs.get(str(each.id)) is not each:
            self._refuse_other_queue(each)
        return each

    def _refuse_other_queue(self, other: Job) -> NoReturn:
        what = f"depends on {other.name}, which is in another queue"
        raise ClusterError(what, where=self.name, remedy="wait() for that one, then submit")

    def _refuse_to_wait_for(self, name: str, state: str) -> NoReturn:
        what = f"depends on {name}, which is {state}"
        raise ClusterError(what, where=self.name, remedy="submit that first, or leave it out of `depends`")

    def _needed(self, place: OneJob, waits_for: Sequence[Job | str]) -> tuple[Needed, ...]:
        """What must have ended well before it starts. Raises ClusterError for what has not, or is elsewhere."""
        found = []
        for each in waits_for:
            if not isinstance(each, Job):
                continue
            if not isinstance(each._place, OneJob) or not each._place.is_beside(place):
                self._refuse_other_queue(each)
            found.append(each._place.needed)
        by_id = place.known([each for each in waits_for if not isinstance(each, Job)])
        known = place.outcomes(by_id)
        for need in by_id:
            if not known.get(need, True):
                self._refuse_to_wait_for(f"job {need.id}", "failed")
            if need not in known:
                found.append(need)
        return tuple(found)

    def _script(self, qtype: str, after: tuple[Needed, ...]) -> Script:
        path = shlex.quote(self.files[0])
        python = self.options.get("python") or (sys.executable if self._placed().context.local else "python3")
        command = f"bash {path}" if self.function is None else f"{shlex.quote(python)} {path}"
        resources = to_resources(self.options, qtype, tuple(each.id for each in after))
        return Script(command, self.name, resources=resources, out=self.outfile, err=self.errfile, after=after)

    def resubmit(self, wait_on_max_queue: bool = True, cancel_running: bool = False) -> Job:
        """Run it once more, when it is over (or, with `cancel_running`, cancelled)."""
        if cancel_running and not self.done:
            self.kill(confirm=False)
        if not self.done:
            raise ClusterError("is not over", where=self.name, remedy="cancel_running=True ends it first")
        self._begin_anew()
        return self.submit(wait_on_max_queue)

    def update(self) -> Job:
        """Look where it is."""
        if self.submitted and not self.done:
            assert self._place is not None
            self._take(self._place.look())
        return self

    update_queue_info = update

    def _take(self, found: Status) -> None:
        self.state = state_word(found)
        if self.done:
            assert self._place is not None
            self.exitcode, self.reason = found.exit_code, found.reason or found.native if self.state in BAD else ""
            self.start = None if found.start_s is None else datetime.fromtimestamp(found.start_s)
            self.end = None if found.end_s is None else datetime.fromtimestamp(found.end_s)

    def wait(self, sleep: Callable[[float], None] = time.sleep) -> bool:
        """Until it is over; whether it ended well."""
        return wait_for([self], sleep)

    def kill(self, confirm: bool = True) -> bool:
        """End it with all that runs in it; with `confirm`, and on a terminal, only after asking. Whether it was ended."""
        if not self.submitted or self.update().done:
            return False
        if confirm and sys.stdin.isatty() and input(f"End job {self.name}? [y/N] ").strip().lower() not in ("y", "yes"):
            return False
        assert self._place is not None
        self._take(self._place.cancel())
        return self.state == "cancelled"

    # --- what it made -----------------------------------------------------------------------------------------------------

    def get(
        self,
        save: bool = True,
        cleanup: bool | None = None,
        delete_outfiles: bool | None = None,
        del_no_save: bool | None = None,
        raise_on_error: bool = True,
    ) -> Any:
        """Wait, then what it printed (a command), or returned (a function; what that raised is raised again).

        Args:
            save: keep it, so that `get` may be called again after its files are gone.
            cleanup: remove its scripts; default: option clean_files.
            delete_outfiles: remove its output files; default: option clean_outputs.
            del_no_save: remove output files even when it is not saved.
            raise_on_error: without, an exception is returned.

        Raises ClusterError when it did not come to its end.
        """
        if self._got:
            return self._given(raise_on_error)
        if not self.submitted:
            self.submit()
        self.wait()
        self.fetch_outputs()
        try:
            return self._given(raise_on_error)
        except UntrustedResultError:
            cleanup = False  # it can be asked for again
            raise
        finally:
            removes = delete_outfiles if delete_outfiles is not None else self.options.get("clean_outputs", False)
            if cleanup if cleanup is not None else self.options.get("clean_files", True):
                self.clean(delete_outputs=bool(removes and (save or del_no_save)))
            self._got = save

    def fetch_outputs(self) -> None:
        """Read what it has printed, and returned. Raises ClusterError before it is submitted."""
        if self._place is None or not self.submitted:
            raise ClusterError("is not submitted", where=self.name, remedy="call submit() first")
        self._out = (self._text(self.outfile), self._text(self.errfile))
        self._result = self._place.read(self.poutfile) if self.function is not None else None

    def _text(self, path: str) -> str:
        assert self._place is not None
        return (self._place.read(path) or b"").decode(errors="replace")

    def _given(self, raise_on_error: bool) -> Any:
        printed = self.function is None and self.reason in ("", Reason.PROGRAM)
        if not printed and self._result is None:
            code = f", exit code {self.exitcode}" if self.exitcode else ""
            what = f"{self.state}: {self.reason or 'no result'}{code}"
            raise ClusterError(what, where=self.name, remedy=self.stderr.strip()[-500:])
        if self._result is None:
            return self.stdout
        try:
            return data.result(self._result, self._key, self._trusts_pickle, self.poutfile)
        except (UntrustedResultError, ForeignResultError):
            raise
        except Exception as error:
            if raise_on_error:
                raise
            return error

    @property
    def _trusts_pickle(self) -> bool:
        assert self._place is not None
        wanted = self.options.get("trust_pickle")
        return self._place.context.local if wanted is None else bool(wanted)

    @property
    def stdout(self) -> str:
        """What it has printed so far."""
        return self._out[0] if self._out is not None else self._text(self.outfile) if self._place is not None else ""

    @property
    def stderr(self) -> str:
        return self._out[1] if self._out is not None else self._text(self.errfile) if self._place is not None else ""

    @property
    def out(self) -> Any:
        """As `get`."""
        return self.get()

    def clean(self, delete_outputs: bool | None = None, get_outputs: bool = True) -> Job:
        """Remove its scripts, and with `delete_outputs` (default: option clean_outputs) what it has printed and returned."""
        if self._place is None:
            return self  # nothing is written yet
        if get_outputs and self._out is None and self.submitted:
            self.fetch_outputs()
        wanted = self.options.get("clean_outputs", False) if delete_outputs is None else delete_outputs
        paths = [*self.files, *([self.outfile, self.errfile] if wanted else [])]
        paths += [self.poutfile] if self.function is not None and (wanted or self._result is not None) else []
        self._place.context.run("rm -f -- " + " ".join(shlex.quote(path) for path in paths))
        return self

    def scrub(self) -> Job:
        """Remove all of its files, and what is kept of its end."""
        self.clean(delete_outputs=True)
        if self.done and isinstance(self._place, OneJob):
            self._place.forget()
        return self


def _arguments(given: Any) -> list[Any]:
    """Lists, tuples and what can only be gone through once are arguments; any other value is one."""
    if given is None:
        return []
    return list(given) if isinstance(given, list | tuple | Iterator) else [given]


def wait_for(jobs: Sequence[Job], sleep: Callable[[float], None] = time.sleep) -> bool:
    """Until all of these are over; whether all ended well. One question to a batch system for all of its jobs."""
    for job in jobs:
        if not job.submitted:
            raise ClusterError("is not submitted", where=job.name, remedy="call submit() first")
    pause = _FIRST_PAUSE_S
    while True:
        _update_all(jobs)
        if all(job.done for job in jobs):
            return all(job.state in GOOD for job in jobs)
        sleep(pause)
        pause = min(pause * 1.5, _LONGEST_PAUSE_S)


def _update_all(jobs: Sequence[Job]) -> None:
    placed = [(job, job._place) for job in jobs if not job.done]
    batch = [(job, place) for job, place in placed if isinstance(place, OneJob)]
    for (job, _), status in zip(batch, look_at([place for _, place in batch]), strict=True):
        job._take(status)
    for job, place in placed:
        if isinstance(place, LocalJob):
            job.update()
