"""`JobScript`: a script with placeholders and resources, submitted to any machine; after clusterjob, whose names it has.

A script stands in its folder on the machine (`rootdir/workdir/filename`) and runs there; nothing else is copied.
"""

from __future__ import annotations

import copy
import glob
import logging
import os
import posixpath
import re
import subprocess
import time
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar, Literal, overload

from ....pilot.locks import held
from ...contexts.shell import lines, relative, sh
from ...description.digests import digest
from ...description.machine import MachineDescription, machine_to_dict, parse_machine
from ...description.resources import Resources
from ...description.schema import DescriptionError
from ...job import store
from ...job.single import JobRecord, Phase, new_hash
from ...machines import registry
from ...machines.base import SubmitRefusedError
from ...submission.machine import MachineLike, described_machine
from ...submission.single import Script, SingleJob
from . import checks
from .async_result import AsyncResult, EndedResult, run_here
from .headers import DEFAULT, SHELL, Backend, ResourcesNotSupportedError, headers, time_to_seconds
from .own_backend import OwnBackend, all_backends, register
from .placeholders import filled_in
from .settings import read_ini
from .status import CANCELLED
from .surroundings import array_elements, by_hand_variables, needed, own_output, variables, with_own

_SHELLS = re.compile(r"\b(?:sh|bash|dash|ash|ksh|mksh|zsh)\b")
_ORDER = frozenset({"dependency", "depend", "hold_jid"})
_ONLY_CLASS = frozenset({"cache_folder", "cache_prefix"})
log = logging.getLogger("clusterjob")


class _Names:
    """Of the class and of a script: the names of all backends."""

    def __get__(self, script: object, kind: type) -> list[str]:
        return sorted(all_backends())


class JobScript(metaclass=checks.CheckedClass):
    """A script for a batch system.

    Attributes may be set on the class (for all scripts) or on one script, also new ones, for use as `{placeholders}`.

    Attributes:
        backend: the batch system, in small letters, of `backends`; pbs is Torque, pbspro PBS Pro, shell none.
        remote: a host for SSH, as `ssh` takes it; None is this machine.
        machine: instead of both: a Machine, or the name of a machine file.
        ssh, scp: taken, and without effect: connections are ours (keys, agent, `~/.ssh/config`).
        shell: what runs a body without `#!`.
        rootdir, workdir: folders on the machine; the script runs in `rootdir/workdir`.
        filename: of the script; None: its job's name with the backend's suffix.
        prologue, epilogue: scripts that run here, before it is submitted and when it is first seen to be over.
        max_sleep_interval: longest pause between two looks while waiting, in seconds.
        cache_folder, cache_prefix: of the class: where results are kept, so that a script run again goes on with them.
        resources: of the class: defaults. Common are queue, time, nodes, ppn (processes on a node), threads (of each process),
            mem (MB on a node), stdout, stderr; others go to the batch system as they are.
    """

    cache_folder: ClassVar[str | None] = None
    cache_prefix: ClassVar[str] = "clusterjob"
    resources: dict[str, Any] = {}
    backend: str = DEFAULT
    machine: MachineLike | None = None
    shell: str = "/bin/bash"
    remote: str | None = None
    ssh: str = "ssh"
    scp: str = "scp"
    rootdir: str = "."
    workdir: str = "."
    filename: str | None = None
    prologue: str = ""
    epilogue: str = ""
    max_sleep_interval: float = 900
    backends: ClassVar[_Names] = _Names()
    _pristine: ClassVar[dict[str, Any]] = {}

    @classmethod
    def register_backend(cls, backend: object, name: str | None = None) -> None:
        """Make a backend of one's own known, under its name or another one, which may be that of ours.

        It is used in this program. Raises TypeError for what is no ClusterjobBackend.
        """
        register(backend, name)

    @classmethod
    def clear_cache_folder(cls) -> None:
        """Forget which scripts were submitted: remove the files with our prefix from the cache folder."""
        if cls.cache_folder is not None:
            for path in Path(cls.cache_folder).expanduser().glob(f"{glob.escape(cls.cache_prefix)}.*.cache*"):
                path.unlink(missing_ok=True)

    def __init__(self, body: str, jobname: str, aux_scripts: Mapping[str, str] | None = None, **given: Any) -> None:
        self.body = body
        self.aux_scripts = dict(aux_scripts or {})
        self.resources = {**type(self).resources, "jobname": jobname}
        for key in sorted(given):
            if hasattr(type(self), key):
                setattr(self, key, given[key])
            else:
                self.resources[key] = checks.resource(key, given[key])

    def __setattr__(self, name: str, value: Any) -> None:
        if name in _ONLY_CLASS:
            raise AttributeError(f"{name!r} can only be set as a class attribute")
        object.__setattr__(self, name, checks.attribute(name, value))

    # --- files of settings ------------------------------------------------------------------------------------------------

    @classmethod
    def read_defaults(cls, filename: str | os.PathLike[str] | None = None) -> None:
        """Take defaults for all scripts from an INI file with [Attributes] and [Resources].

        Without one the class is as it was made, whatever has been set on it since.
        """
        if filename is None:
            for name in checks.public(cls).keys() - cls._pristine.keys():
                delattr(cls, name)
            for name, value in cls._pristine.items():
                setattr(cls, name, value)
            return
        attributes, resources = read_ini(filename)
        for name, value in {**attributes, "resources": {**cls.resources, **resources}}.items():
            setattr(cls, name, value)

    def read_settings(self, filename: str | os.PathLike[str]) -> None:
        """Take attributes and resources of this script from an INI file."""
        attributes, resources = read_ini(filename)
        for name, value in attributes.items():
            setattr(self, name, value)
        self.resources = {**self.resources, **resources}

    # --- text -------------------------------------------------------------------------------------------------------------

    @property
    def _style(self) -> Backend:
        if self.machine is not None:
            batch_type = self._described().batch_type
            found = next((style for style in all_backends().values() if style.batch_type == batch_type), None)
            if found is None:
                raise DescriptionError(f"job scripts cannot be written for {batch_type}", where="machine")
            return found
        return all_backends()[self.backend]

    def _headers(self) -> list[str]:
        style = self._style
        if style.own is not None:
            return list(style.own.resource_headers(self))
        return headers(style, checks.attribute("resources", self.resources))

    def render_script(self, scriptbody: str, jobscript: bool = False) -> str:
        """A text with its placeholders filled in, from resources and attributes, and a first line that names its shell.

        `{{` and `}}` stand for braces. With `jobscript` the directives come after the first line.
        Raises PlaceholderError for one that is not known.
        """
        return self._text(scriptbody, jobscript)

    def _text(self, body: str, jobscript: bool, *, by_hand: bool = False) -> str:
        """`by_hand`: it may be submitted by somebody else, who sets no variables of ours."""
        own = self._style.own
        text = filled_in(body if own is None else own.replace_body_vars(body), self._values())
        first, _, rest = text.partition("\n")
        if not first.startswith("#!"):
            first, rest = f"#!{self.shell}", text
        lines = [first]
        if jobscript:
            lines += self._headers()
        if by_hand and _SHELLS.search(first):
            lines.append(by_hand_variables(str(self.resources["jobname"]), self._style.batch_type))
        return "\n".join([*lines, rest])

    def _values(self) -> dict[str, Any]:
        of_class = {name: getattr(type(self), name) for name in dir(type(self)) if not name.startswith("_")}
        return {**of_class, **vars(self), **self.resources}

    def __str__(self) -> str:
        return self.render_script(self.body, jobscript=True)

    @property
    def _name(self) -> str:
        return self.filename or f"{self.resources['jobname']}.{self._style.extension}"

    def named(self, filename: str) -> JobScript:
        """The same in a file of another name, for a backend that is to hand it over."""
        made = copy.copy(self)
        made.filename = filename
        return made

    def write(self, filename: str | os.PathLike[str] | None = None) -> None:
        """Write the script, ready to run; without a name to its place on the machine."""
        if filename is not None:
            path = Path(filename).expanduser()
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(self._text(self.body, True, by_hand=True))
            path.chmod(path.stat().st_mode | 0o100)
            return
        job = self._new_job()
        job.enter(self._folder(job))
        self._write_all(job)
        job.close()

    # --- running ----------------------------------------------------------------------------------------------------------

    @overload
    def submit(
        self, block: Literal[True], cache_id: str | None = ..., force: bool = ..., retry: bool = ...
    ) -> EndedResult: ...

    @overload
    def submit(
        self, block: bool = ..., cache_id: str | None = ..., force: bool = ..., retry: bool = ...
    ) -> AsyncResult: ...

    def submit(
        self, block: bool = False, cache_id: str | None = None, force: bool = False, retry: bool = True
    ) -> AsyncResult:
        """Run the prologue, write the script, hand it over.

        With a `cache_folder` a script that was submitted before (by `cache_id`; default: by all that it is and where it runs)
        is not submitted again, also not by two programs at the same time: its result is given. Unless `force`, or it was
        cancelled or failed and `retry`.

        Args:
            block: wait until it is over.

        Returns:
            The result; FAILED when the prologue failed or the batch system refused the job. With `block` it is also the number
            of its status: 0 when all went well.
        """
        cache_file = self._cache_file(cache_id)
        log.info("Submitting job %s %s", self.resources["jobname"], f"on {self.remote}" if self.remote else "locally")
        with nullcontext() if cache_file is None else held(f"{os.path.abspath(cache_file)}.lock"):
            earlier = None if cache_file is None or not os.path.exists(cache_file) else AsyncResult.load(cache_file)
            if earlier is None or force or not self._still_good(earlier, retry):
                made = self._submit_new(cache_file, None if earlier is None else earlier.job)
            else:
                log.debug("Reloading AsyncResult from %s", cache_file)
                made = earlier
        if not block:
            return made
        made.wait()
        return EndedResult(made)

    def _cache_file(self, cache_id: str | None) -> str | None:
        if self.cache_folder is None:
            return None
        name = cache_id or digest(self._identity())[:16]
        return os.path.join(os.path.expanduser(self.cache_folder), f"{self.cache_prefix}.{name}.cache")

    def _identity(self) -> list[Any]:
        """All that decides what is run, and where."""
        machine = self._described()
        folder = os.path.join(machine.remote_root or "" if self.machine is not None else "", self.rootdir, self.workdir)
        if machine.context_type != "SSHContext":
            folder = os.path.abspath(os.path.expanduser(folder))
        aux = {name: self.render_script(self.aux_scripts[name]) for name in sorted(self.aux_scripts)}
        around = [self._local_script(text) for text in (self.prologue, self.epilogue)]
        return [str(self), self._name, self.shell, aux, around, folder, machine_to_dict(machine)]

    def _still_good(self, earlier: AsyncResult, retry: bool) -> bool:
        """Whether the result of an earlier run is the one to give."""
        job = earlier.job
        if job is None or job.record.phase is Phase.NEW or (job.record.phase is Phase.INTENDED and not job.find()):
            return False
        return not (retry and earlier.status >= CANCELLED)

    def _submit_new(self, cache_file: str | None, earlier: SingleJob | None) -> AsyncResult:
        job = self._new_job(earlier)
        made = AsyncResult(self.backend, job=job)
        made.remote, made.cache_file, made.max_sleep_interval = self.remote, cache_file, self._longest_pause()
        if self.prologue:
            try:
                run_here(self._local_script(self.prologue))
            except subprocess.CalledProcessError as error:
                log.error("Prologue script for job %s failed: exit code %d", job.record.name, error.returncode)
                why = f"the prologue ended with {error.returncode}"
                job.record = store.create(job.record.refused(why))
                return made
        before = job.folder
        job.enter(self._folder(job))
        if job.record.phase is Phase.INTENDED and job.folder != before:
            job.record = job.record.again()
        self._write_all(job)
        command = self._write_own(job)
        made.dump()  # before: should we die now, the next run finds the job by its name
        try:
            job.submit(self._script(job, command))
            log.info("Job ID: %s", job.id)
        except SubmitRefusedError as error:  # its words are in the record
            log.error("Failed to submit job: %s", error)
        made.dump()
        return made

    def _new_job(self, earlier: SingleJob | None = None) -> SingleJob:
        """The job, not submitted yet. One that was being handed over when its program died keeps its name, so it runs once."""
        machine = self._described()
        fresh = JobRecord(new_hash(), machine, ".", maker="JobScript")
        if earlier is not None:
            before = earlier.record
            same = before.phase is Phase.INTENDED and _is_same(before.machine, machine)
            fresh = replace(before if same else before.again(), machine=machine)
        name, epilogue = str(self.resources["jobname"]), self._local_script(self.epilogue)
        elements = array_elements(str(self.resources["array"])) if self.resources.get("array") else ()
        record = replace(fresh, name=name, epilogue=epilogue, elements=elements, created_s=time.time())
        own = OwnBackend.of(self._style, self)
        return SingleJob(record, batch=own)

    def _local_script(self, text: str) -> str:
        return self.render_script(text) if text else ""

    def _longest_pause(self) -> float:
        limit = self.resources.get("time")
        if limit is None:
            return self.max_sleep_interval
        return min(self.max_sleep_interval, max(10, time_to_seconds(limit) // 10))

    def _script(self, job: SingleJob, command: str) -> Script:
        style, resources = self._style, self.resources
        if resources.get("array") and not registry.system(style.batch_type).variables.part:
            what = f"elements of arrays are not followed on {style.batch_type}"
            remedy = "submit a script for each index; a submission with many tasks does it by itself"
            raise ResourcesNotSupportedError(what, where="resources.array", remedy=remedy)
        plain = style is SHELL
        limit = resources.get("time")
        name, after = str(resources["jobname"]), needed(resources)
        if plain and (after or any(key.lstrip("-") in _ORDER for key in resources)):
            what = "without a batch system a script starts at once, whatever it depends on"
            raise ResourcesNotSupportedError(what, where="resources", remedy="wait() for the other one, then submit")
        streams = {".out": resources.get("stdout"), ".err": resources.get("stderr")}
        ends = [end for end, given in streams.items() if plain and not given]
        made, redirections = own_output(name, job.hash, ends) if ends else ([], [])
        before = [variables(name, style.batch_type), *made]
        return Script(
            command="".join([*redirections, command]),
            header=tuple(self._headers()),
            resources=Resources(
                walltime_s=time_to_seconds(limit) if plain and limit is not None else None,
                dependency=() if plain else tuple(each.id for each in after),
            ),
            before=tuple(before),
            out=streams[".out"] if plain else None,
            err=streams[".err"] if plain else None,
            prints=(f"{name}.out" if ".out" in ends else "", f"{name}.err" if ".err" in ends else ""),
            after=tuple(job.known([each.id for each in after])) if after and not plain else (),
        )

    # --- its place ----------------------------------------------------------------------------------------------------------

    def _described(self) -> MachineDescription:
        if self.machine is not None:
            return described_machine(self.machine)
        machine: dict[str, Any] = {"batch_type": self._style.batch_type, "local_root": "."}
        if self.remote is None:
            return parse_machine({**machine, "context_type": "LazyLocal"})
        user, _, host = self.remote.rpartition("@")
        profile = {"hostname": host} | ({"username": user} if user else {})
        return parse_machine({**machine, "context_type": "SSH", "remote_root": "~", "remote_profile": profile})

    def _folder(self, job: SingleJob) -> str:
        """The folder of the job on its machine, as it was given."""
        folder = posixpath.join(self.rootdir, self.workdir)
        if self.machine is not None and job.record.machine.remote_root:
            folder = posixpath.join(job.record.machine.remote_root, folder)
        return folder

    def _write_all(self, job: SingleJob) -> None:
        """The script and its auxiliary scripts under the names that users know; the job does not run these."""
        texts = {name: self.render_script(text) for name, text in self.aux_scripts.items()}
        texts[self._name] = self._text(self.body, True, by_hand=True)
        files = {posixpath.join(job.folder, name): text.encode() for name, text in texts.items()}
        job.context.write(files, mode=0o700)

    def _write_own(self, job: SingleJob) -> str:
        """What the job runs, in files that no other job has: a later submission with the same names changes nothing.

        `./NAME` of an auxiliary script becomes the job's own; by other ways it is found under its name, where the job puts it
        as it starts. Gives the shell text that does all that.
        """
        aux = {posixpath.normpath(name): self.render_script(text) for name, text in self.aux_scripts.items()}
        own, given = f".{job.hash}.aux", f".{job.hash}.given"
        name = f".{job.hash}.{self._style.extension}"
        texts = {f"{own}/{each}": with_own(text, aux, own) for each, text in aux.items()}
        texts |= {f"{given}/{each}": text for each, text in aux.items()} | {name: with_own(str(self), aux, own)}
        job.context.write({posixpath.join(job.folder, each): text.encode() for each, text in texts.items()}, mode=0o700)
        placed = [
            sh(_PLACE, given=relative(f"{given}/{each}"), draft=relative(f"{given}.tmp"), file=relative(each))
            for each in aux
        ]
        return lines([*placed, sh("exec {file}", file=relative(name))])


_PLACE = "cp -p -- {given} {draft} && mv -f -- {draft} {file}"


def _is_same(one: MachineDescription, other: MachineDescription) -> bool:
    return machine_to_dict(one) == machine_to_dict(other)
