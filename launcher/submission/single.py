"""One batch job in a folder of its machine, without a submission around it: what job scripts and single functions stand on.

What is known of it is in its record (`job/single.py`), which this module reads before it does anything and takes each step
through. The script is that of submissions, so an exit code is known on every batch system, and a job that was handed over
twice (we died before we had its id) runs once. How it ended is written down once, for all programs that look (`job/ends.py`).
"""

from __future__ import annotations

import os
import posixpath
import time
import weakref
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace

from ...pilot.model.errors import LostError, PilotfishError, RefusedError
from ..contexts.base import Context
from ..contexts.registry import build_context
from ..contexts.shell import Text, patterns, place, sh, word
from ..description.resources import Resources
from ..description.schema import check_pair
from ..description.task import Task
from ..job import ends, script, store
from ..job import record as result
from ..job.sighting import Sighting
from ..job.single import JobRecord, Phase
from ..job.spec import JobToPlace, Needed, is_id
from ..job.states import JobState, Reason, Status
from ..machines.base import BatchSystem, MachineBusyError, QueueFullError, SubmitRefusedError
from ..machines.registry import build_machine
from . import needs

_OWN = ((".", ".*"), ("", "[._]*"))
"""Before and behind its hash in the names of its own files."""
_TIDY = "cd {folder} && rm -rf -- {names}"
_TIDY_BOTH = """\
cd {folder} && rm -rf -- {names}
for file in {outputs}; do [ -s "$file" ] || rm -f -- "$file"; done"""
_ELEMENT = '( exec </dev/null; eval "$pf_theirs"; eval {command} )\nexit $?'
"""Elements of an array all run the same: each ends its script with the code of the command, and nobody leaves a tag."""
_LAST_WORDS = 'for file in {outputs}; do [ ! -s "$file" ] || tail -n {lines} -- "$file"; done'


@dataclass(frozen=True)
class Script:
    """What is to be run.

    Attributes:
        command: shell text, run in the job's folder.
        header: directives, instead of those that the resources give.
        before: shell lines that come first, in the same shell as the directives.
        out, err: files for its output; None leaves it to the batch system, or to the command.
        prints: where its output goes by the command itself; of several jobs that run at the same time `a.out` of the first
            is `a.PID.out` of the others.
        after: jobs that must have ended well, or this one does not run.
    """

    command: str
    name: str = ""
    header: tuple[str, ...] | None = None
    resources: Resources = field(default_factory=Resources)
    before: tuple[str, ...] = ()
    out: str | None = None
    err: str | None = None
    prints: tuple[str, str] = ("", "")
    after: tuple[Needed, ...] = ()


class SingleJob:
    """A batch job on its machine; `record` is what is known of it, and any number of these may share one.

    `batch`: how its batch system is used; default: as the registry has it.
    """

    def __init__(
        self, record: JobRecord, clock: Callable[[], float] = time.time, batch: BatchSystem | None = None
    ) -> None:
        self.record = record
        self.sighting = Sighting()
        self.clock = clock
        self._batch = batch or build_machine(record.machine.batch_type)
        self._context: Context | None = None

    @property
    def id(self) -> str:
        return self.record.id

    @property
    def hash(self) -> str:
        return self.record.hash

    @property
    def folder(self) -> str:
        return self.record.folder

    @property
    def status(self) -> Status:
        """Where it was when somebody looked last, or how it ended."""
        return self.record.status

    @property
    def submitted(self) -> bool:
        """Whether the batch system has it, or had it, or may have it."""
        return self.record.phase not in (Phase.NEW, Phase.REFUSED)

    @property
    def submitted_s(self) -> float | None:
        return self.record.submitted_s

    @property
    def context(self) -> Context:
        if self._context is None:
            self._context = build_context(self.record.machine)
            weakref.finalize(self, _close, self._context, os.getpid())  # a handle need not be closed by whoever has it
        return self._context

    def share(self, context: Context) -> None:
        """Use this way to the machine, unless there is one already."""
        self._context = self._context or context

    def close(self) -> None:
        if self._context is not None:
            self._context.close()
            self._context = None

    def enter(self, folder: str) -> None:
        """Make the folder in which it will run; `~` is the home there, a relative one is below it (or the current one)."""
        check_pair(self.record.machine.batch_type, self.record.machine.context_type, "machine")
        self.record = replace(self.record, folder=self.context.make_folder(folder))

    def step(self, step: store.Step) -> None:
        """Change the record, from what other programs have made of it."""
        self.record = store.change(self.record, step)

    def refresh(self) -> None:
        """Take in what other programs have noted."""
        self.record = store.current(self.record)

    # --- its files there ------------------------------------------------------------------------------------------------

    @property
    def ends_folder(self) -> ends.Folder:
        if self.record.ends is None:
            self.record = replace(self.record, ends=ends.folder_on(self.context, self.folder))
        assert self.record.ends is not None
        return self.record.ends

    def keep_end_in(self, folder: ends.Folder) -> None:
        """Where its end is written down, unless it is known already."""
        self.record = replace(self.record, ends=self.record.ends or folder)

    @property
    def end_path(self) -> str:
        """Where its end is written down, for good."""
        return self.ends_folder.of(self.hash)

    @property
    def record_paths(self) -> list[str]:
        """What the job itself writes when its shell ends."""
        return [posixpath.join(self.folder, name) for name in self.record.record_files]

    def own_status(self, read: Mapping[str, bytes]) -> Status | None:
        """How its command has ended, by what it has written itself; of an array when all its elements have."""
        status = result.element_status if self.record.elements else result.command_status
        told = [status(read.get(path, b"")) for path in self.record_paths]
        ended = [each for each in told if each is not None]
        if len(ended) < len(told):
            return None
        worst = next((each for each in ended if each.state is not JobState.finished), ended[0])
        if len(ended) == 1:
            return worst
        starts = [each.start_s for each in ended if each.start_s is not None]
        ends_s = [each.end_s for each in ended if each.end_s is not None]
        return replace(worst, start_s=min(starts, default=None), end_s=max(ends_s, default=None))

    @property
    def reason_path(self) -> str:
        """Where the job says why it ends badly, when it is not for its command."""
        return posixpath.join(self.folder, script.reason_file(self.hash))

    @property
    def tidying(self) -> Text:
        """Shell text that removes its own files from the folder; what it has made stays."""
        folder, names = (
            place(self.context.absolute(self.folder)),
            patterns(f"{each}{self.hash}{end}" for each, end in _OWN),
        )
        if self._has_own_output:  # what the batch system keeps beside it is only noise
            return sh(_TIDY_BOTH, folder=folder, names=names, outputs=self._outputs)
        return sh(_TIDY, folder=folder, names=names)

    @property
    def _has_own_output(self) -> bool:
        return bool(self.record.out and self.record.err and self._outputs)

    @property
    def _outputs(self) -> Text:
        """Patterns of the files in which the batch system keeps what the script prints."""
        return patterns(self._batch.outputs(self.id, self.hash) if self.id else ())

    def tidy(self, *, with_output: bool = False) -> None:
        """Remove its own files once more: a job that was killed may have written some of them after its end."""
        command = self.tidying
        if with_output and self._has_own_output:
            command = sh("{tidy}; rm -f -- {outputs}", tidy=command, outputs=self._outputs)
        self.context.run(command)

    def read(self, name: str) -> bytes | None:
        """The content of a file in its folder."""
        path = posixpath.join(self.folder, name)
        return self.context.read([path]).get(path)

    def last_lines(self, name: str, lines: int) -> str | None:
        """The end of one of its output files; None when it is not there."""
        stem, dot, suffix = name.rpartition(".")
        own = f"{stem}.{self.id.partition(':')[0]}{dot}{suffix}"
        for each in (own, name):
            done = self.context.run(sh("tail -n {lines} -- {file}", lines=lines, file=word(each)), cwd=self.folder)
            if done.code == 0:
                return done.out
        return None

    def last_words(self, lines: int) -> str:
        """The end of what the batch system keeps of its output."""
        if not self._outputs:
            return ""
        command = sh(_LAST_WORDS, outputs=self._outputs, lines=lines)
        return self.context.run(command, cwd=self.folder).out

    # --- jobs that it needs, and that need it ---------------------------------------------------------------------------

    def is_beside(self, other: SingleJob) -> bool:
        """Whether both are jobs of the same batch system."""
        mine, theirs = self.record.machine, other.record.machine
        place = [(each.batch_type, each.profile.get("hostname"), each.profile.get("port")) for each in (mine, theirs)]
        return place[0] == place[1]

    @property
    def needed(self) -> Needed:
        """This job, for one that depends on it."""
        return needs.of(self.id, self.folder, self.hash, self.ends_folder)

    def known(self, ids: Sequence[str]) -> list[Needed]:
        """Jobs on this machine by their ids, with what we know of those that are ours."""
        return needs.by_ids(self.context, self.ends_folder, self.record.machine.batch_type, ids)

    def outcomes(self, needed: Sequence[Needed]) -> dict[Needed, bool]:
        """Of those of these jobs that are known to be over: whether they have ended well."""
        return needs.outcomes(self.context, self._batch, needed)

    # --- handing over ---------------------------------------------------------------------------------------------------

    def submit(self, given: Script) -> None:
        """Hand it over, unless the batch system has it already.

        Raises SubmitRefusedError, QueueFullError: it has not been taken; MachineBusyError: it may have been, and `submit`
        once more, or the next look, finds out.
        """
        self.refresh()
        if self.record.phase is Phase.PLACED or (self.record.phase is Phase.INTENDED and self.find()):
            return
        job = self.described(given)
        texts = {name: text.encode() for name, text in self._batch.script(job).items()}
        self.context.write({posixpath.join(self.folder, name): text for name, text in texts.items()})
        kept, now_s = self.ends_folder, self.clock()
        name, out, err = given.name or self.record.name, given.out or given.prints[0], given.err or given.prints[1]

        def intended(record: JobRecord) -> JobRecord:
            made = replace(record.intended(now_s), name=name, after=given.after, ends=kept, out=out, err=err)
            return replace(made, created_s=record.created_s or now_s)

        self.record = store.create(self.record, intended)
        try:
            job_id = self._batch.submit(self.context, job)
        except (SubmitRefusedError, QueueFullError) as error:
            error.remedy = error.remedy or self._remedy(error.what)
            why = str(error)
            self.step(lambda record: record.refused(why))
            raise
        self.step(lambda record: record.placed(job_id))
        with suppress(OSError, PilotfishError):  # others can still depend on it as on any job
            batch_type = self.record.machine.batch_type
            needs.note_id(self.context, kept, batch_type, job_id, self.folder, self.hash)

    def _remedy(self, what: str) -> str:
        """Where the machine has no such batch system."""
        if "not found" not in what or not any(command in what for command in self._batch.commands):
            return ""
        return "there is no such batch system: name another machine, or none (backend='shell', qtype='local')"

    def described(self, given: Script) -> JobToPlace:
        """What the batch system is asked for."""
        fresh = [sh(": >{file}", file=word(name)) for name in (given.out, given.err) if name is not None]
        before = [
            *given.before,
            *needs.check(given.after, self.folder, self.hash),
            *given.resources.prepend_script,
            *fresh,
        ]
        resources = replace(given.resources, prepend_script=before)
        template = None
        if given.header is not None:
            template = "\n".join(given.header).replace("{", "{{").replace("}", "}}")
        return JobToPlace(
            hash=self.hash,
            name=given.name,
            tasks=(Task(_redirected(given), ".", outlog=None, errlog=None),),
            hashes=(self.hash,),
            resources=resources,
            root=self.folder,
            template=template,
            body=sh(_ELEMENT, command=word(_redirected(given))) if self.record.elements else None,
            backward_common_files=tuple(name for name in (given.out, given.err) if name is not None),
        )

    def find(self) -> bool:
        """Whether the machine has the job under an id that we did not get to know.

        As the submitting shell has written it down, as the batch system lists it, or as the job itself has claimed it.
        """
        job = JobToPlace(self.hash, "", (), (), Resources(), self.folder)
        read = _texts(self.context, [posixpath.join(self.folder, name) for name in (job.id_file, job.claim_file)])
        found = next((text for text in read.values() if is_id(text)), "")
        if not found:
            with suppress(MachineBusyError):
                found = self._batch.find(self.context, [job]).get(self.hash, "")
        if found:
            self.step(lambda record: record.placed(found))
        return bool(found)

    # --- ending ---------------------------------------------------------------------------------------------------------

    def cancel(self) -> Status:
        """End it with all that runs in it; how it ended, which is well when it was over before. Raises MachineBusyError."""
        self.refresh()
        if self.record.over:
            return self.record.status
        if not self.id and not self.find():
            what = "another program is just submitting it, or has died before it did"
            raise MachineBusyError(what, where=self.folder, remedy="try again in a moment")
        self._batch.cancel(self.context, [self.id])
        record = self.own_status(self.context.read(self.record_paths))
        if record is None or record.state is not JobState.finished:
            code = None if record is None else record.exit_code
            record = Status(JobState.terminated, reason=Reason.CANCELED, exit_code=code)
        end = write_ends(self.context, {self: record})[self]
        self.step(lambda known: known.ended(end))
        return end

    def claim_epilogue(self) -> bool:
        """Whether we are the first of all programs to run what follows its end. Raises TransientError."""
        return ends.claim(self.context, f"{self.end_path.removesuffix('.json')}.epilogue")

    def forget(self, *, force: bool = False) -> None:
        """Remove all that is kept of it, here and on its machine; what it has printed and made stays.

        `force`: also while it is not known to be over (otherwise RefusedError), or when its machine cannot be reached.
        """
        self.refresh()
        if not self.record.over and not force:
            what = "is not over, and nobody would know of it any more"
            raise RefusedError(what, where=f"job {self.id or self.hash[:10]}", remedy="wait for it, or cancel it")
        try:
            self._forget_there()
        except LostError:
            if not force:
                raise
        store.forget(self.record)

    def _forget_there(self) -> None:
        if self.record.ends is not None:
            by_id = self.ends_folder.by_id(self.record.machine.batch_type, self.id) if self.id else None
            self.tidy()
            ends.forget(self.context, self.end_path, by_id)


def write_ends(context: Context, ended: Mapping[SingleJob, Status]) -> dict[SingleJob, Status]:
    """What all agree on from now."""
    if not ended:
        return {}
    kept = ends.write(context, [(job.end_path, job.hash, status, job.tidying) for job, status in ended.items()])
    return {job: kept[job.hash] for job in ended}


def _texts(context: Context, paths: Sequence[str]) -> dict[str, str]:
    """What is in these files, of those that say anything; in the order of the paths."""
    read = context.read(paths)
    found = {path: read[path].decode(errors="replace").strip() for path in paths if path in read}
    return {path: text for path, text in found.items() if text}


def _close(context: Context, owner: int) -> None:
    """A forked child comes here too, and must leave its parent's connection alone."""
    if os.getpid() == owner:
        context.close()


def _redirected(given: Script) -> str:
    """The command with its output in its files, also what the shell says of a mistake in it."""
    if given.out is None and given.err is None:
        return given.command
    out = sh("") if given.out is None else sh("1>>{file}", file=word(given.out))
    err = sh("") if given.err is None else sh("2>>{file}", file=word(given.err))
    return sh("exec {out} {err}\neval {command}", out=out, err=err, command=word(given.command))
