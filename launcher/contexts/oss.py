"""Object storage of Alibaba (OSS), with the keys of a day that Bohrium lends: an upload in parts that goes on where it stopped.

Requests and signatures are those of the OSS API (version 1: HMAC-SHA1 in the `Authorization` header).
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import ipaddress
import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from email.utils import formatdate
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from .http import Http, ServiceError, ServiceRefusedError
from .staged import SentJob

if TYPE_CHECKING:
    import httpx

PART_BYTES = 1000 * 1024
_MOST_PARTS = 10_000
_XML = "application/xml"


class Bucket:
    """One bucket.

    Args:
        keys: gives AccessKeyId, AccessKeySecret and SecurityToken; asked again when they have expired.
    """

    def __init__(self, http: Http, endpoint: str, name: str, keys: Callable[[], Mapping[str, str]]) -> None:
        self._http = http
        self._scheme, _, self._host = (endpoint if "//" in endpoint else f"https://{endpoint}").partition("://")
        self._name = name
        self._new_keys = keys
        self._keys: Mapping[str, str] | None = None

    def upload(self, sent: SentJob, archive: Path) -> None:
        """Let the archive be there as `sent.key`; each part that has arrived is noted in `sent`."""
        size = archive.stat().st_size
        part_bytes = max(PART_BYTES, -(-size // _MOST_PARTS))
        for left in (1, 0):
            if not sent.upload:
                answer = self._send("POST", sent.key, {"uploads": ""})
                sent.upload, sent.parts = _element(answer, "UploadId"), {}
                sent.save()
            try:
                self._send_parts(sent, archive, size, part_bytes)
                return
            except ServiceRefusedError as error:
                if error.status != 404:
                    raise
                if self._is_there(sent.key, size):  # its last answer got lost
                    return
                sent.upload, sent.parts = "", {}  # it was so long ago that the service has forgotten
                if not left:
                    raise

    def _send_parts(self, sent: SentJob, archive: Path, size: int, part_bytes: int) -> None:
        with open(archive, "rb") as file:
            for number, begin in enumerate(range(0, size, part_bytes), start=1):
                if str(number) in sent.parts:
                    continue
                file.seek(begin)
                query = {"partNumber": str(number), "uploadId": sent.upload}
                answer = self._send("PUT", sent.key, query, file.read(part_bytes))
                sent.parts[str(number)] = _plain_mark(answer.headers.get("ETag", ""))
                sent.save()
        numbers = sorted(sent.parts, key=int)
        rows = "".join(f"<Part><PartNumber>{n}</PartNumber><ETag>{sent.parts[n]}</ETag></Part>" for n in numbers)
        body = f"<CompleteMultipartUpload>{rows}</CompleteMultipartUpload>".encode()
        self._send("POST", sent.key, {"uploadId": sent.upload}, body, _XML)

    def _is_there(self, key: str, size: int) -> bool:
        with suppress(ServiceRefusedError):
            return str(self._send("HEAD", key, {}).headers.get("Content-Length")) == str(size)
        return False

    def _send(
        self, method: str, key: str, query: Mapping[str, str], body: bytes = b"", kind: str = ""
    ) -> httpx.Response:
        for fresh in (False, True):
            if self._keys is None or fresh:
                self._keys = self._new_keys()
            signed = self._signed(method, key, query, kind)
            try:
                return self._http.send(method, self._url(key), params=dict(query), content=body, headers=signed)
            except ServiceRefusedError as error:
                if fresh or error.status not in (401, 403):
                    raise
        raise AssertionError  # the second time returns or raises

    def _url(self, key: str) -> str:
        """A host that is only an address cannot have the bucket's name before it."""
        host = urlsplit(f"//{self._host}").hostname or ""
        with suppress(ValueError):
            ipaddress.ip_address(host)
            return f"{self._scheme}://{self._host}/{self._name}/{key}"
        return f"{self._scheme}://{self._name}.{self._host}/{key}"

    def _signed(self, method: str, key: str, query: Mapping[str, str], kind: str) -> dict[str, str]:
        assert self._keys is not None
        date, token = formatdate(usegmt=True), self._keys["SecurityToken"]
        asked = "&".join(f"{name}={value}" if value else name for name, value in sorted(query.items()))
        resource = f"/{self._name}/{key}" + (f"?{asked}" if asked else "")
        text = f"{method}\n\n{kind}\n{date}\nx-oss-security-token:{token}\n{resource}"
        digest = hmac.new(self._keys["AccessKeySecret"].encode(), text.encode(), hashlib.sha1).digest()
        found = {
            "Authorization": f"OSS {self._keys['AccessKeyId']}:{base64.b64encode(digest).decode()}",
            "Date": date,
            "x-oss-security-token": token,
        }
        return found | ({"Content-Type": kind} if kind else {})


def _element(answer: httpx.Response, name: str) -> str:
    """The text of an element of an answer in XML; nothing else of it is read."""
    match = re.search(rf"<{name}>([\w.=+/-]{{1,200}})</{name}>", answer.text)
    if match is None:
        raise ServiceError(f"has answered without {name}", where="object storage")
    return match[1]


def _plain_mark(mark: str) -> str:
    if not re.fullmatch(r'"?[\w-]{1,100}"?', mark):
        raise ServiceError("has answered without the mark of a part", where="object storage")
    return mark
