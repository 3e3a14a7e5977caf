"""Bohrium (earlier Lebesgue, DP cloud server): its service for jobs, and the object storage through which their files go."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urljoin

from ...pilot.model.errors import PilotfishError, UsageError
from ..description.schema import DescriptionError
from ..description.secrets import resolve
from .base import Finding
from .http import Http, ServiceError, ServiceRefusedError, UnsureError, text_of
from .oss import Bucket
from .staged import SentJob, StagedContext

# The variables are those of DPDispatcher. There the endpoint is by default reached without TLS.
_HOST = ("DPDISPATCHER_LEBESGUE_API_HOST", "https://bohrium.dp.tech/")
_ENDPOINT = ("DPDISPATCHER_LEBESGUE_ALI_STS_ENDPOINT", "https://oss-cn-shenzhen.aliyuncs.com")
_BUCKET = ("DPDISPATCHER_LEBESGUE_ALI_STS_BUCKET_NAME", "dpcloudserver")
_BUCKET_URL = ("DPDISPATCHER_LEBESGUE_ALI_OSS_BUCKET_URL", "https://dpcloudserver.oss-cn-shenzhen.aliyuncs.com/")
_TICKET = "BOHR_TICKET"
_WELL = ("0", "0000")
_PASSING = ("2000", "2001", "2003", "2301", "2400")
"""Of its codes: DBERR, THIRDERR, IOERR, UNDERDEBUG, UNKOWNERR. They may be gone the next time."""


class BohriumContext(StagedContext):
    """Logs in with the first request, and again when the token has expired."""

    kind = "BohriumContext"

    def __init__(self, local_root: Path, remote_root: str | None, profile: Mapping[str, Any]) -> None:
        super().__init__(local_root, remote_root, profile)
        self.http = Http(float(profile.get("timeout", 30)))
        self._token = ""
        self._login = threading.Lock()
        self._bucket: Bucket | None = None

    @property
    def program_id(self) -> int:
        return int(self.profile["program_id"])

    def close(self) -> None:
        self.http.close()

    # --- requests ---------------------------------------------------------------------------------------------------------

    def call(self, method: str, path: str, *, once: bool = False, **more: Any) -> dict[str, Any]:
        """The data of an answer. `once`: the request must not have its effect twice.

        Raises ServiceError, UnsureError (with `once`: it may have had its effect), ServiceRefusedError, UsageError when nobody
        can log in.
        """
        url, token = urljoin(_setting(_HOST), path), self._token
        for fresh in (False, True):
            headers = self._headers(token, fresh)
            try:
                answer = self.http.json(method, url, once=once, headers=headers, **more)
            except ServiceRefusedError as error:
                if fresh or error.status not in (401, 403):
                    raise
                token = self._token
                continue
            code = str(answer.get("code"))
            if code in _WELL:
                data = answer.get("data")
                return data if isinstance(data, dict) else {}
            if fresh or "code" not in answer:
                raise _refusal(answer, code, path, once)
            token = self._token  # an expired token has had several codes
        raise AssertionError  # the second time returns or raises

    def _headers(self, token: str, fresh: bool) -> dict[str, str]:
        ticket = os.environ.get(_TICKET, "")
        if not ticket:
            with self._login:
                if not self._token or (fresh and token == self._token):
                    self._token = self._new_token()
        return {"Brm-Ticket": ticket} if ticket else {"Authorization": f"jwt {self._token}"}

    def check_profile(self) -> None:
        given, where = self.profile["input_data"], "machine.remote_profile.input_data"
        for name in ("api_version", "lebesgue_version"):
            if given.get(name) == 1:
                raise DescriptionError("version 1 is gone", where=f"{where}.{name}", remedy="use version 2 instead")
        if not given.get("job_type"):
            raise DescriptionError("key 'job_type' is required", where=where, remedy="it is `container`, or `indicate`")
        if not os.environ.get(_TICKET):
            self._account()

    def _account(self) -> tuple[str, str]:
        """(who logs in, the password or where it is)."""
        where, mend = "machine.remote_profile", "please check your machine file"
        account, password = self.profile.get("email") or self.profile.get("phone"), self.profile.get("password")
        if not account:
            what = f"can not find email/phone number in remote_profile, {mend}"
            raise DescriptionError(what, where=where, remedy=f"write it, or set {_TICKET}")
        if not password:
            remedy = "passwords are in no record: write env:NAME or file:PATH"
            raise DescriptionError(f"can not find password in remote_profile, {mend}", where=where, remedy=remedy)
        return str(account), str(password)

    def _new_token(self) -> str:
        where = "machine.remote_profile"
        account, password = self._account()
        body = {"email": account, "password": resolve(password, f"{where}.password")}
        try:
            answer = self.http.json("POST", urljoin(_setting(_HOST), "/account/login"), json=body)
            if str(answer.get("code")) not in _WELL:
                raise _refusal(answer, str(answer.get("code")), "/account/login", once=False)
        except ServiceRefusedError as error:
            raise UsageError(f"the login was refused: {error.what}", where=where, remedy="email, password?") from error
        data = answer.get("data")
        return text_of(data if isinstance(data, dict) else {}, "token", "/account/login")

    # --- files ------------------------------------------------------------------------------------------------------------

    def address(self, key: str) -> str:
        """Where jobs find an archive."""
        return _setting(_BUCKET_URL) + key

    def upload(self, sent: SentJob, archive: Path) -> None:
        """Bring an archive to the object storage. Raises ServiceError, ServiceRefusedError."""
        if self._bucket is None:
            self._bucket = Bucket(self.http, _setting(_ENDPOINT), _setting(_BUCKET), self._keys)
        self._bucket.upload(sent, archive)

    def _keys(self) -> dict[str, str]:
        path = "/data/get_sts_token"
        data = self.call("GET", path)
        return {name: text_of(data, name, path) for name in ("AccessKeyId", "AccessKeySecret", "SecurityToken")}

    def download(self, url: str, target: Path) -> None:
        """Bring a result here. Its address is signed; the token goes only to the service's own hosts."""
        own = url.startswith(_setting(_HOST))
        self.http.download(url, target, {"Authorization": f"jwt {self._token}"} if own and self._token else {})

    def examine(self) -> Iterator[Finding]:
        try:
            self.call("GET", "/data/get_sts_token")
            yield Finding("connection", True, f"{_setting(_HOST)} lets us in, and lends keys for its storage")
        except PilotfishError as error:
            known = isinstance(error, ServiceError)
            remedy = f"is {_setting(_HOST)} right, and the network?" if known else "email, password, program_id?"
            yield Finding("connection", False, str(error), error.remedy or remedy)


def _setting(named: tuple[str, str]) -> str:
    return os.environ.get(named[0]) or named[1]


def _refusal(answer: Mapping[str, Any], code: str, path: str, once: bool) -> PilotfishError:
    words = answer.get("message") or answer.get("error") or ""
    what = f"code {code}: {str(words)[:300]}" if "code" in answer else "has answered without a code"
    if code in _PASSING or "code" not in answer:
        return (UnsureError if once else ServiceError)(what, where=path)
    return ServiceRefusedError(what, where=path, said=code)
