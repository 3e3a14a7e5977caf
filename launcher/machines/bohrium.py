"""Bohrium (Lebesgue, DpCloudServer): jobs by its first service, `brm/v2/job/add` and others.

Its one request both makes a job and gives the id, so an answer that gets lost leaves a job whose id nobody knows. Each archive
has an address that no other has, and the job has it in its input: by that the job is found in the list.
"""

from __future__ import annotations

import copy
import posixpath
import re
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from ...pilot.model.errors import TransientError
from ..contexts.base import Context
from ..contexts.bohrium import BohriumContext
from ..contexts.http import ServiceRefusedError, UnsureError, number_of
from ..contexts.staged import SentJob, StagedContext
from ..job.spec import JobToPlace
from ..job.states import Status
from .base import MachineBusyError
from .service import Service, echoes, status_of
from .staging import wanted

_GROUP = ":job_group_id:"
_PAGE = 30
_MOST_PAGES = 200
_ASKED_ONE_BY_ONE = 100
"""Jobs of a list that does not tell what they were made of; the newest."""
APPEARS_S = 60.0
"""So long a job may take to be in the list after it was asked for."""


class Bohrium(Service):
    """Ids are `JOB:job_group_id:GROUP`."""

    kind = "Bohrium"
    aliases: ClassVar[tuple[str, ...]] = ("bohrium", "lebesgue", "dpcloudserver")
    no_such = ("2300",)  # NODATA

    # --- submitting -----------------------------------------------------------------------------------------------------

    def new_key(self, context: StagedContext, job: JobToPlace) -> str:
        return f"program/{_way(context).program_id}/{uuid.uuid4()}/{job.hash}.zip"

    def send(self, context: StagedContext, sent: SentJob, job: JobToPlace, archive: Path) -> None:
        _way(context).upload(sent, archive)

    def ask(self, context: StagedContext, sent: SentJob, job: JobToPlace) -> str:
        way = _way(context)
        sent.asked_s = self.clock()
        sent.save()
        try:
            data = way.call("POST", "/brm/v2/job/add", once=True, json=self.request(way, sent, job))
            job_id = number_of(data, "jobId", "/brm/v2/job/add")
        except ServiceRefusedError:
            sent.asked_s = None
            sent.save()
            raise
        except UnsureError:
            raise
        except TransientError as error:  # before it was sent, or an answer without an id: the list knows
            raise UnsureError(error.what, where=error.where) from error
        return f"{job_id}{_GROUP}{data.get('jobGroupId')}"

    def request(self, way: BohriumContext, sent: SentJob, job: JobToPlace) -> dict[str, Any]:
        """What the service is asked for; names and values are those of DPDispatcher."""
        given = copy.deepcopy(_input(way))
        given["job_resources"] = [*(given.get("job_resources") or []), way.address(sent.key)]
        given["command"] = self.command(job)
        given["backward_files"] = _back(job, given.get("backward_files"))
        log = job.tasks[0].outlog
        if log is not None:
            given["logFiles"] = posixpath.join(job.tasks[0].task_work_path, log)
        found: dict[str, Any] = {"job_type": given.get("job_type"), "oss_path": given["job_resources"]}
        found["project_id"] = way.program_id
        if (group := self._group(way, sent)) is not None:
            found["job_group_id"] = group
        found |= given
        found |= {"out_files": given["backward_files"], "cmd": given["command"]}
        if given.get("machine_type"):
            found["scass_type"] = given["machine_type"]
        logs = given.get("logFiles", given.get("log_files", given.get("log_file")))
        found.pop("log_files", None)
        if logs:
            found["logFiles"] = [logs] if isinstance(logs, str) else logs
        if found.get("checkpoint_files") == "sync_files":
            found["checkpoint_files"] = ["*"]
        return {camel(name): value for name, value in found.items()}

    def _group(self, way: BohriumContext, sent: SentJob) -> int | None:
        """The group of the jobs of this submission that are there, where they shall have one."""
        if not _input(way).get("grouped"):
            return None
        for other in way.beside(sent):
            group = other.id.partition(_GROUP)[2]
            if group.isdecimal():
                return int(group)
        return None

    def find(self, context: Context, jobs: Sequence[JobToPlace]) -> dict[str, str]:
        way = _way(context)
        begun = [way.begun(job.root, job.hash, job.attempt) for job in jobs]
        doubtful = [sent for sent in begun if sent is not None and not sent.id and sent.asked_s is not None]
        if not doubtful:
            return {}
        try:
            found = self._find_in_list(way, doubtful)
        except (TransientError, ServiceRefusedError) as error:
            raise MachineBusyError(f"cannot see which jobs were taken: {error.what}", where=error.where) from error
        for sent in doubtful:
            if sent.job in found:
                way.keep_id(sent, found[sent.job])
            elif self.clock() - (sent.asked_s or 0.0) < APPEARS_S:
                raise MachineBusyError("it may still appear in the list", where=f"job {sent.job[:8]}")
            else:
                sent.asked_s = None
                sent.save()
        return found

    def _find_in_list(self, way: BohriumContext, doubtful: Sequence[SentJob]) -> dict[str, str]:
        known = {sent.id.partition(_GROUP)[0] for sent in way.all_sent()}
        items = [item for item in self._list(way) if str(item.get("id")) not in known]
        items.sort(key=lambda item: -number_of(item, "id", "/brm/v1/job/list"))
        found: dict[str, str] = {}
        asked = 0
        for item in items:
            told = item
            if not echoes(item, "program/") and asked < _ASKED_ONE_BY_ONE:
                asked += 1
                told = {**item, **self.detail(way, str(item["id"]))}
            for sent in doubtful:
                if echoes(told, sent.key) or (not echoes(told, "program/") and echoes(told, f".{sent.job}.sub")):
                    found.setdefault(sent.job, f"{item['id']}{_GROUP}{told.get('jobGroupId')}")
        return found

    def _list(self, way: BohriumContext) -> list[dict[str, Any]]:
        items: list[dict[str, Any]] = []
        for page in range(_MOST_PAGES):
            data = way.call("GET", "/brm/v1/job/list", params={"page": page, "pageSize": _PAGE})
            rows = data.get("items")
            if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
                raise MachineBusyError("has answered without a list of jobs", where="/brm/v1/job/list")
            if not rows or rows == items[-len(rows) :]:  # the last page, or one that comes again and again
                break
            items += rows
        return items

    # --- asking ---------------------------------------------------------------------------------------------------------

    def detail(self, context: StagedContext, job_id: str) -> dict[str, Any]:
        return _way(context).call("GET", f"/brm/v1/job/{_number(job_id)}")

    def status(self, context: StagedContext, detail: Mapping[str, Any]) -> Status:
        code = detail.get("exitCode")
        exit_code = number_of(detail, "exitCode", "job") if code is not None else None
        ignored = context.profile.get("ignore_exit_code", True) and bool(exit_code)
        return status_of(number_of(detail, "status", "job"), exit_code, ignored)

    def end(self, context: StagedContext, job_id: str) -> None:
        _way(context).call("POST", f"/brm/v1/job/kill/{_number(job_id)}", json={})

    def fetch(self, context: StagedContext, url: str, target: Path) -> None:
        _way(context).download(url, target)

    def tells_output(self, context: StagedContext) -> bool:
        return bool(_input(context).get("output_log"))

    def log(self, context: StagedContext, job_id: str, sent: SentJob) -> str:
        way, kept = _way(context), Path(sent.root, f"{sent.job}.out")
        data = way.call("GET", f"/brm/v1/job/{_number(job_id)}/log", params={"pageSize": 1})
        files = data.get("logFiles")
        if not isinstance(files, list) or not files or not isinstance(files[0], dict):
            return ""
        url, size, have = files[0].get("url"), files[0].get("size"), kept.stat().st_size if kept.exists() else 0
        if not isinstance(url, str) or not isinstance(size, int) or have >= size:
            return ""
        new = way.http.tail(url, have)
        with open(kept, "ab") as file:
            file.write(new)
        return new.decode(errors="replace")


def _way(context: Context) -> BohriumContext:
    assert isinstance(context, BohriumContext)
    return context


def _input(context: StagedContext) -> dict[str, Any]:
    return dict(context.profile["input_data"])


def _number(job_id: str) -> int:
    number = job_id.partition(_GROUP)[0]
    if not number.isdecimal():
        raise ServiceRefusedError(f"{job_id!r} is no id of a job", where="Bohrium", status=404)
    return int(number)


def _back(job: JobToPlace, given: Sequence[str] | None) -> list[str]:
    """A list of the user's own replaces that of the tasks' results."""
    if not given:
        return wanted(job)
    own = {posixpath.join(task.task_work_path, name) for task in job.tasks for name in task.backward_files}
    return list(dict.fromkeys([*given, *(name for name in wanted(job) if name not in own)]))


def camel(name: str) -> str:
    """`job_type` -> `jobType`; names in capitals stay."""
    if name.isupper() or name.isnumeric():
        return name
    if not name[:2].isupper():
        name = name[:1].lower() + name[1:]
    return re.sub(r"(?<=[^\-_\s])[\-_\s]+([^\-_\s])", lambda found: found[1].upper(), name)
