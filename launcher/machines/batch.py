"""The one flow for all batch systems that are used by commands; what differs is in their dialects."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence

from ...pilot.model.errors import PilotfishError, TransientError
from .. import script
from ..contexts.base import Context, Done
from ..states import Status
from .base import JobToPlace, Machine, MachineBusyError, QueueFullError, SubmitRefusedError
from .dialect import Dialect, job_name, quoted

_PATIENCE_S = 120.0
_AT_ONCE = 2000
"""Ids in one command line: far below what a kernel takes (131,072 bytes in one argument of `sh -c`)."""

# The id is kept on the machine by the same command that gets it: a connection that breaks now loses nothing.
_SUBMIT = """\
out=$({submit} 2>.{hash}.submit_err); code=$?
id=$(printf '%s\\n' "$out" | sed -nE {extract} | head -n 1)
[ -z "$id" ] || {{ printf %s "$id" >.{hash}.id && cp .{hash}.id {hash}_job_id && mv .{hash}.id {id_file}; }}
printf '%s\\n' "$out"
cat .{hash}.submit_err >&2
rm -f .{hash}.submit_err
exit $code"""

# Several in one round trip; each in a shell of its own, the first that fails is the last.
_MARK = "@pilotfish@"
_ONE_OF_SOME = f"""\
echo {_MARK} >&2
(
{{submit}}
)
code=$?
echo "{_MARK}$code"
[ $code -eq 0 ] || exit 0
"""


class BatchMachine(Machine):
    """A batch system as its dialect has it."""

    dialect: Dialect

    @property
    def name(self) -> str:
        return self.dialect.kind

    def script(self, job: JobToPlace) -> dict[str, str]:
        return script.render([] if job.template else [line for line in self.dialect.header(job) if line], job)

    def name_of(self, job: JobToPlace) -> str:
        return job_name(job.name or None, job.hash, self.dialect.name_limit, self.dialect.name_prefix)

    def submit(self, context: Context, job: JobToPlace) -> str:
        return self._id_in(self._run(context, self._submission(job), cwd=job.root, once=True))

    def submit_some(self, context: Context, jobs: Sequence[JobToPlace]) -> list[str | PilotfishError]:
        if len(jobs) < 2:
            return super().submit_some(context, jobs)
        command = "".join(_ONE_OF_SOME.format(submit=self._submission(job)) for job in jobs)
        done = self._run(context, command, cwd=jobs[0].root, once=True)
        outs, errs = re.split(rf"^{_MARK}(\d+)\n", done.out, flags=re.MULTILINE), done.err.split(f"{_MARK}\n")
        answers: list[str | PilotfishError] = []
        for out, code, err in zip(outs[0::2], outs[1::2], errs[1:], strict=False):
            try:
                answers.append(self._id_in(Done(int(code), out, err)))
            except (SubmitRefusedError, QueueFullError, MachineBusyError) as error:
                answers.append(error)
        if outs[-2:-1] in ([], ["0"]) and len(answers) < len(jobs):  # it broke off; one more may have been taken
            unknown = MachineBusyError(done.err.strip()[-500:] or f"ended with code {done.code}", where=self.name)
            answers += [unknown] * (len(jobs) - len(answers))
        return answers

    def _submission(self, job: JobToPlace) -> str:
        return _SUBMIT.format(
            submit=self.dialect.submit.format(script=shlex.quote(f"./{job.script_name}")),
            hash=job.hash,
            id_file=job.id_file,
            extract=shlex.quote(f"s/{self.dialect.id_pattern}/\\1/p"),
        )

    def _id_in(self, done: Done) -> str:
        """The id that a submission has printed. Raises what `submit` does."""
        found = re.search(self.dialect.id_pattern, done.out, re.MULTILINE)
        if done.code == 0 and found:
            return found[1]
        told = (done.err.strip() or done.out.strip())[-1000:]
        if _says(done, self.dialect.full):
            raise QueueFullError(told, where=self.name)
        if _says(done, self.dialect.busy):
            raise MachineBusyError(told, where=self.name)
        what = told if done.code else f"no job id in what it printed: {told!r}"
        raise SubmitRefusedError(what or f"ended with code {done.code}", where=self.name)

    def query(self, context: Context, ids: Sequence[str]) -> dict[str, Status]:
        found: dict[str, Status] = {}
        for start in range(0, len(ids), _AT_ONCE):
            found |= self._query_some(context, ids[start : start + _AT_ONCE])
        return found

    def _query_some(self, context: Context, ids: Sequence[str]) -> dict[str, Status]:
        dialect = self.dialect
        done = self._run(context, dialect.listing(ids))
        found = self._known(dialect.read_listing(done.out), ids)
        if done.code and not found and not _says(done, dialect.gone):
            raise MachineBusyError(
                done.err.strip()[-500:] or f"ended with code {done.code}", where=dialect.listing(ids[:1])
            )
        rest = [name for name in ids if name not in found or found[name].state.ended]
        if rest and dialect.history is not None and dialect.read_history is not None:
            told = self._run(context, dialect.history(rest))
            found |= self._known(dialect.read_history(told.out), rest)
        return found

    @staticmethod
    def _known(told: dict[str, Status], ids: Sequence[str]) -> dict[str, Status]:
        """Of the jobs asked about; a server's name behind the number may be written short or long."""
        plain = {name.partition(".")[0]: name for name in ids}
        return {
            plain[name.partition(".")[0]]: status for name, status in told.items() if name.partition(".")[0] in plain
        }

    def cancel(self, context: Context, ids: Sequence[str]) -> None:
        for start in range(0, len(ids), _AT_ONCE):
            self._run(context, self.dialect.cancel.format(ids=quoted(ids[start : start + _AT_ONCE])))

    def _run(self, context: Context, command: str, *, cwd: str | None = None, once: bool = False) -> Done:
        try:
            return context.run(command, cwd=cwd, timeout_s=_PATIENCE_S, once=once)
        except TransientError as error:
            raise MachineBusyError(error.what, where=error.where) from error


def _says(done: Done, patterns: Sequence[str]) -> bool:
    return any(re.search(pattern, done.err) or re.search(pattern, done.out) for pattern in patterns)
