"""`Job`: a shell command or a Python function as a batch job, after fyrd, whose names it has."""

from __future__ import annotations

import os
import posixpath
import secrets
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from ...contexts.shell import places, sh, word
from ...description.machine import parse_machine
from ...job.single import JobRecord, new_hash
from ...job.spec import Needed
from ...job.states import Reason
from ...submission.command_jobs import short_name
from ...submission.job_options import ClusterError, OptionsError, check_arguments, to_resources
from ...submission.looking import living_beside, look_at
from ...submission.machine import MachineLike, described_machine
from ...submission.queues import GOOD, kind_of_queue, qtypes
from ...submission.single import Script, SingleJob
from . import batch_systems, conf, data, dependencies
from .data import ForeignResultError, UntrustedResultError
from .functions import refuse_inside_a_call
from .job_files import JobFiles, Output, no_result, unique_stem
from .job_view import JobView
from .local_pilot import HasPilot, LocalJob, LocalPilot, default_pilot

_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.2, 15.0
_SETTINGS = ("clean_files", "clean_outputs", "scriptpath", "outpath", "suffix")
"""Settings that are options of every job, unless it or its profile says otherwise."""


class Job(JobView):
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
        queue: HasPilot | None = None,
        machine: MachineLike | None = None,
        **keywords: Any,
    ) -> None:
        if not callable(command) and not isinstance(command, str):
            remedy = "give a command as one text and its arguments as `args`"
            raise OptionsError(f"{command!r} is neither text nor a function", where="command", remedy=remedy)
        self.command = command
        self.args, self.keywords = _arguments(args), dict(kwargs or {})
        self.options = {**_settings(), **conf.get_profile(profile).args, **check_arguments(keywords)}
        self.machine = None if machine is None else described_machine(machine)
        self.qtype = kind_of_queue(
            qtype or (None if machine else batch_systems.get_cluster_environment()), self.machine
        )
        self._given_name = None if name is None else str(name)
        self.queue = queue
        self._begin_anew()

    def _begin_anew(self, earlier: JobRecord | None = None) -> None:
        """A job that was never written or submitted, with files and a key of its own."""
        self.uuid = secrets.token_hex(6)
        self.name = self._given_name or f"{short_name(self.command)}.{self.uuid}"
        self.written = False
        self.function = self.command if callable(self.command) else None
        self.kind = "script" if self.function is None else "function"
        self._key = secrets.token_bytes(32)
        self._earlier = earlier
        self._place: SingleJob | LocalJob | None = None
        self._output: Output | None = None
        self._got = False

    def __repr__(self) -> str:
        return f"<Job {self.name} {self.id or '-'} {self.qtype} {self.state}>"

    @property
    def dependencies(self) -> list[Job | str]:
        return list(self.options.get("depends", []))

    # --- files ------------------------------------------------------------------------------------------------------------

    @property
    def _files(self) -> JobFiles:
        place = self._placed()
        stem, local = unique_stem(self.name, self.uuid), place.context.local
        return JobFiles(self.options, stem, place.folder, local, self._key, self.command, self.args, self.keywords)

    def write(self, overwrite: bool = True) -> Job:
        """Write its scripts. Raises FunctionError, OptionsError."""
        place, texts = self._placed(), self._files.texts()
        known = {} if overwrite else place.context.read(list(texts))
        place.context.write({path: text for path, text in texts.items() if path not in known})
        self.written = True
        return self

    def gen_scripts(self) -> Job:
        """Nothing is left to be done before `write`."""
        return self

    initialize = gen_scripts

    def _placed(self) -> SingleJob | LocalJob:
        if self._place is None:
            self._place = self._local_place() if self._is_local else self._batch_place()
        return self._place

    @property
    def _pilot(self) -> LocalPilot[Job]:
        return default_pilot() if self.queue is None else self.queue.pilot

    def _local_place(self) -> LocalJob:
        folder = os.path.abspath(os.path.expanduser(self.options.get("runpath", ".")))
        os.makedirs(folder, exist_ok=True)
        return LocalJob(self._pilot, unique_stem(self.name, self.uuid), folder)

    def _batch_place(self) -> SingleJob:
        machine = self.machine or parse_machine(
            {"batch_type": qtypes()[self.qtype], "context_type": "LazyLocal", "local_root": "."}
        )
        record = JobRecord(new_hash(), machine, ".", self.name, "fyrd") if self._earlier is None else self._earlier
        job = SingleJob(replace(record, name=self.name))
        folder = self.options.get("runpath", ".")
        if not job.context.local:
            folder = posixpath.join(machine.remote_root or "~", folder)
        job.enter(folder)
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
            wait_on_max_queue: wait until fewer than `max_jobs` (default: of the settings) jobs of mine are in the queue.
            additional_keywords: more options.

        Raises:
            ClusterError: a job that it depends on has failed.
            SubmitRefusedError, QueueFullError, MachineBusyError: by the batch system.
        """
        if self.submitted:
            return self
        refuse_inside_a_call(self.name)
        self.options.update(check_arguments(additional_keywords or {}))
        own = self._pilot.jobs if self._is_local else None
        waits_for, place = dependencies.unfinished(self.dependencies, own, self.name), self._placed()
        if isinstance(place, SingleJob) and wait_on_max_queue:
            while living_beside(place, at_least=_most(max_jobs)) >= _most(max_jobs):
                time.sleep(float(conf.get_option("queue", "sleep_len")))
        if not self.written:
            self.write()
        if isinstance(place, LocalJob):
            ids = [each if isinstance(each, str) else str(each.id) for each in waits_for]
            place.submit(self._script("local", ()), ids, time.time())
            place.pilot.jobs[place.id] = self
        else:
            place.submit(self._script(self.qtype, dependencies.needed(place, waits_for, self.name)))
        return self

    @property
    def _is_local(self) -> bool:
        return self.machine is None and self.qtype == "local"

    def _script(self, qtype: str, after: tuple[Needed, ...]) -> Script:
        here = self._placed().context.local and not conf.get_option("jobs", "generic_python")
        python = self.options.get("python") or (sys.executable if here else "python3")
        program = word("bash" if self.function is None else python)
        command = sh("{program} {file}", program=program, file=word(self.files[0]))
        resources = to_resources(self.options, qtype, tuple(each.id for each in after))
        return Script(command, self.name, resources=resources, out=self.outfile, err=self.errfile, after=after)

    def resubmit(self, wait_on_max_queue: bool = True, cancel_running: bool = False) -> Job:
        """Run it once more, when it is over (or, with `cancel_running`, cancelled)."""
        if cancel_running and not self.done:
            self.kill(confirm=False)
        if not self.done:
            raise ClusterError("is not over", where=self.name, remedy="cancel_running=True ends it first")
        self._begin_anew(self._place.record.again() if isinstance(self._place, SingleJob) else None)
        return self.submit(wait_on_max_queue)

    def update(self) -> Job:
        """Look where it is."""
        if self.submitted and not self.done:
            _look_at([self])
        return self

    update_queue_info = update

    def wait(self, sleep: Callable[[float], None] = time.sleep) -> bool:
        """Until it is over; whether it ended well. One that is not submitted is, unless the settings say otherwise."""
        return wait_for([self], sleep)

    def kill(self, confirm: bool = True) -> bool:
        """End it with all that runs in it; with `confirm`, and on a terminal, only after asking. Whether it was ended."""
        if not self.submitted or self.update().done:
            return False
        if confirm and not _confirmed(f"End job {self.name}?"):
            return False
        assert self._place is not None
        self._place.cancel()
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
            return self._value(raise_on_error)
        self.wait()
        self.fetch_outputs()
        try:
            return self._value(raise_on_error)
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
        self._output = Output.fetched(self._place, self._files)
        if self.done and isinstance(self._place, SingleJob):
            self._place.step(lambda record: replace(record, fetched=True))

    def _value(self, raise_on_error: bool) -> Any:
        assert self._output is not None
        assert self._place is not None
        if self.function is None and self.reason in ("", Reason.PROGRAM):
            return self._output.out
        if self._output.result is None:
            raise no_result(self.name, self.state, self._status, self._output.err, self.function is not None)
        wanted = self.options.get("trust_pickle")
        trusted = self._place.context.local if wanted is None else bool(wanted)
        try:
            return data.result(self._output.result, self._key, trusted, self.poutfile)
        except (UntrustedResultError, ForeignResultError):
            raise
        except Exception as error:
            if raise_on_error:
                raise
            return error

    @property
    def stdout(self) -> str:
        """What it has printed so far."""
        return self._printed.out

    @property
    def stderr(self) -> str:
        return self._printed.err

    @property
    def _printed(self) -> Output:
        if self._output is not None:
            return self._output
        return Output() if self._place is None else Output.fetched(self._place, self._files, printed_only=True)

    @property
    def out(self) -> Any:
        """As `get`."""
        return self.get()

    @property
    def err(self) -> str:
        return self.stderr

    def get_output(self) -> Any:
        """As `get`; its files stay."""
        return self.get(cleanup=False)

    def get_stdout(self) -> str:
        return self.stdout

    def get_stderr(self) -> str:
        return self.stderr

    def clean(self, delete_outputs: bool | None = None, get_outputs: bool = True) -> Job:
        """Remove its scripts, and with `delete_outputs` (default: option clean_outputs) what it has printed and returned."""
        if self._place is None:
            return self  # nothing is written yet
        if get_outputs and self._output is None and self.submitted:
            self.fetch_outputs()
        wanted = self.options.get("clean_outputs", False) if delete_outputs is None else delete_outputs
        paths = [*self.files, *([self.outfile, self.errfile] if wanted else [])]
        has_result = self._output is not None and self._output.result is not None
        paths += [self.poutfile] if self.function is not None and (wanted or has_result) else []
        self._place.context.run(sh("rm -f -- {files}", files=places(map(self._place.context.absolute, paths))))
        if self.done and isinstance(self._place, SingleJob):
            self._place.tidy(with_output=bool(wanted))
        return self

    def scrub(self, confirm: bool = True) -> Job:
        """Remove all of its files, and what is kept of its end; with `confirm`, and on a terminal, only after asking."""
        if confirm and not _confirmed(f"Remove the files of job {self.name}?"):
            return self
        self.clean(delete_outputs=True)
        if self.done and isinstance(self._place, SingleJob):
            self._place.forget()
        return self


def _most(max_jobs: int | None) -> int:
    return int(conf.get_option("queue", "max_jobs") if max_jobs is None else max_jobs)


def _settings() -> dict[str, Any]:
    found = conf.get_option("jobs")
    return check_arguments({name: found[name] for name in _SETTINGS if found[name] != conf.DEFAULTS["jobs"][name]})


def _confirmed(question: str) -> bool:
    return not sys.stdin.isatty() or input(f"{question} [y/N] ").strip().lower() in ("y", "yes")


def _arguments(given: Any) -> list[Any]:
    """Lists, tuples and what can only be gone through once are arguments; any other value is one."""
    if given is None:
        return []
    return list(given) if isinstance(given, list | tuple | Iterator) else [given]


def wait_for(jobs: Sequence[Job], sleep: Callable[[float], None] = time.sleep) -> bool:
    """Until all of these are over; whether all ended well. One question to a batch system for all of its jobs."""
    for job in jobs:
        if not job.submitted and conf.get_option("jobs", "auto_submit"):
            job.submit()
        if not job.submitted:
            raise ClusterError("is not submitted", where=job.name, remedy="call submit() first")
    pause = _FIRST_PAUSE_S
    while True:
        _look_at(jobs)
        if all(job.done for job in jobs):
            return all(job.state in GOOD for job in jobs)
        sleep(pause)
        pause = min(pause * 1.5, _LONGEST_PAUSE_S)


def _look_at(jobs: Sequence[Job]) -> None:
    placed = [job._place for job in jobs if not job.done]
    look_at([place for place in placed if isinstance(place, SingleJob)])
    for place in placed:
        if isinstance(place, LocalJob):
            place.look()
