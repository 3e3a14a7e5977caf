"""No batch system: jobs are sessions of their own on the machine, which go on when the launcher is gone (Linux)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from ...pilot.model.errors import TransientError
from ..contexts.base import Context
from ..contexts.shell import relative, sh, word, words
from ..job import script
from ..job.spec import JobToPlace
from ..job.states import JobState, Listing, Reason, Status
from .base import BatchSystem, MachineBusyError, SubmitRefusedError
from .directives import refuse

_NOTHING_FOR = ("account", "qos", "memory", "exclusive", "reservation", "dependency")

# A process id comes back after a while; together with the start time (in ticks since the boot) it does not.
# The job itself writes its id down before it does anything: on a full disk nothing is started that nobody knows.
_START = """\
id=$(setsid sh -c '
  id=$$:$(sed "s/.*) //" /proc/$$/stat | cut -d" " -f20)
  { echo $id >.{hash}.id && cp .{hash}.id {hash}_job_id && mv .{hash}.id {id_file} && : >>{hash}.out; } || exit
  echo $id
  PILOTFISH_SHELL_JOB=$$; export PILOTFISH_SHELL_JOB
  read PILOTFISH_SHELL_SINCE rest </proc/uptime; export PILOTFISH_SHELL_SINCE
  exec {limit} bash {script} >>{hash}.out 2>&1' </dev/null &)
[ -n "$id" ] && echo $id"""
# `timeout` sends what a cancellation sends; only the time tells them apart.
_LIMIT = """\
rm -f -- "$pf_root"/{file}
pf_since=${PILOTFISH_SHELL_SINCE-}
pf_told_to_end() {
  local now rest IFS=' '
  read -r now rest </proc/uptime
  [ -z "$pf_since" ] || [ $((${now/.} - ${pf_since/.})) -lt {hundredths} ] || echo {reason} >|"$pf_root"/{file}
  pf_stopped 143
}
unset PILOTFISH_SHELL_SINCE
trap pf_told_to_end TERM INT"""
_NO_ROOM = ("I/O error", "No space left", "Disk quota exceeded")

# Without starting a program: that the machine cannot start one now does not mean that a job is gone. `$state` is set for each.
_EACH = """\
for id in {ids}; do
  state=unclear; set --
  if read -r stat 2>/dev/null </proc/${id%%:*}/stat; then
    set -- ${stat##*) }
    state=gone; [ "${20}" != "${id#*:}" ] || [ "$1" = Z ] || state=alive
  elif [ -d /proc/self ] && [ ! -d /proc/${id%%:*} ]; then
    state=gone
  fi
  {act}
done"""
_ACTS = {
    "alive": sh('[ "$state" != alive ] || echo $id'),
    "terminate": sh('[ "$state" != alive ] || kill -TERM -${id%:*} 2>/dev/null || tree TERM ${id%:*}'),
    "kill": sh('[ "$state" != alive ] || kill -KILL -${id%:*} 2>/dev/null || tree KILL ${id%:*}'),
}

# Jobs of DPDispatcher are no sessions of their own: their processes are found by their parents.
_KILL = """\
tree() { below=$(cat /proc/$2/task/*/children 2>/dev/null); kill -$1 $2; for each in $below; do tree $1 $each; done; }
alive() { {alive}; }
{terminate}
tries=80
while [ -n "$(alive)" ] && [ $tries -gt 0 ]; do sleep 0.1; tries=$((tries - 1)); done
{kill}
true"""


class Shell(BatchSystem):
    """Ids are `PID:START`. A job that has ended is not listed: its own record tells how."""

    kind = "Shell"
    commands = ("setsid",)
    login_shell = False
    settle_s = 0.0  # jobs run where their files are looked at

    def script(self, job: JobToPlace) -> dict[str, str]:
        refuse(job.resources, self.kind, _NOTHING_FOR)
        seconds = job.resources.walltime_s
        if seconds:
            file = word(script.reason_file(job.hash))
            limit = sh(_LIMIT, hundredths=int(seconds * 100), reason=word(Reason.TIME), file=file)
            before = [limit, *job.resources.prepend_script]
            job = replace(job, resources=replace(job.resources, prepend_script=before))
        return script.render([], job)

    def submit(self, context: Context, job: JobToPlace) -> str:
        seconds = job.resources.walltime_s
        command = sh(
            _START,
            script=relative(job.script_name),
            hash=word(job.hash),
            limit=sh("timeout -k 10 {seconds}", seconds=seconds) if seconds else sh(""),
            id_file=relative(job.id_file),
        )
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
            done = context.run(sh("{each}\ntrue", each=sh(_EACH, ids=words(ids), act=sh('echo "$state $id"'))))
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
        each = {name: sh(_EACH, ids=words(ids), act=act) for name, act in _ACTS.items()}
        context.run(sh(_KILL, **each))
