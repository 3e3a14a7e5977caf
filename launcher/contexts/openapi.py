"""Bohrium's newer service (OpenAPI), with an access key; each job has a store of its own for its files."""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

from ...pilot.model.errors import PilotfishError
from ..description.schema import DescriptionError
from ..description.secrets import resolve
from .base import Finding
from .http import Http, ServiceError, ServiceRefusedError, UnsureError, text_of
from .staged import SentJob, StagedContext

# The variables are those of bohrium-sdk and DPDispatcher.
_HOST = ("BOHRIUM_BASE_URL", "https://openapi.dp.tech")
_STORE = ("TIEFBLUE_BASE_URL", "https://tiefblue.dp.tech")
_SANDBOX = "BOHRIUM_USE_SANDBOX"
_WELL = ("0", "0000")
_PASSING = ("2000", "2001", "2003", "2301", "2400")


class OpenAPIContext(StagedContext):
    """Each request has the access key with it."""

    kind = "OpenAPIContext"
    part_bytes: ClassVar[int] = 50 << 20
    """Of an archive of two parts or more; a smaller one goes at once."""

    def __init__(self, local_root: Path, remote_root: str | None, profile: Mapping[str, Any]) -> None:
        super().__init__(local_root, remote_root, profile)
        self.http = Http(float(profile.get("timeout", 30)))

    @property
    def project_id(self) -> int | str:
        """The project that is charged. Raises DescriptionError."""
        found = self._given("project_id")
        return int(found) if isinstance(found, str) and found.isdecimal() else found

    def _given(self, name: str, *, required: bool = True) -> Any:
        """A key of the profile, or what DPDispatcher takes for it from the environment."""
        found = self.profile.get(name) or os.environ.get(f"BOHRIUM_{name.upper()}") or os.environ.get(name.upper())
        if not found and required:
            variable = f"BOHRIUM_{name.upper()}"
            what = f"remote_profile must contain '{name}' or set environment variable '{variable}'"
            raise DescriptionError(what, where=f"machine.remote_profile.{name}")
        return found

    def check_profile(self) -> None:
        self._given("access_key")
        self._given("project_id")

    def close(self) -> None:
        self.http.close()

    # --- requests ---------------------------------------------------------------------------------------------------------

    def call(self, method: str, path: str, *, once: bool = False, **more: Any) -> dict[str, Any]:
        """The data of an answer; `path` is `v1/job/...`. `once`: the request must not have its effect twice.

        Raises ServiceError, UnsureError (with `once`: it may have had its effect), ServiceRefusedError, DescriptionError.
        """
        where = "machine.remote_profile"
        key = resolve(str(self._given("access_key")), f"{where}.access_key")
        headers = {"Authorization": f"Bearer {key}"}
        if app_key := self._given("app_key", required=False):
            headers["x-app-key"] = resolve(str(app_key), f"{where}.app_key")
        params = {"accessKey": key, **more.pop("params", {})}
        url = f"{_setting(_HOST)}/openapi/{_in_sandbox(path)}"
        answer = self.http.json(method, url, once=once, headers=headers, params=params, **more)
        return _data(answer, path, once)

    # --- files ------------------------------------------------------------------------------------------------------------

    def upload(self, sent: SentJob, archive: Path) -> None:
        """Bring an archive to the job's store, whose address and token are in `sent.ticket`."""
        host = str(sent.ticket.get("host") or _setting(_STORE)).rstrip("/")
        token = {"Authorization": f"Bearer {sent.ticket.get('token', '')}"}
        option = {"contentDisposition": f'attachment; filename="{archive.name}"'}
        size = archive.stat().st_size
        if size < 2 * self.part_bytes:
            param: dict[str, Any] = {"path": sent.key, "option": option}
            self._store(f"{host}/api/upload/binary", token, param, content=archive.read_bytes())
            return
        if not sent.upload:
            begun = self._store(f"{host}/api/upload/multipart/init", token, json={"path": sent.key, "option": option})
            sent.upload, sent.parts = text_of(begun, "initialKey", host), {}
            sent.save()
        with open(archive, "rb") as file:
            for number, begin in enumerate(range(0, size, self.part_bytes), start=1):
                if str(number) in sent.parts:
                    continue
                file.seek(begin)
                content = file.read(self.part_bytes)
                param = {"initialKey": sent.upload, "number": number, "partSize": len(content), "objectKey": sent.key}
                done = self._store(f"{host}/api/upload/multipart/upload", token, param, content=content)
                sent.parts[str(number)] = text_of(done, "partString", host)
                sent.save()
        parts = [sent.parts[number] for number in sorted(sent.parts, key=int)]
        body = {"path": sent.key, "initialKey": sent.upload, "partString": parts}
        self._store(f"{host}/api/upload/multipart/complete", token, json=body)

    def _store(self, url: str, token: Mapping[str, str], param: Any = None, **more: Any) -> dict[str, Any]:
        headers = dict(token)
        if param is not None:
            headers["X-Storage-Param"] = base64.b64encode(json.dumps(param).encode()).decode()
        return _data(self.http.json("POST", url, headers=headers, **more), url, once=False)

    def download(self, url: str, target: Path) -> None:
        """Bring a result here; its address is signed."""
        self.http.download(url, target)

    def examine(self) -> Iterator[Finding]:
        try:
            self._given("project_id")
            self.call("GET", "v1/job/0")
        except ServiceRefusedError as error:
            if error.status in (401, 403):
                yield Finding("connection", False, str(error), "is the access key right, and still valid?")
                return
        except PilotfishError as error:
            remedy = f"is {_setting(_HOST)} right, and the network?"
            yield Finding("connection", False, str(error), error.remedy or remedy)
            return
        yield Finding("connection", True, f"{_setting(_HOST)} answers")


def _setting(named: tuple[str, str]) -> str:
    return (os.environ.get(named[0]) or named[1]).rstrip("/")


def _in_sandbox(path: str) -> str:
    if os.environ.get(_SANDBOX) not in ("1", "true"):
        return path
    return f"v1/sandbox/{path.partition('/')[2]}"


def _data(answer: Mapping[str, Any], where: str, once: bool) -> dict[str, Any]:
    code = str(answer.get("code", 0))
    if code not in _WELL:
        words = answer.get("message") or answer.get("error") or ""
        what = f"code {code}: {str(words)[:300]}"
        if code in _PASSING:
            raise (UnsureError if once else ServiceError)(what, where=where)
        raise ServiceRefusedError(what, where=where, said=code)
    data = answer.get("data")
    return data if isinstance(data, dict) else {}
