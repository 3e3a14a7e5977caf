"""Grid Engine: `qsub -terse`, `qstat -xml` of all jobs (ids compared exactly), `qacct`, `qdel`."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any, ClassVar
from xml.etree import ElementTree

from ..contexts.shell import Text, sh, word, words
from ..description.resources import Resources
from ..description.schema import Key, KeysOfSystem
from ..job import script
from ..job.spec import JobToPlace, JobVariables
from ..job.states import JobState, Listing, Reason, Status
from .commands import BatchMachine
from .dialect import Dialect, QueueRow, View, row_word
from .directives import Directives

# accounting(5): `failed` says who ended the job; 37 and 44 are its limits.
_FAILED_TIME = (37,)
_FAILED_LAUNCH = (*range(1, 20), 21, 26, 27, 28, 29)
_FAILED_NODE = (20, 22, 23)
_FAILED_KILLED = 100
_SIGXCPU, _SIGKILL, _SIGTERM = 24, 9, 15


# `-hold_jid` waits for the end, however it was; accounting is written some seconds after it. `pf_known` are looked at already.
_ENDED_WELL = """\
rm -f -- "$pf_root"/{reason}
for pf_job in {ids}; do
  case " ${pf_known-} " in *" $pf_job "*) continue ;; esac
  pf_tries={patience}
  until pf_told=$(PATH=$PATH:${SGE_BINARY_PATH-} qacct -j "$pf_job" 2>/dev/null) || [ $((pf_tries -= 1)) -lt 0 ]; do
    sleep 2
  done
  if ! awk '
    $1 == "taskid" { array = $2 != "undefined" } $1 == "failed" { failed = $2 }
    $1 == "exit_status" { bad = (array && bad) || failed != 0 || $2 != 0; known = 1 }
    END { exit bad || !known }' <<<"$pf_told"; then
    printf '%s\\n' {failed}": job $pf_job" >|"$pf_root"/{reason}
    echo "job $pf_job, on which this one depends, has not ended well: nothing is run" >&2
    exit 1
  fi
done"""
_ACCOUNTED_AFTER_S = 120


def _slots(resources: Resources) -> list[str]:
    environment = resources.kwargs.get("pe_name", "mpi")
    return [f"-pe {environment} {resources.cpu_per_node}"] if environment else []


def _values(job: JobToPlace) -> dict[str, Any]:
    memory = job.resources.memory_mib
    return {
        "name": job.resources.kwargs.get("job_name") or DIRECTIVES.shown_name(job) or "wDPjob",
        "memory": memory and max(1, memory // job.resources.cpu_per_node),
    }


# qsub(1); h_vmem counts for each slot: complex(5).
DIRECTIVES = Directives(
    "#$",
    {
        "shell": "-S /bin/bash",
        "folder": "-cwd",
        "name": "-N {}",
        "nodes": _slots,
        "queue": "-q {}",
        "walltime": "-l h_rt={}",
        "account": "-A {}",
        "memory": "-l h_vmem={}M",
        "exclusive": "-l exclusive=true",
        "reservation": "-ar {}",
        "dependency": "-hold_jid {}",
        "megabytes": "-l h_vmem={}m",
        "stdout": "-o {}",
        "stderr": "-e {}",
    },
    always=("shell", "folder"),
    values=_values,
    name_prefix="j-",
    between_ids=",",
    option="listed",
    by_nodes=False,
    one_program=lambda cores: {"kwargs": {"pe_name": "smp" if cores > 1 else ""}},
)


def listing(ids: Sequence[str]) -> Text:
    return sh("qstat -u '*' -xml")


_NOT_XML = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f]|&(?!#?\w+;)")
"""What some releases leave in names of jobs."""


def _rows(text: str) -> list[ElementTree.Element]:
    """Raises ParseError for a document that is not whole."""
    document = _NOT_XML.sub("_", text[max(text.find("<?xml"), 0) :])
    return list(ElementTree.fromstring(document).iter("job_list"))


def read_listing(text: str) -> Listing:
    """One document, whatever a wrapper says before it. One that is not whole tells nothing."""
    try:
        jobs = _rows(text)
    except ElementTree.ParseError as error:
        return Listing(unread=[f"{error} in {text.strip()[:200]}"])
    found = Listing()
    for job in jobs:
        name, letters = job.findtext("JB_job_number", ""), job.findtext("state", "")
        start = _iso(job.findtext("JAT_start_time", ""))
        status = Status(state(letters), letters, start_s=start, nodes=job.findtext("queue_name", ""))
        # One that it could not start stays so until somebody clears it, whatever the reason was.
        found.add(name, replace(status, why="error state", hopeless=True) if "E" in letters else status)
    return found


def _read_queue(text: str) -> Iterator[QueueRow]:
    """Of `qstat -xml`; a job that waits is in no queue yet."""
    for job in _rows(text):
        letters, (queue, _, node) = job.findtext("state", ""), job.findtext("queue_name", "").partition("@")
        slots = job.findtext("slots", "")
        yield QueueRow(
            job.findtext("JB_job_number", ""),
            job.findtext("JB_name", ""),
            job.findtext("JB_owner", ""),
            queue,
            "suspended" if set(letters) & set("sST") else row_word(Status(state(letters), letters)),
            node,
            int(slots) if slots.isdigit() else 0,
        )


def probe(ids: Sequence[str]) -> Text:
    return sh("qstat -j {ids}", ids=words(ids))


def read_probe(text: str) -> Listing:
    """It has all about a job but its state. Below the words that there is none stands the number alone."""
    if match := re.search(r"^job_number:\s+(\d+)\s*$", text, re.MULTILINE):
        return Listing({match[1]: Status(JobState.unknown, "listed")})
    return Listing(unread=[line for line in text.splitlines() if line.strip() and not line.strip().isdigit()])


def read_reasons(text: str) -> dict[str, str]:
    """The error with which it was not started; else what the scheduler says, where the site lets it say so."""
    found = {}
    for block in re.split(r"^=+$", text, flags=re.MULTILINE):
        number = re.search(r"^job_number:\s+(\d+)\s*$", block, re.MULTILINE)
        errors = re.findall(r"^error reason\s+\d+:\s+(.*?)\s*$", block, re.MULTILINE)
        info = re.search(r"^scheduling info:\s+(.*?)\s*$", block, re.MULTILINE)
        if number:
            found[number[1]] = f"error state: {errors[-1]}" if errors else info[1] if info else ""
    return found


FIND = sh(
    """\
out=$(qstat -j '*' 2>&1); code=$?
printf '%s\\n' "$out"
case $out in '' | *'do not exist'*) exit 0 ;; esac
exit $code"""
)


def read_find(text: str) -> tuple[list[tuple[str, str]], list[str]]:
    rows = []
    for block in re.split(r"^=+$", text, flags=re.MULTILINE):
        facts = dict(re.findall(r"^(job_number|cwd|script_file):\s+(.*?)\s*$", block, re.MULTILINE))
        if len(facts) == 3:
            rows.append((facts["job_number"], f"{facts['cwd']}/{facts['script_file']}"))
    return rows, []


def state(letters: str) -> JobState:
    """qstat(1), "state": letters add up. E is a job that the system could not start: it waits for somebody."""
    if "E" in letters:
        return JobState.waiting
    if "d" in letters:
        return JobState.completing
    if any(letter in letters for letter in "rRtsST"):
        return JobState.running if "h" not in letters or "r" in letters else JobState.waiting
    return JobState.waiting if any(letter in letters for letter in "qwh") else JobState.unknown


def _iso(text: str) -> float | None:
    try:
        return datetime.fromisoformat(text).timestamp()
    except ValueError:
        return None


def history(ids: Sequence[str]) -> Text:
    return sh("for id in {ids}; do qacct -j $id 2>/dev/null; done; true", ids=words(ids))


def read_history(text: str) -> Listing:
    found = Listing()
    for block in re.split(r"^=+$", text, flags=re.MULTILINE):
        facts = {}
        for line in block.splitlines():
            name, _, value = line.partition(" ")
            facts[name] = value.strip()
        if "jobnumber" in facts:
            found.add(facts["jobnumber"], _ended(facts))
    return found


def _ended(facts: dict[str, str]) -> Status:
    failed = int((re.match(r"\d+", facts.get("failed", "0")) or ["0"])[0])
    code = int((re.match(r"\d+", facts.get("exit_status", "0")) or ["0"])[0])
    reason = _reason(failed, code)
    ended = JobState.finished if not reason else JobState.terminated
    start, end = _date(facts.get("start_time", "")), _date(facts.get("end_time", ""))
    return Status(ended, f"failed {failed}", reason, code, start, end, facts.get("hostname", ""))


def _reason(failed: int, code: int) -> str:
    if failed in _FAILED_TIME or (failed == _FAILED_KILLED and code == 128 + _SIGXCPU):
        return Reason.TIME
    if failed == _FAILED_KILLED and code in (128 + _SIGKILL, 128 + _SIGTERM):
        return Reason.CANCELED
    if failed in _FAILED_LAUNCH:
        return Reason.LAUNCH
    if failed in _FAILED_NODE:
        return Reason.NODE
    return Reason.PROGRAM if failed or code else ""


def _date(text: str) -> float | None:
    """`Fri Nov 20 21:37:37 2026`, or `11/20/2026 21:37:37.123` of later releases."""
    for form in ("%a %b %d %H:%M:%S %Y", "%m/%d/%Y %H:%M:%S.%f", "%m/%d/%Y %H:%M:%S"):
        try:
            return datetime.strptime(text, form).timestamp()
        except ValueError:
            continue
    return None


DIALECT = Dialect(
    kind="SGE",
    directives=DIRECTIVES,
    submit="qsub -terse {script}",
    id_in_words=((r"^.*Your job(-array)? ([0-9]+)[ .].*has been submitted.*$", r"\2"),),
    id_alone=((r"^ *([0-9]+)(\.[0-9][0-9:-]*)? *$", r"\1"),),
    listing=listing,
    read_listing=read_listing,
    history=history,
    read_history=read_history,
    cancel=lambda ids: sh("qdel {ids}", ids=words(ids)),
    lists_all=True,
    probe=probe,
    read_probe=read_probe,
    find=FIND,
    read_find=read_find,
    gone=("do not exist", r'job "\d+" does not exist'),
    busy=("unable to contact qmaster", "unable to send message to qmaster", "commlib error", "got select error"),
    # msg_qmaster.h; of tasks in an array there can be too many as well: that never passes.
    full=(r"job rejected: only \d+ jobs are allowed per",),
    reasons=probe,
    read_reasons=read_reasons,
    never=("^error state",),
    outputs=lambda job_id: (f"*.[oe]{job_id}", f"*.[oe]{job_id}.*", f"*.p[oe]{job_id}"),
)


class SGE(BatchMachine):
    kind = "SGE"
    aliases: ClassVar[tuple[str, ...]] = ("sge", "gridengine", "uge")
    dialect = DIALECT
    keys = KeysOfSystem(
        (
            Key("pe_name", "str", "mpi", "the parallel environment", ("sge_pe_name",)),
            Key("job_name", "str", None, "what the batch system shows"),
        ),
        wanted=True,
    )
    variables = JobVariables(  # qsub(1), "ENVIRONMENTAL VARIABLES"; without an array SGE_TASK_ID is `undefined`
        id=("JOB_ID",),
        element=("SGE_TASK_ID",),
        submit_host=("SGE_O_HOST",),
        submit_folder=("SGE_O_WORKDIR",),
        node_file=("PE_HOSTFILE",),
    )
    commands = ("qsub", "qstat", "qdel")
    helpful_commands: ClassVar[tuple[str, ...]] = ("qacct",)
    answers: ClassVar[tuple[tuple[str, ...], str]] = (
        ("qstat", "-help"),
        r"^\s*(\w*GE\b|Univa|Altair|Open Grid|Sun Grid)",
    )
    views: ClassVar[tuple[View, ...]] = (View(lambda cluster, everybody: ["qstat", "-u", "*", "-xml"], _read_queue),)
    queue_check = "qconf -sq {queue}"
    script_suffix = ".sge"

    def script(self, job: JobToPlace) -> dict[str, str]:
        needed = job.resources.dependency
        if needed:
            check = sh(
                _ENDED_WELL,
                ids=words(needed),
                patience=_ACCOUNTED_AFTER_S // 2,
                failed=word(Reason.DEPENDENCY),
                reason=word(script.reason_file(job.hash)),
            )
            before = [*job.resources.prepend_script, check]
            job = replace(job, resources=replace(job.resources, prepend_script=before))
        return super().script(job)
