"""The script of one batch job: header, environment, tasks, and the records that tell what became of them.

Needs bash 4.2 and coreutils on the machine, nothing else. File names and tags are DPDispatcher's; what is done
differently, and why:

* Before anything else the job claims its attempt. A job that was submitted twice finds the claim taken and ends, so a launcher
  that died between submitting and writing down the id may submit again without running anything twice.
* Tasks run as a pool: the next starts when one ends, not when a whole batch has ended.
* A task's command is given to `eval`: a syntax error in one does not keep the others from running.
* Lines of ours and of users run as if the others were not there, whatever these set (`contexts/modes.py`); the tasks too.
* The job is finished only when its run part was really read to its end; `append_script` runs before the job's tag is written,
  also after a failure (PILOTFISH_JOB_FAILED is 1 then), and what it returns is in the record.
* What happened to each task is one small file, written whole; the job's record is written when the shell exits, however.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from string import Formatter
from typing import Any

from ..contexts.modes import MODES, OURS, THEIRS
from ..contexts.shell import Text, from_home, joined, sh, word, words
from ..description.resources import Resources
from ..description.schema import DescriptionError
from ..description.task import TASK_TAG as TASK_TAG
from ..description.task import Task
from .spec import JobToPlace, JobVariables

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_ACTIVE = re.compile(r"[$`;&|<>()*?\[\]{}~#\n]")
FINISHED_TAG = "_job_tag_finished"
RAN_PART = "PILOTFISH_RAN"


@dataclass(frozen=True)
class Stages:
    """Shell lines of a job whose files are elsewhere; both run in the folder in which the job has begun.

    Attributes:
        enter: bring what it needs, after the lines of the user's that come first.
        leave: take away what it has made, once its record is written.
    """

    enter: Text
    leave: Text


def tasks_folder(job_hash: str) -> str:
    """Folder below the root with one small file for each task that has ended."""
    return f".{job_hash}.tasks"


def reason_file(job_hash: str) -> str:
    """Where a job says, in a line, why it ends badly when it is not for one of its tasks."""
    return f".{job_hash}.reason"


def told_reason(text: bytes) -> str:
    """What such a file says, as a line that can be printed, whatever is in it; empty when it says nothing."""
    return re.sub(r"[^\x20-\x7e]+", " ", text.decode(errors="replace")).strip()[:200]


def render(
    header: Iterable[str],
    job: JobToPlace,
    run_part: str | None = None,
    *,
    keep_header: bool = False,
    variables: JobVariables = JobVariables(),
    stages: Stages | None = None,
) -> dict[str, str]:
    """The files of a job by name: the script to submit, and the run part which that reads.

    `header` is the batch system's, without shebang; a template replaces it, or with `keep_header` goes before it. `run_part`
    replaces the plain list of tasks. `variables`: where the batch system tells the job its id. `stages`: for a job that runs in
    the folder in which it begins.
    Raises DescriptionError for names and values no shell takes.
    """
    if job.template is None:
        top = ["#!/bin/bash -l", *header]
    else:
        top = [
            "#!/bin/bash -l",
            *from_template(job.template, job.resources).splitlines(),
            *(header if keep_header else ()),
        ]
    if len(top) > 1 and top[1].startswith("#!"):
        del top[0]
    lines = [line for line in top if line] + [*job.resources.custom_flags]
    claim = sh(
        _CLAIM,
        root=from_home(job.root) if stages is None else sh("."),
        hash=word(job.hash),
        attempt=job.attempt,
        tasks=word(tasks_folder(job.hash)),
        id=first_set(variables.id, sh("$$")),
        element=_element(variables),
        leave=sh("") if stages is None else stages.leave,
    )
    text = "\n".join([*lines, MODES, OURS, claim, THEIRS, *_environment(job), *_tail(job, stages)])
    if run_part is None:
        run_part = plain_run_part(job) if job.body is None else f"{job.body}\n"
    return {job.script_name: f"{text}\n", job.run_name: f"{run_part}{RAN_PART}={job.hash}\n"}


def _element(variables: JobVariables) -> Text:
    """Which element of an array this is.

    Where an array is too large for the batch system the script has an argument: what its elements count from.
    """
    part = variables.part
    return sh("${{part}:+.$(({part} + ${1:-0}))}", part=word(part)) if part else sh("")


def first_set(names: Iterable[str], default: Text = sh("")) -> Text:
    """The value of the first of these variables that is set, in words of the shell; they need quotes around them."""
    found = default
    for name in reversed([*names]):
        found = sh("${{name}:-{found}}", name=word(name), found=found)
    return found


@dataclass(frozen=True)
class Parts:
    """A script in four parts, which make it together: directives, what goes before the tasks, the tasks, what follows."""

    header: str
    env: str
    run: str
    end: str


def split(text: str, job: JobToPlace) -> Parts:
    """A script that was rendered for this job."""
    header, mark, rest = text.partition(MODES)
    run = _run(job)
    env, _, end = rest.partition(run)
    return Parts(header, mark + env, run, end)


def _run(job: JobToPlace) -> Text:
    return sh(_RUN, run=word(job.run_name), hash=word(job.hash), tasks=word(tasks_folder(job.hash)))


def _tail(job: JobToPlace, stages: Stages | None) -> list[str]:
    return [
        *job.resources.prepend_script,
        *([] if stages is None or not stages.enter else [OURS, stages.enter, THEIRS]),
        _run(job),
        THEIRS,
        *job.resources.append_script,
        "pf_append_code=$?",
        _END,
    ]


# --- tasks ----------------------------------------------------------------------------------------------------------------


def plain_run_part(job: JobToPlace) -> Text:
    """All tasks, as many at a time as `para_deg` says (on each device, with one device for each task)."""
    blocks = [task_block(job, position) for position in range(len(job.tasks))]
    return joined([pool(job.resources), *blocks, sh('wait\nPILOTFISH_TASKS="{hashes}"\n', hashes=words(job.hashes))])


def pool(resources: Resources) -> Text:
    """A pipe with a token for each task that may run; the token is the number of a device."""
    devices = resources.gpu_per_node if resources.device_per_task else 1
    tokens = [str(number) for number in range(devices)] * resources.para_deg
    return sh("exec 9<> <(:)\nprintf '%s\\n' {tokens} >&9\n", tokens=words(tokens))


_TASK = """
if [ ! -e "$pf_root"/{folder}/{tag} ]; then
  pf_next
  {
    pf_start=$(pf_now)
    {device}builtin cd "$pf_root"/{folder} && ( exec 9>&-; eval "$pf_theirs"; eval {command} ){streams}
    pf_ended {hash} $? "$pf_start" {folder} {errlog}
    echo "$pf_token" >&9
  } &
fi
"""


def task_block(job: JobToPlace, position: int) -> Text:
    """One task: skipped when it has finished before, else run in the background when a token is free."""
    task, name = job.tasks[position], job.hashes[position]
    device = sh('export CUDA_VISIBLE_DEVICES="$pf_token"\n    ') if job.resources.device_per_task else sh("")
    return sh(
        _TASK,
        folder=word(task.task_work_path),
        tag=word(name + TASK_TAG),
        device=device,
        command=word(task.command),
        streams=_streams(task),
        hash=word(name),
        errlog=word(task.errlog or ""),
    )


def _streams(task: Task) -> Text:
    out = sh("") if task.outlog is None else sh(" 1>>{log}", log=word(task.outlog))
    err = sh("") if task.errlog is None else sh(" 2>>{log}", log=word(task.errlog))
    return sh("{out}{err} </dev/null", out=out, err=err)


# --- the fixed parts ------------------------------------------------------------------------------------------------------

_END = """\
\\eval "$pf_ours"
pf_keep_exit
exit $PILOTFISH_JOB_FAILED"""

_CLAIM = """\
pf_root=$(readlink -f -- {root}) && builtin cd "$pf_root" || exit 1
REMOTE_ROOT=$pf_root
pf_part={element}
pf_group=$$
pf_id={id}
if [ -n "${PILOTFISH_SHELL_JOB-}" ]; then # no batch system; and not one in which the launcher itself runs
  pf_group=$PILOTFISH_SHELL_JOB # `timeout`, maybe
  pf_id=$PILOTFISH_SHELL_JOB:$(sed 's/.*) //' "/proc/$PILOTFISH_SHELL_JOB/stat" | cut -d' ' -f20)
  unset PILOTFISH_SHELL_JOB
fi
pf_claim=.{hash}.{attempt}$pf_part.claim
printf '%s\\n' "$pf_id" >"$pf_claim.$$" || exit 1
if ! ln "$pf_claim.$$" "$pf_claim" 2>/dev/null && [ "$(cat "$pf_claim")" != "$pf_id" ]; then
  rm -f "$pf_claim.$$"
  echo "this attempt belongs to job $(cat "$pf_claim"); nothing is run twice" >&2
  exit 0
fi
rm -f "$pf_claim.$$"
mkdir -p {tasks} || exit 1
PILOTFISH_JOB_FAILED=1
pf_append_code=null
pf_next() { # a task whose shell was killed gives no token back; when no task runs all of them are free
  until read -r -t 2 -u 9 pf_token; do [ -n "$(jobs -rp)" ] || { pf_token=0; break; }; done
}
pf_now() { local now=${EPOCHREALTIME:-$(date +%s)}; echo "${now/,/.}"; }
pf_node=$(uname -n | tr -cd 'A-Za-z0-9._-')
pf_begin=$(pf_now)
pf_ended() {
  printf '%s %s %s %s %s %s\\n' "$1" "$2" "$3" "$(pf_now)" "$pf_node" {attempt} >"$pf_root/{tasks}/.$1" &&
    mv "$pf_root/{tasks}/.$1" "$pf_root/{tasks}/$1" || return
  if [ "$2" -eq 0 ]; then
    : >"$pf_root/$4/$1_task_tag_finished"
  else
    echo 1 >"$pf_root/{hash}_flag_if_job_task_fail"
    [ -z "$5" ] || tail -v -c 1000 "$pf_root/$4/$5" >"$pf_root/{hash}_last_err_file" 2>/dev/null
  fi
}
pf_record() {
  local code=$? name exit start end node attempt comma=
  trap - EXIT
  \\eval "$pf_ours"
  [ -z "$pf_their_exit" ] || (eval "$pf_theirs"; eval "$pf_their_exit")
  builtin cd "$pf_root" || exit "$code"
  {
    printf '{"job": "{hash}", "attempt": {attempt}, "id": "%s", "node": "%s", "exit_code": %s, ' \\
      "$pf_id" "$pf_node" "$code"
    printf '"start_s": %s, "end_s": %s, "append_exit_code": %s, "tasks": [' "$pf_begin" "$(pf_now)" "$pf_append_code"
    while read -r name exit start end node attempt; do
      printf '%s\\n{"hash": "%s", "exit_code": %s, "start_s": %s, "end_s": %s, "node": "%s", "attempt": %s}' \\
        "$comma" "$name" "$exit" "$start" "$end" "$node" "$attempt"
      comma=,
    done < <(find {tasks} -type f ! -name '.*' -exec cat {} +)
    printf ']}\\n'
  } >"{hash}_result$pf_part.json.$$" && mv "{hash}_result$pf_part.json.$$" "{hash}_result$pf_part.json"
  if [ "$code" -eq 0 ] && [ "$PILOTFISH_JOB_FAILED" -eq 0 ] && [ -z "$pf_part" ]; then
    : >{hash}_job_tag_finished
  fi
{leave}  exit "$code"
}
pf_others() { # what lives in our group, should it be one of our own
  local stat
  for stat in /proc/[0-9]*/stat; do
    read -r stat 2>/dev/null <"$stat" && set -- ${stat##*) } || continue
    [ "$3" = "$pf_group" ] && [ "$1" != Z ] || continue
    case ${stat%% *} in $$ | $BASHPID | $pf_group) ;; *) echo "${stat%% *}" ;; esac
  done
}
pf_stopped() { # tasks get 5 s; the signal may have passed by what a shell was just starting
  eval "$pf_ours"
  local tries=50
  trap '' TERM INT USR1 USR2 XCPU
  sleep 0.1 # then tasks that still run have not got the signal: it was for us alone
  [ -z "$(jobs -rp)" ] || kill $(jobs -p) $(pf_others) 2>/dev/null
  wait
  while [ -n "$(pf_others)" ] && [ $((tries -= 1)) -gt 0 ]; do sleep 0.1; done
  kill -KILL $(pf_others) 2>/dev/null
  exit "$1"
}
pf_their_exit=
pf_keep_exit() { # where the lines of the user have set a trap of their own both are run
  local theirs=$(trap -p EXIT)
  case $theirs in *pf_record*) return ;; ?*) eval "set -- $theirs" && pf_their_exit=$3 ;; esac
  trap pf_record EXIT
}
trap pf_record EXIT
trap 'pf_stopped 143' TERM INT
trap 'pf_stopped 138' USR1 USR2 XCPU
[ -n "$pf_part" ] || rm -f {hash}_job_tag_finished
echo 0 >{hash}_flag_if_job_task_fail || exit 1"""

_RUN = """\
\\eval "$pf_ours"
pf_keep_exit
builtin cd "$pf_root" || exit 1
source ./{run}
builtin cd "$pf_root" || exit 1
wait
read -r PILOTFISH_JOB_FAILED <{hash}_flag_if_job_task_fail || PILOTFISH_JOB_FAILED=1
[ "$PILOTFISH_RAN" = {hash} ] || PILOTFISH_JOB_FAILED=1
for pf_name in $PILOTFISH_TASKS; do [ -s {tasks}/$pf_name ] || PILOTFISH_JOB_FAILED=1; done # a full disk
export PILOTFISH_JOB_FAILED
true"""


# --- environment ----------------------------------------------------------------------------------------------------------


def _environment(job: JobToPlace) -> list[str]:
    resources = job.resources
    lines = ["module purge"] if resources.module_purge else []
    lines += [f"module unload {_plain(name, 'module_unload_list')}" for name in resources.module_unload_list if name]
    lines += [f"module load {_plain(name, 'module_list')}" for name in resources.module_list if name]
    lines += [f"source {_plain(entry, 'source_list')}" for entry in resources.source_list if entry]
    return lines + [f"export {name}={word(value)}" for name, value in _variables(resources)]


def _variables(resources: Resources) -> Iterable[tuple[str, str]]:
    given: dict[str, Any] = {
        "DPDISPATCHER_NUMBER_NODE": resources.number_node,
        "DPDISPATCHER_CPU_PER_NODE": resources.cpu_per_node,
        "DPDISPATCHER_GPU_PER_NODE": resources.gpu_per_node,
        "DPDISPATCHER_QUEUE_NAME": resources.queue_name,
        "DPDISPATCHER_GROUP_SIZE": resources.group_size,
    }
    for name, value in (given | dict(resources.envs)).items():
        if not _NAME.fullmatch(name):
            raise DescriptionError(f"Invalid POSIX environment variable name: {name!r}", where="resources.envs")
        for each in value if isinstance(value, list | tuple) else [value]:
            if "\0" in str(each):
                raise DescriptionError("has a NUL", where=f"resources.envs.{name}")
            yield name, str(each)


def _plain(entry: str, key: str) -> str:
    """Words, each quoted. What a shell would act on is refused: it belongs into `prepend_script`."""
    where = f"resources.{key}"
    try:
        found = shlex.split(entry)
    except ValueError as error:
        raise DescriptionError(f"{entry!r}: {error}", where=where) from None
    unquoted = re.sub(r"'[^']*'", "", entry)
    if _ACTIVE.search(unquoted):
        remedy = "quote it, or write it in prepend_script"
        if unquoted.startswith("~"):  # quoting would break it
            remedy = f'write "source $HOME{unquoted.partition(" ")[0][1:]}" in prepend_script'
        raise DescriptionError(f"{entry!r} has shell syntax", where=where, remedy=remedy)
    if not found or found[0].startswith("-"):
        raise DescriptionError(f"{entry!r} must not begin with '-'", where=where)
    return words(found)


class _Keys(Formatter):
    """`str.format` without attributes: a template may name keys and positions, never reach into objects."""

    def get_field(self, field_name: str, args: Any, kwargs: Mapping[str, Any]) -> Any:
        if "." in field_name.split("[", maxsplit=1)[0]:
            raise DescriptionError(f"'{{{field_name}}}' asks for an attribute", where="header template")
        return super().get_field(field_name, args, kwargs)


def from_template(template: str, resources: Resources) -> str:
    """The header of a template file; `{queue_name}`, `{kwargs[x]}` ... are filled in, literal braces are doubled."""
    try:
        return _Keys().vformat(template, (), resources.serialize())
    except (KeyError, IndexError, ValueError, AttributeError) as error:
        raise DescriptionError(f"cannot be filled in: {error!r}", where="header template") from error
