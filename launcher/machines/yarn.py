"""DistributedShell: jobs in a container of YARN, by Hadoop's example application of that name; files go through HDFS.

`hadoop jar ...distributedshell` hands the script over and then watches the application, which it kills after ten minutes. So it
is ended as soon as it has said which application it is; `yarn application` tells the rest. The script brings the job's
archive from HDFS, and puts what it has made there. Before that it makes a folder in HDFS, which only one can: of an attempt
that was handed over twice one runs.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

from ...pilot.model.errors import PilotfishError, TransientError
from ..contexts.archive import pack
from ..contexts.base import Context
from ..contexts.hdfs import HDFSContext
from ..contexts.paths import ForeignPathError
from ..contexts.shell import Text, patterns, place, sh, word, words
from ..contexts.staged import SentJob
from ..description.schema import Key, KeysOfSystem
from ..job import script
from ..job.spec import JobToPlace
from ..job.states import JobState, Listing, Reason, Status
from .base import BatchSystem, MachineBusyError
from .commands import BatchMachine
from .dialect import Dialect, status_of
from .directives import Directives, refuse
from .staging import begin, note_refusal, patterns_of, take_back, wanted

_NOTHING_FOR = ("account", "qos", "exclusive", "reservation", "dependency")
_MAIN = "org.apache.hadoop.yarn.applications.distributedshell.Client"
_APPLICATION = r"application_[0-9]+_[0-9]+"
_STILL_RUNNING = 75
"""Exit code of `_SUBMIT` when the client was ended before it had said anything."""
_FOLDER = "PILOTFISH_HDFS"
"""In it a job is told where its files are."""

# YarnApplicationState of the ResourceManager API; of one that is over the final state tells how.
STATES: dict[str, tuple[JobState, str]] = {
    "NEW": (JobState.waiting, ""),
    "NEW_SAVING": (JobState.waiting, ""),
    "SUBMITTED": (JobState.waiting, ""),
    "ACCEPTED": (JobState.waiting, ""),
    "RUNNING": (JobState.running, ""),
    "FINISHED": (JobState.finished, ""),
    "FINISHED SUCCEEDED": (JobState.finished, ""),
    "FINISHED FAILED": (JobState.terminated, Reason.PROGRAM),
    "FINISHED KILLED": (JobState.terminated, Reason.CANCELED),
    "FINISHED ENDED": (JobState.finished, ""),
    "FAILED": (JobState.terminated, Reason.PROGRAM),
    "KILLED": (JobState.terminated, Reason.CANCELED),
}
_LOG_LINE = r"(\d{4}-\d\d-\d\d|\d\d/\d\d/\d\d) \d\d:\d\d:\d\d\S* |SLF4J: |WARNING: |log4j:"
"""What Hadoop's clients print besides."""

# The client is told apart from what it prints by a file: it goes on printing after the line that is waited for.
_SUBMIT = """\
setsid {client} >.{hash}.client 2>&1 </dev/null & client=$!
tries=900
until line=$(grep -m 1 -o 'Submitted application application_[0-9]*_[0-9]*' .{hash}.client) || ! kill -0 $client 2>/dev/null ||
  [ $((tries -= 1)) -lt 0 ]; do sleep 0.1; done
! kill -0 $client 2>/dev/null || code=75
line=$(grep -m 1 -o 'Submitted application application_[0-9]*_[0-9]*' .{hash}.client)
kill -KILL -$client 2>/dev/null
if [ -n "$line" ]; then echo "$line"; rm -f .{hash}.client; else cat .{hash}.client >&2; exit ${code:-1}; fi"""

_CLIENT = (
    "hadoop jar {jar}/hadoop-yarn-applications-distributedshell-*.jar {main} "
    "-jar {jar}/hadoop-yarn-applications-distributedshell-*.jar -queue {queue} -appname {name} "
    "-shell_env YARN_CONTAINER_RUNTIME_TYPE=docker -shell_env YARN_CONTAINER_RUNTIME_DOCKER_IMAGE={image} "
    "-shell_env ENV_DOCKER_CONTAINER_SHM_SIZE='600m' -shell_env {variable}={folder} "
    "-master_memory 1024 -master_vcores 2 -num_containers 1 "
    "-container_resources memory-mb={memory},vcores={cores} -shell_script {script}"
)

_ENTER = """\
builtin cd "$pf_root" || exit 1
pf_application=$(printf '%s\\n' "${CONTAINER_ID-}" | sed -nE 's/^container_(e[0-9]+_)?([0-9]+_[0-9]+)_.*/application_\\2/p')
pf_application=${pf_application:-$(uname -n).$$}
pf_taken=${{variable}}/.{name}.claim
if ! hadoop fs -mkdir "$pf_taken" && ! hadoop fs -test -e "$pf_taken/$pf_application"; then
  trap - EXIT
  hadoop fs -test -e "$pf_taken" || exit 1
  echo 'this attempt belongs to another application; nothing is run twice' >&2
  exit 0
fi
hadoop fs -touchz "$pf_taken/$pf_application" || exit 1
hadoop fs -get "${{variable}}"/{archive} .{hash}.tgz && tar -xzf .{hash}.tgz || exit 1
rm -f .{hash}.tgz
pf_came=1
pf_group=$(sed 's/.*) //' /proc/$$/stat | cut -d' ' -f3) # the container's: a signal may be for the script alone
{limit}"""
_LIMIT = """\
(
  exec 9>&-
  trap 'kill $! 2>/dev/null; exit' TERM
  sleep {seconds} &
  wait $!
  echo {reason} >|{file}
  kill -TERM $$
) >/dev/null 2>&1 </dev/null &
pf_watch=$!
disown
"""

_LEAVE = """\
  [ -z "${pf_watch-}" ] || kill "$pf_watch" 2>/dev/null
  [ -z "${pf_came-}" ] || (
    shopt -s nullglob globstar
    for pf_file in {wanted}; do [ ! -e "$pf_file" ] || printf '%s\\0' "$pf_file"; done >.{hash}.back
    tar --dereference --null -czf {back} -T .{hash}.back && hadoop fs -put -f {back} "${{variable}}"/
    [ ! -e {hash}_job_tag_finished ] || hadoop fs -touchz "${{variable}}"/{hash}_job_tag_finished
    rm -f .{hash}.back {back}
  ) || code=1
"""


def _rows(text: str) -> Listing:
    """Of `yarn application -list`: id, name, type, user, queue, state, final state, progress, address, by tabs."""
    found = Listing()
    for line in text.splitlines():
        columns = [each.strip() for each in line.split("\t")]
        if len(columns) >= 7 and re.fullmatch(_APPLICATION, columns[0]):
            found.add(columns[0], _status(columns[5], columns[6]))
        elif not _is_head(line, columns):
            found.unread.append(line)
    return found


def _is_head(line: str, columns: Sequence[str]) -> bool:
    head = columns[0] == "Application-Id" or line.startswith("Total number of applications")
    return not line.strip() or head or re.match(_LOG_LINE, line) is not None


def _report(text: str) -> Listing:
    """Of `yarn application -status ID`: `name : value` lines."""
    facts = dict(re.findall(r"^\s*([A-Za-z-]+(?: [A-Za-z-]+)*) : (.*)$", text, re.MULTILINE))
    name = facts.get("Application-Id", "").strip()
    if not re.fullmatch(_APPLICATION, name) or "State" not in facts:
        return Listing(unread=[line for line in text.splitlines() if not _is_head(line, line.split("\t"))])
    status = _status(facts["State"].strip(), facts.get("Final-State", "").strip())
    start_s, end_s = _seconds(facts.get("Start-Time", "")), _seconds(facts.get("Finish-Time", ""))
    why = facts.get("Diagnostics", "").strip() if status.state is JobState.waiting else ""
    return Listing({name: replace(status, why=why, start_s=start_s, end_s=end_s)})


def _status(state: str, final: str) -> Status:
    return status_of(f"{state} {final}" if state == "FINISHED" and f"FINISHED {final}" in STATES else state, STATES)


def _seconds(text: str) -> float | None:
    return int(text) / 1000 if text.strip().isdecimal() and int(text) else None


DIALECT = Dialect(
    kind="DistributedShell",
    directives=Directives("#", {}),
    submit="",  # made for each job
    id_in_words=((rf"^Submitted application ({_APPLICATION})$", r"\1"),),
    listing=lambda ids: sh("yarn application -list -appStates ALL"),
    read_listing=_rows,
    lists_all=True,
    probe=lambda ids: sh("yarn application -status {ids}", ids=words(ids)),
    read_probe=_report,
    cancel=lambda ids: sh(
        "code=0; for id in {ids}; do yarn application -kill $id || code=$?; done; exit $code", ids=words(ids)
    ),
    owner=lambda name: name,
    gone=(r"doesn't exist in RM", r"ApplicationNotFoundException", r"has already finished"),
    # Of RetryInvocationHandler, the ResourceManager's scheduler and HDFS.
    busy=(
        "Connection refused",
        "Retrying connect to server",
        "failed on connection exception",
        "SocketTimeoutException",
        "StandbyException",
        "SafeModeException",
        "No route to host",
    ),
    refused=(
        r"unknown queue",
        r"does not have permission",
        r"InvalidResourceRequestException",
        r"Invalid resource request",
    ),
    full=(r"already has \d+ applications", r"AccessControlException.*max.*applications"),
)


class DistributedShell(BatchMachine):
    kind = "DistributedShell"
    aliases: ClassVar[tuple[str, ...]] = ("distributedshell", "yarn")
    dialect = DIALECT
    keys = KeysOfSystem(
        (
            Key("yarn_path", "str", None, "the folder with Hadoop's jar of the distributed shell"),
            Key("img_name", "str", None, "the container's image"),
            Key(
                "mem_limit",
                "int",
                None,
                "GiB of memory of the container; `memory` of the resources goes before",
                least=1,
            ),
        )
    )
    commands = ("hadoop", "yarn")
    login_shell = False
    settle_s = 0.0

    # --- the script -----------------------------------------------------------------------------------------------------

    @property
    def directives(self) -> Directives | None:
        return None

    def script(self, job: JobToPlace) -> dict[str, str]:
        refuse(job.resources, self.kind, _NOTHING_FOR)
        limit, seconds = sh(""), job.resources.walltime_s
        if seconds:
            limit = sh(_LIMIT, seconds=seconds, reason=word(Reason.TIME), file=word(script.reason_file(job.hash)))
        mine = {"hash": word(job.hash), "variable": word(_FOLDER)}
        name, archive = word(f"{job.hash}.{job.attempt}"), word(_archive(job))
        enter = sh(_ENTER, name=name, archive=archive, limit=limit, **mine)
        leave = sh(_LEAVE, wanted=patterns(wanted(job)), back=word(_back(job)), **mine)
        return script.render([], job, stages=script.Stages(enter, leave))

    def client(self, job: JobToPlace, folder: str) -> Text:
        """The command that hands a job over, whose files are in this folder of HDFS."""
        kwargs = job.resources.kwargs
        return sh(
            _CLIENT,
            main=word(_MAIN),
            jar=word(str(kwargs.get("yarn_path") or ".")),
            queue=word(job.resources.queue_name or "default"),
            name=word(application_name(job)),
            image=word(str(kwargs.get("img_name") or "")),
            variable=word(_FOLDER),
            folder=word(folder),
            memory=int(job.resources.memory_mib or (kwargs.get("mem_limit") or 1) * 1024),
            cores=job.resources.cpu_per_node,
            script=place(posixpath.join(job.root, job.script_name)),
        )

    # --- submitting -----------------------------------------------------------------------------------------------------

    def submit(self, context: Context, job: JobToPlace) -> str:
        way = _way(context)
        sent = begin(way, job, f"{way.service_folder(job.root)}/{_archive(job)}")
        try:
            self._send(way, sent, job)
        except (TransientError, ForeignPathError) as error:
            raise MachineBusyError(f"it was not sent: {error.what}", where=error.where) from error
        client = self.client(job, posixpath.dirname(sent.key))
        submit = sh(_SUBMIT, client=client, hash=word(job.hash))
        done = self._run(way, self._noting_id(job, submit), cwd=job.root, once=True)
        if done.code == _STILL_RUNNING or done.code > 128:
            what = f"Hadoop's client has not said which application it is: {done.err.strip()[-300:]}"
            raise MachineBusyError(what, where=self.kind)
        return self._taken(way, job, done)

    def submit_some(self, context: Context, jobs: Sequence[JobToPlace]) -> list[str | PilotfishError]:
        return BatchSystem.submit_some(self, context, jobs)

    @staticmethod
    def _send(way: HDFSContext, sent: SentJob, job: JobToPlace) -> None:
        archive = sent.path("tgz")
        files, folders = way.needed(job.root, patterns_of(job), (job.run_name,))
        with open(archive, "wb") as stream:
            pack(files, stream, compress=True, folders=sorted({*folders, *sent.tasks.values()} - {".", ""}))
        way.upload(sent, archive)
        archive.unlink()

    def find(self, context: Context, jobs: Sequence[JobToPlace]) -> dict[str, str]:
        """Living ones, and of attempts whose id nobody knows also one that is over by now."""
        done = self._run(context, self.dialect.listing([]))
        rows = [[each.strip() for each in line.split("\t")] for line in done.out.splitlines()]
        named = {columns[1]: columns for columns in rows if len(columns) >= 7}
        found: dict[str, str] = {}
        for job in jobs:
            columns = named.get(application_name(job))
            if columns is None or not re.fullmatch(_APPLICATION, columns[0]):
                continue
            unknown = not Path(job.root, job.id_file).exists()
            if unknown or not _status(columns[5], columns[6]).state.ended:
                found[job.hash] = columns[0]
        unread = self.dialect.read_listing(done.out).unread
        if len(found) < len(jobs) and (done.code or unread):
            raise MachineBusyError((done.err.strip() or (unread or [""])[0])[-500:], where="yarn application -list")
        self._keep(context, found, jobs)
        return found

    @staticmethod
    def _keep(context: Context, found: dict[str, str], jobs: Sequence[JobToPlace]) -> None:
        for job in jobs:
            sent = _way(context).begun(job.root, job.hash, job.attempt)
            if job.hash in found and sent is not None and not sent.id:
                _way(context).keep_id(sent, found[job.hash])

    # --- asking ---------------------------------------------------------------------------------------------------------

    def query(self, context: Context, ids: Sequence[str]) -> Listing:
        told = super().query(context, ids)
        way = _way(context)
        for name in ids:
            status = told.get(name)
            over = name not in told.doubted and (status is None or status.state.ended)
            sent = way.sent(name) if over else None
            if sent is None or sent.returned:
                continue
            try:
                self._bring_back(way, sent)
            except TransientError as error:
                told[name] = Status(JobState.unknown, f"not known now: {error.what}")
                told.unclear.add(name)
        return told

    def _bring_back(self, way: HDFSContext, sent: SentJob) -> None:
        """Raises TransferError: try again."""
        archive = sent.path("back.tgz")
        folder = way.service_folder(sent.root)
        if way.download(f"{folder}/{posixpath.basename(folder)}_{sent.job}_download.tar.gz", archive):
            try:
                take_back(archive, sent)
            except ForeignPathError as error:
                note_refusal(sent, error.what)
            archive.unlink(missing_ok=True)
        sent.returned = True
        sent.save()


def application_name(job: JobToPlace) -> str:
    """DPDispatcher's, and which submission and attempt it is: by its name it is found again when its id got lost."""
    return f"distributedshell_dpgen_{job.hash}.{posixpath.basename(job.root)[:8]}.{job.attempt}"


def _archive(job: JobToPlace) -> str:
    return f"{job.hash}.{job.attempt}_upload.tgz"


def _back(job: JobToPlace) -> str:
    return f"{posixpath.basename(job.root)}_{job.hash}_download.tar.gz"


def _way(context: Any) -> HDFSContext:
    assert isinstance(context, HDFSContext)
    return context
