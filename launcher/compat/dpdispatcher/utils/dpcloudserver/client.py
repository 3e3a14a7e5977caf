"""`Client`: requests to the cloud server by scripts that do without machines and submissions."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ......pilot.model.errors import PilotfishError
from .....contexts.bohrium import BohriumContext
from .....machines.bohrium import camel

_GROUP = ":job_group_id:"


class RequestInfoException(Exception):
    """A request has failed; its text says which, and why."""


class _Way(BohriumContext):
    """The way to the service, by a ticket of the program's own where it has one."""

    ticket = ""

    def _headers(self, token: str, fresh: bool) -> dict[str, str]:
        return {"Brm-Ticket": self.ticket} if self.ticket else super()._headers(token, fresh)


class Client:
    """The service for jobs at Bohrium; logs in with the first request, and again when the token has expired.

    Args:
        email, password: of the account; the password may be a reference, `env:NAME`.
        ticket: instead of both; the variable BOHR_TICKET is taken too.

    The address is `DPDISPATCHER_LEBESGUE_API_HOST`. Methods raise RequestInfoException.
    """

    def __init__(
        self, email: str | None = None, password: str | None = None, debug: bool = False, ticket: str | None = None
    ) -> None:
        self.config = {"email": email, "password": password}
        self._way = _Way(Path.cwd(), None, {"email": email, "password": password, "program_id": 0})
        self._way.ticket = ticket or ""
        self._have: dict[str, int] = {}
        """Bytes of each job's log that were given."""

    def post(self, url: str, data: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """The `data` of the answer."""
        return self._called("POST", url, json=dict(data or {}))

    def get(self, url: str, params: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """The `data` of the answer."""
        return self._called("GET", url, params=dict(params or {}))

    def _called(self, method: str, url: str, **more: Any) -> dict[str, Any]:
        try:
            return self._way.call(method, f"/{url.lstrip('/')}", **more)
        except PilotfishError as error:
            raise RequestInfoException(getattr(error, "status", 0), url, error.what) from error

    def refresh_token(self, retry: int = 3) -> None:
        """Log in now. It is done by itself when it is needed."""
        self.get("/data/get_sts_token")

    def job_create(
        self,
        job_type: str,
        oss_path: str | list[str],
        input_data: Mapping[str, Any],
        program_id: int | None = None,
        group_id: int | None = None,
    ) -> tuple[int, int | None]:
        """Ask for a job; (its id, that of its group)."""
        more = {"project_id": program_id, "job_group_id": group_id}
        sent = {
            "job_type": job_type,
            "oss_path": oss_path,
            **{key: each for key, each in more.items() if each is not None},
        }
        sent |= input_data
        for ours, theirs in (("backward_files", "out_files"), ("command", "cmd"), ("machine_type", "scass_type")):
            if input_data.get(ours):
                sent[theirs] = input_data[ours]
        logs = input_data.get("logFiles", input_data.get("log_files", input_data.get("log_file")))
        if isinstance(logs, str):
            sent["log_files"] = [logs]
        if sent.get("checkpoint_files") == "sync_files":
            sent["checkpoint_files"] = ["*"]
        answer = self.post("/brm/v2/job/add", {camel(name): value for name, value in sent.items()})
        return answer["jobId"], answer.get("jobGroupId")

    def get_job_detail(self, job_id: str | int) -> dict[str, Any]:
        return self.get(f"/brm/v1/job/{job_id}")

    def get_job_result_url(self, job_id: str | int) -> str | None:
        """Where its results are; None while there are none. The id may be `JOB:job_group_id:GROUP`."""
        return self.get_job_detail(str(job_id).partition(_GROUP)[0]).get("resultUrl") or None

    def get_log(self, job_id: str | int) -> str:
        """What it has printed since this was called last."""
        files = self.get(f"/brm/v1/job/{job_id}/log", {"pageSize": 1}).get("logFiles") or []
        have = self._have.get(str(job_id), 0)
        if not files or int(files[0].get("size", 0)) <= have:
            return ""
        try:
            new = self._way.http.tail(str(files[0]["url"]), have)
        except PilotfishError as error:
            raise RequestInfoException(0, f"log of job {job_id}", error.what) from error
        self._have[str(job_id)] = have + len(new)
        return new.decode(errors="replace")

    def get_tasks_list(self, group_id: int, per_page: int = 30) -> list[dict[str, Any]]:
        """The jobs of a group."""
        found: list[dict[str, Any]] = []
        while True:
            page = {"groupId": group_id, "page": len(found) // per_page, "pageSize": per_page}
            items = self.get("/brm/v1/job/list", page).get("items") or []
            found += items
            if len(items) < per_page:
                return found

    def kill(self, job_id: str | int) -> dict[str, Any]:
        return self.post(f"/brm/v1/job/kill/{job_id}")

    def download_from_url(self, url: str, save_file: str | os.PathLike[str]) -> None:
        """Bring a result here, whole or not at all."""
        try:
            self._way.download(url, Path(save_file))
        except PilotfishError as error:
            raise RequestInfoException(0, url, error.what) from error
