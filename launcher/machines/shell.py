"""No batch system: jobs are sessions of their own on the machine, which go on when the launcher is gone (Linux)."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import replace

from ...pilot.model.errors import TransientError
from ..contexts.base import Context
from ..job import script
from ..job.spec import JobToPlace
from ..job.states import JobState, Listing, Reason, Status
from .base import Machine, MachineBusyError, SubmitRefusedError
from .directives import refuse

_NOTHING_FOR = ("account", "qos", "memory", "exclusive", "reservation", "dependency")

# A process id comes back after a while; together with the start time (in ticks since the boot) it does not.
# The job itself writes its id down before it does anything: on a full disk nothing is started that nobody knows.
_START = """\
id=$(setsid sh -c '
  id=$$:$(sed "s/.*) //" /proc/$$/stat | cut -d" " -f20)
  {{ echo $id >.{hash}.id && cp .{hash}.id {hash}_job_id && mv .{hash}.id {id_file} && : >>{hash}.out; }} || exit
  echo $id
  PILOTFISH_SHELL_JOB=$$; export PILOTFISH_SHELL_JOB
  read PILOTFISH_SHELL_SINCE rest </proc/uptime; export PILOTFISH_SHELL_SINCE
  exec {limit}bash ./{script} >>{hash}.out 2>&1' </dev/null &)
[ -n "$id" ] && echo $id"""
# `timeout` sends what a cancellation sends; only the time tells them apart.
_LIMIT = """\
rm -f {file}
pf_since=${{PILOTFISH_SHELL_SINCE-}}
pf_told_to_end() {{
  local now rest IFS=' '
  read -r now rest </proc/uptime
  [ -z "$pf_since" ] || [ $((${{now/.}} - ${{pf_since/.}})) -lt {hundredths} ] || echo "{reason}" >|{file}
  pf_stopped 143
}}
unset PILOTFISH_SHELL_SINCE
trap pf_told_to_end TERM INT"""
_NO_ROOM = ("I/O error", "No space left", "Disk quota exceeded")

# Without starting a program: that the machine cannot start one now does not mean that a job is gone. `$state` is set for each.
_EACH = """\
for id in {ids}; do
  state=unclear; set --
  if read -r stat 2>/dev/null </proc/${{id%%:*}}/stat; then
    set -- ${{stat##*) }}
    state=gone; [ "${{20}}" != "${{id#*:}}" ] || [ "$1" = Z ] || state=alive
  elif [ -d /proc/self ] && [ ! -d /proc/${{id%%:*}} ]; then
    state=gone
  fi
  {act}
done"""
_ALIVE = '[ "$state" != alive ] || '

# Jobs of DPDispatcher are no sessions of their own: their processes are found by their parents.
_KILL = """\
tree() {{ below=$(cat /proc/$2/task/*/children 2>/dev/null); kill -$1 $2; for each in $below; do tree $1 $each; done; }}
alive() {{ {alive}; }}
{terminate}
tries=80
while [ -n "$(alive)" ] && [ $tries -gt 0 ]; do sleep 0.1; tries=$((tries - 1)); done
{kill}
true"""


class Shell(Machine):
    """Ids are `PID:START`. A job that has ended is not listed: its own record tells how."""

    kind = "Shell"
    commands = ("setsid",)
    settle_s = 0.0  # jobs run where their files are looked at

    def script(self, job: JobToPlace) -> dict[str, str]:
        refuse(job.resources, self.kind, _NOTHING_FOR)
        seconds = job.resources.walltime_s
        if seconds:
            file = shlex.quote(f"{job.root}/{script.reason_file(job.hash)}")
            limit = _LIMIT.format(hundredths=int(seconds * 100), reason=Reason.TIME, file=file)
            before = [limit, *job.resources.prepend_script]
            job = replace(job, resources=replace(job.resources, prepend_script=before))
        return script.render([], job)

    def submit(self, context: Context, job: JobToPlace) -> str:
        seconds = job.resources.walltime_s
        limit = f"timeout -k 10 {seconds:g} " if seconds else ""
        command = _START.format(script=job.script_name, hash=job.hash, limit=limit, id_file=job.id_file)
        try:
            done = context.run(command, cwd=job.root, once=True)
        except TransientError as error:
            raise MachineBusyError(error.what, where=error.where) from error
        job_id = done.out.strip()
        if done.code and any(words in done.err for words in _NO_ROOM):
            raise MachineBusyError(f"cannot start: {done.err.strip()}", where=job.root)
        if done.code or ":" not in job_id:
            raise SubmitRefusedError(f"cannot start: {done.err.strip() or done.out.strip()}", where=job.root)
        return job_id

    def query(self, context: Context, ids: Sequence[str]) -> Listing:
        if not ids:
            return Listing()
        try:
            done = context.run(_EACH.format(ids=_quoted(ids), act='echo "$state $id"') + "\ntrue")
        except TransientError as error:
            raise MachineBusyError(error.what, where=error.where) from error
        found, told = Listing(), {tuple(line.split()) for line in done.out.splitlines()}
        for name in ids:
            if ("alive", name) in told:
                found[name] = Status(JobState.running, "alive")
            elif ("gone", name) not in told:
                found[name] = Status(JobState.unknown, "not known now")
                found.unclear.add(name)
        return found

    def outputs(self, job_id: str, job_hash: str) -> tuple[str, ...]:
        return (f"{job_hash}.out",)

    def cancel(self, context: Context, ids: Sequence[str]) -> None:
        quoted = _quoted(ids)
        command = _KILL.format(
            alive=_EACH.format(ids=quoted, act=f"{_ALIVE}echo $id"),
            terminate=_EACH.format(
                ids=quoted, act=f"{_ALIVE}kill -TERM -${{id%:*}} 2>/dev/null || tree TERM ${{id%:*}}"
            ),
            kill=_EACH.format(ids=quoted, act=f"{_ALIVE}kill -KILL -${{id%:*}} 2>/dev/null || tree KILL ${{id%:*}}"),
        )
        context.run(command)


def _quoted(ids: Sequence[str]) -> str:
    return " ".join(shlex.quote(name) for name in ids)
