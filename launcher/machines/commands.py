"""The one flow for all batch systems that are used by commands; what differs is in their dialects.

A job that is taken for gone is placed again, into the folder of the first: so what a batch system tells is read in three
values. A row tells where a job is. That a job is gone needs an answer that was understood in full: nothing may be left of it
that could have been the row, and the batch system must have ended well or have said in known words that it has no such job. A
job that a listing leaves out is therefore asked about once more, alone. Anything else means: not known now, ask again.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import zip_longest

from ...pilot.model.errors import PilotfishError, TransientError
from ..contexts.base import Context, Done
from ..contexts.shell import Text, joined, relative, sh, word, words
from ..job import script
from ..job.spec import JobToPlace
from ..job.states import JobState, Listing, Status
from . import registry
from .base import BatchSystem, MachineBusyError, MaybeTakenError, QueueFullError, SubmitRefusedError
from .dialect import Command, Dialect, Words, cluster_of
from .directives import Directives

_PATIENCE_S = 120.0
_AT_ONCE = 2000
"""Ids in one command line: far below what a kernel takes (131,072 bytes in one argument of `sh -c`)."""
_PROBES = 200
"""Jobs that are asked about one by one in one look; the others must wait for the next."""

# The id is kept on the machine by the same command that gets it: a connection that breaks now loses nothing.
_SUBMIT = """\
out=$({submit} 2>.{hash}.submit_err); code=$?
esc=$(printf '\\033')
plain=$(printf '%s\\n' "$out" | tr -d '\\r' | sed -E "s/$esc\\[[0-9;]*[A-Za-z]//g")
id=
for words in {in_words}; do [ -n "$id" ] || id=$(printf '%s\\n' "$plain" | sed -nE "$words" | tail -n 1); done
for words in {alone}; do
  [ -n "$id" ] || [ $code -ne 0 ] || id=$(printf '%s\\n' "$plain" | sed -nE "$words" | sort -u)
done
case $id in *[!][A-Za-z0-9_.@\\;-]*) id= ;; esac # more than one line
[ -z "$id" ] || { printf %s "$id" >.{hash}.id && cp .{hash}.id {hash}_job_id && mv .{hash}.id {id_file}; }
printf '%s\\n' "$out"
cat .{hash}.submit_err >&2
rm -f .{hash}.submit_err
exit $code"""

# Several in one round trip; each in a shell of its own.
_MARK = "@pilotfish@"
_EACH = """\
echo {mark} >&2
(
{command}
)
code=$?
printf '\\n%s\\n' {mark}$code
"""
_ONE_OF_SOME = "{each}[ $code -eq 0 ] || exit 0\n"  # the first that fails is the last


class BatchMachine(BatchSystem):
    """A batch system as its dialect has it."""

    dialect: Dialect

    @property
    def name(self) -> str:
        return self.dialect.kind

    @property
    def directives(self) -> Directives | None:
        return self.dialect.directives

    def script(self, job: JobToPlace) -> dict[str, str]:
        return self.rendered([] if job.template else self.dialect.header(job), job)

    def rendered(
        self, header: Sequence[str], job: JobToPlace, run_part: str | None = None, *, keep_header: bool = False
    ) -> dict[str, str]:
        """The files of a job with these directives."""
        told = registry.job_variables(self.kind)
        return script.render(header, job, run_part, keep_header=keep_header, variables=told)

    # --- submitting -----------------------------------------------------------------------------------------------------

    def submit(self, context: Context, job: JobToPlace) -> str:
        return self._taken(context, job, self._run(context, self._submission(job), cwd=job.root, once=True))

    def submit_some(self, context: Context, jobs: Sequence[JobToPlace]) -> list[str | PilotfishError]:
        if len(jobs) < 2:
            return super().submit_some(context, jobs)
        command = joined(sh(_ONE_OF_SOME, each=_each(self._submission(job))) for job in jobs)
        done = self._run(context, command, cwd=jobs[0].root, once=True)
        parts = _parts(done)
        answers: list[str | PilotfishError] = []
        for job, part in zip(jobs, parts, strict=False):
            try:
                answers.append(self._taken(context, job, part))
            except (SubmitRefusedError, QueueFullError, MachineBusyError) as error:
                answers.append(error)
        if (not parts or parts[-1].code == 0) and len(answers) < len(
            jobs
        ):  # it broke off; one more may have been taken
            unknown = MachineBusyError(done.err.strip()[-500:] or f"ended with code {done.code}", where=self.name)
            answers += [unknown] * (len(jobs) - len(answers))
        return answers

    def _submission(self, job: JobToPlace) -> Text:
        submit = sh(self.dialect.submit, script=relative(job.script_name))
        if job.resources.dependency and self.dialect.submit_dependent:
            submit = sh(self.dialect.submit_dependent, script=relative(job.script_name))
        return self._noting_id(job, submit)

    def _noting_id(self, job: JobToPlace, submit: Text) -> Text:
        """Submit, and write the id down where it is looked for."""
        return sh(
            _SUBMIT,
            submit=submit,
            hash=word(job.hash),
            id_file=relative(job.id_file),
            in_words=_for_sed(self.dialect.id_in_words),
            alone=_for_sed(self.dialect.id_alone),
        )

    def _taken(self, context: Context, job: JobToPlace, done: Done) -> str:
        """The id of a job that was handed over. Raises what `submit` does.

        Where it is not clear which line is the id (a greeting may have a bare number in it) the batch system tells.
        """
        try:
            printed = self.id_in(done)
        except MaybeTakenError:
            if found := self.find(context, [job]).get(job.hash):
                return found
            raise
        several = (
            not _matches(self.dialect.id_in_words, done.out) and len(_matches(self.dialect.id_alone, done.out)) > 1
        )
        return (self.find(context, [job]).get(job.hash) if several else None) or printed

    def id_in(self, done: Done) -> str:
        """The id that a submission has printed, in the last line that has one. Raises what `submit` does."""
        ids = _matches(self.dialect.id_in_words, done.out)
        ids = ids or (_matches(self.dialect.id_alone, done.out) if done.code == 0 else [])
        if ids:
            return ids[-1]
        told = (done.err.strip() or done.out.strip())[-1000:]
        if done.code == 0:
            what = f"{self.name} ended well, but no line of what it printed is an id: {done.out.strip()[-500:]!r}"
            raise MaybeTakenError(what, where=self.name)
        if not _says(done, self.dialect.refused):
            if _says(done, self.dialect.full):
                raise QueueFullError(told, where=self.name)
            if _says(done, self.dialect.busy):
                raise MachineBusyError(told, where=self.name)
        raise SubmitRefusedError(told or f"ended with code {done.code}", where=self.name)

    def find(self, context: Context, jobs: Sequence[JobToPlace]) -> dict[str, str]:
        dialect = self.dialect
        if dialect.find is None or dialect.read_find is None:
            return {}
        done = self._run(context, dialect.find)
        rows, unread = dialect.read_find(done.out)
        # The last two parts of the path: the submission's own folder, by whatever name what is above it is known there.
        ours = {_tail(f"{job.root}/{job.script_name}"): job.hash for job in jobs}
        found: dict[str, list[str]] = {}
        for name, path in rows:
            if _tail(path) in ours:
                found.setdefault(ours[_tail(path)], []).append(name)
        if len(found) < len(jobs) and (done.code or unread):
            raise MachineBusyError(_trouble(done, unread), where=dialect.find)
        return {job_hash: self._one_of(context, names) for job_hash, names in found.items()}

    def _one_of(self, context: Context, names: Sequence[str]) -> str:
        """The id of a job of whose script the batch system has these jobs: of two submits of one attempt one does nothing."""
        return names[-1]

    # --- asking ---------------------------------------------------------------------------------------------------------

    def query(self, context: Context, ids: Sequence[str]) -> Listing:
        found = Listing()
        for some in self._asked_together(ids):
            found.take(self._query_some(context, some))
        return found.joined({name: self.dialect.parts(name) for name in ids})

    def _asked_together(self, ids: Sequence[str]) -> Iterator[list[str]]:
        """The parts of these jobs, those of one cluster together, as many as one command can have."""
        clusters: dict[str, list[str]] = {}
        for name in [part for each in ids for part in self.dialect.parts(each)]:
            clusters.setdefault(cluster_of(name), []).append(name)
        for each in clusters.values():
            for start in range(0, len(each), _AT_ONCE):
                yield each[start : start + _AT_ONCE]

    def _query_some(self, context: Context, ids: Sequence[str]) -> Listing:
        """About jobs of one cluster."""
        dialect = self.dialect
        done, listing = self._listed(context, ids)
        told = self._known(dialect.read_listing(done.out), ids)
        if not told and ((done.code and not _says(done, dialect.gone)) or _says(done, dialect.busy)):
            raise MachineBusyError(_trouble(done, told.unread), where=listing(ids[:1]))
        rest = [name for name in ids if name not in told or told[name].state.ended or _says_nothing(told[name])]
        if rest and dialect.history is not None and dialect.read_history is not None:
            before = self._known(dialect.read_history(self._run(context, dialect.history(rest)).out), rest)
            # What has ended for the one does so for the other later.
            better = {name for name in before if name not in told or _says_nothing(told[name])}
            told.update({name: each for name, each in before.items() if name in better or each.state.ended})
        missing = [name for name in ids if name not in told]
        if not missing:
            return told
        if len(ids) == 1 and dialect.probe is None:
            self._judge(told, ids[0], done)
        else:
            self._probe(context, missing, dialect.probe or listing, told)
        return told

    def _listed(self, context: Context, ids: Sequence[str]) -> tuple[Done, Command]:
        """(what the listing says, the command that was used)."""
        listing, other = self.dialect.listing, self.dialect.without_history
        done = self._run(context, listing(ids))
        if other is not None and _says(done, [other[0]]):
            listing = other[1]
            done = self._run(context, listing(ids))
        return done, listing

    def _probe(self, context: Context, missing: Sequence[str], probe: Command, told: Listing) -> None:
        """Ask about each of these jobs alone."""
        asked = missing[:_PROBES]
        command = joined(_each(probe([name])) for name in asked)
        parts = _parts(self._run(context, command))
        if len(parts) != len(asked):
            parts = []
        for name, part in zip(asked, parts, strict=False):
            self._judge(told, name, part)
        for name in missing[len(parts) :]:
            _set_unclear(told, name, "it was not asked about")

    def _judge(self, told: Listing, name: str, done: Done) -> None:
        """Where a job is that was asked about alone: known, gone, left out, or not known now."""
        dialect = self.dialect
        lines = [line for line in done.out.splitlines() if not _matches_any(line, dialect.gone)]
        alone = self._known((dialect.read_probe or dialect.read_listing)("\n".join(lines)), [name])
        told.unread += alone.unread
        if name in alone:
            told[name] = alone[name]
        elif alone.unread or _says(done, dialect.busy):
            _set_unclear(told, name, _trouble(done, alone.unread))
        elif not _says(done, dialect.gone):
            if done.code:
                _set_unclear(told, name, _trouble(done, ()))
            else:
                told.doubted.add(name)

    def _known(self, rows: Listing, ids: Sequence[str]) -> Listing:
        """What these rows tell of the jobs asked about; a row of another job is one that was not understood."""
        owner = self.dialect.owner
        wanted = {owner(name): name for name in ids}
        found = Listing(unread=rows.unread)
        for name, status in rows.items():
            if owner(name) in wanted:
                found.add(wanted[owner(name)], self._with_hope(status))
            elif not self.dialect.lists_all:
                found.unread.append(f"{name} {status.native}")
        return found

    def _with_hope(self, status: Status) -> Status:
        hopeless = status.hopeless or (bool(status.why) and _matches_any(status.why, self.dialect.never))
        return replace(status, hopeless=hopeless) if hopeless else status

    def reasons(self, context: Context, ids: Sequence[str]) -> dict[str, Status]:
        dialect = self.dialect
        if dialect.reasons is None or dialect.read_reasons is None:
            return {}
        told = dialect.read_reasons(self._run(context, dialect.reasons(ids[:_PROBES])).out)
        by_owner = {dialect.owner(name): why for name, why in told.items()}
        known = {name: by_owner[dialect.owner(name)] for name in ids if dialect.owner(name) in by_owner}
        return {name: self._with_hope(Status(JobState.waiting, why=why)) for name, why in known.items() if why}

    def outputs(self, job_id: str, job_hash: str) -> tuple[str, ...]:
        return tuple(pattern for part in self.dialect.parts(job_id) for pattern in self.dialect.outputs(part))

    # --- ending ---------------------------------------------------------------------------------------------------------

    def cancel(self, context: Context, ids: Sequence[str]) -> None:
        for some in self._asked_together(ids):
            done = self._run(context, self.dialect.cancel(some))
            if done.code and not _says(done, self.dialect.gone):
                raise MachineBusyError(f"cannot end jobs: {_trouble(done, ())}", where=self.dialect.cancel(some[:1]))

    def _run(self, context: Context, command: Text, *, cwd: str | None = None, once: bool = False) -> Done:
        try:
            return context.run(command, cwd=cwd, timeout_s=_PATIENCE_S, once=once)
        except TransientError as error:
            raise MachineBusyError(error.what, where=error.where) from error


def _says_nothing(status: Status) -> bool:
    """The job is there, and where is not told: a word that is new, or that leads elsewhere."""
    return status.state is JobState.unknown


def _set_unclear(told: Listing, name: str, why: str) -> None:
    told[name] = Status(JobState.unknown, f"not known now: {why}")
    told.unclear.add(name)


def _parts(done: Done) -> list[Done]:
    """The answers of commands that were run together by `_EACH`; one that broke off is left out."""
    outs, errs = re.split(rf"\n{_MARK}(\d+)\n", done.out), done.err.split(f"{_MARK}\n")[1:]
    ended = zip_longest(zip(outs[0::2], outs[1::2], strict=False), errs, fillvalue="")
    return [Done(int(each[1]), each[0], err) for each, err in ended if each]


def _each(command: Text) -> Text:
    return sh(_EACH, mark=word(_MARK), command=command)


def _for_sed(patterns: Words) -> Text:
    return words([f"s/{pattern}/{what}/p" for pattern, what in patterns] or [""])


def _matches(words: Words, text: str) -> list[str]:
    """The ids in what was printed, in their order: those of the first pattern that fits any line."""
    plain = re.sub(r"\x1b\[[0-9;]*[A-Za-z]|\r", "", text)
    for pattern, what in words:
        found = [match.expand(what) for line in plain.splitlines() if (match := re.fullmatch(pattern, line))]
        if found:
            return list(dict.fromkeys(found))
    return []


def _tail(path: str) -> tuple[str, ...]:
    return tuple(part for part in path.split("/") if part not in ("", "."))[-2:]


def _trouble(done: Done, unread: Sequence[str]) -> str:
    """Why an answer tells nothing, for people."""
    if unread:
        return f"not understood: {unread[0].strip()[:200]!r}"
    return (done.err.strip() or done.out.strip())[-500:] or f"ended with code {done.code}"


def _matches_any(line: str, patterns: Iterable[str]) -> bool:
    return any(re.search(pattern, line, re.IGNORECASE) for pattern in patterns)


def _says(done: Done, patterns: Sequence[str]) -> bool:
    return _matches_any(done.err, patterns) or _matches_any(done.out, patterns)
