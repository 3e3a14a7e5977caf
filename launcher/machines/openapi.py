"""OpenAPI: Bohrium's newer service.

A job is created first, which gives its id and a store for its files, and started by a second request that names that id:
however often it is sent there is one job.
"""

from __future__ import annotations

import posixpath
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from ...pilot.model.errors import TransientError
from ..contexts.base import Context
from ..contexts.http import ServiceRefusedError, number_of, text_of
from ..contexts.openapi import OpenAPIContext
from ..contexts.staged import SentJob, StagedContext
from ..job.spec import JobToPlace
from ..job.states import JobState, Status
from .service import Service, status_of
from .staging import wanted

_LOG = {"logFile": "STDOUTERR", "page": -1, "pageSize": 8192}


class OpenAPI(Service):
    """Ids are numbers."""

    kind = "OpenAPI"
    aliases: ClassVar[tuple[str, ...]] = ("openapi",)
    no_such = ("2300",)

    # --- submitting -----------------------------------------------------------------------------------------------------

    def new_key(self, context: StagedContext, job: JobToPlace) -> str:
        return ""  # the service says where

    def send(self, context: StagedContext, sent: SentJob, job: JobToPlace, archive: Path) -> None:
        way = _way(context)
        for fresh in (False, True):
            if fresh or "id" not in sent.ticket:
                self._create(way, sent, job)
            try:
                way.upload(sent, archive)
                return
            except ServiceRefusedError as error:  # the token for the store, or the transfer, is too old
                if fresh or sent.asked_s is not None or error.status not in (401, 403, 404):
                    raise

    def _create(self, way: OpenAPIContext, sent: SentJob, job: JobToPlace) -> None:
        """One that is created and never started does nothing, and costs nothing."""
        body: dict[str, Any] = {"projectId": way.project_id, "name": way.profile.get("job_name", "DP-GEN")}
        if (group := self._group(way, sent)) is not None:
            body["bohrGroupId"] = group
        where = "v1/job/create"
        data = way.call("POST", where, json=body)
        store = text_of(data, "storePath", where)
        sent.ticket = {"id": number_of(data, "jobId", where), "token": data.get("token") or "", "store": store}
        sent.ticket |= {"host": data.get("storeHost") or "", "group": data.get("jobGroupId") or 0}
        sent.key, sent.upload, sent.parts = posixpath.join(store, f"{job.hash}.zip"), "", {}
        sent.save()

    def _group(self, way: OpenAPIContext, sent: SentJob) -> int | None:
        if not way.profile.get("grouped", True):
            return None
        return next((other.ticket["group"] for other in way.beside(sent) if other.ticket.get("group")), None)

    def ask(self, context: StagedContext, sent: SentJob, job: JobToPlace) -> str:
        way, again = _way(context), sent.asked_s is not None
        sent.asked_s = self.clock()
        sent.save()
        try:
            data = way.call("POST", "v2/job/add", once=True, json=self.request(way, sent, job))
        except ServiceRefusedError:
            if again and self._has_started(way, sent):
                return str(sent.ticket["id"])
            raise
        return str(data.get("jobId") or sent.ticket["id"])

    def _has_started(self, way: OpenAPIContext, sent: SentJob) -> bool:
        """Whether an earlier request, whose answer got lost, has started it."""
        try:
            return self.status(way, self.detail(way, str(sent.ticket["id"]))).state is not JobState.unknown
        except (TransientError, ServiceRefusedError):
            return False

    def request(self, way: OpenAPIContext, sent: SentJob, job: JobToPlace) -> dict[str, Any]:
        """What the service is asked for; names and values are those of DPDispatcher."""
        profile = way.profile
        found: dict[str, Any] = {
            "ossPath": [sent.key],
            "inputFileType": 3,
            "inputFileMethod": 1,
            "jobType": "container",
            "jobName": profile.get("job_name", "DP-GEN"),
            "projectId": way.project_id,
            "scassType": profile.get("machine_type", ""),
            "cmd": self.command(job),
            "outFiles": wanted(job),
            "platform": profile.get("platform", "ali"),
            "imageName": profile.get("image_address", ""),
        }
        log = job.tasks[0].outlog
        if log is not None:
            found["logFiles"] = [posixpath.join(job.tasks[0].task_work_path, log)]
        for key, name in (("real_user_id", "realUserId"), ("session_id", "sessionId")):
            if profile.get(key) is not None:
                found[name] = profile[key]
        return found | {"jobId": sent.ticket["id"]}

    # --- asking ---------------------------------------------------------------------------------------------------------

    def detail(self, context: StagedContext, job_id: str) -> dict[str, Any]:
        return _way(context).call("GET", f"v1/job/{_number(job_id)}")

    def status(self, context: StagedContext, detail: Mapping[str, Any]) -> Status:
        exit_code = number_of(detail, "exitCode", "job") if detail.get("exitCode") is not None else None
        ignored = bool(context.profile.get("ignore_exit_code", True))
        return status_of(number_of(detail, "status", "job"), exit_code, ignored)

    def end(self, context: StagedContext, job_id: str) -> None:
        _way(context).call("POST", f"v1/job/kill/{_number(job_id)}")

    def fetch(self, context: StagedContext, url: str, target: Path) -> None:
        _way(context).download(url, target)

    def tells_output(self, context: StagedContext) -> bool:
        return bool(context.profile.get("output_log"))

    def log(self, context: StagedContext, job_id: str, sent: SentJob) -> str:
        """The service gives the last page only; what it has in common with the one before is not new."""
        kept = Path(sent.root, f"{sent.job}.out")
        text = _way(context).call("GET", f"v1/job/{_number(job_id)}/log", params=_LOG).get("log")
        if not isinstance(text, str):
            return ""
        before = kept.read_text(errors="replace") if kept.exists() else ""
        common = next((n for n in range(min(len(text), len(before)), 0, -1) if before.endswith(text[:n])), 0)
        with open(kept, "a") as file:
            file.write(text[common:])
        return text[common:]


def _way(context: Context) -> OpenAPIContext:
    assert isinstance(context, OpenAPIContext)
    return context


def _number(job_id: str) -> int:
    if not job_id.isdecimal():
        raise ServiceRefusedError(f"{job_id!r} is no id of a job", where="OpenAPI", status=404)
    return int(job_id)
