"""HTTP to a service that may be slow, away for a while, or broken: time-outs, retries, transfers that go on where they stopped.

Every answer is checked before it is believed: its status, that it is JSON where it must be, and the type of each value that is
used. What can be asked again is asked again; what may have had an effect is not, and says so (`UnsureError`).
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...pilot.model.errors import RefusedError, TransientError, UsageError
from .base import TransferError
from .landing import BLOCK
from .paths import printable

if TYPE_CHECKING:
    import httpx

TRIES = 5
FIRST_PAUSE_S = 0.2
_LONGEST_ANSWER = 16 << 20
_PASSING = (408, 425, 429, 500, 502, 503, 504, 507, 509)
"""Statuses by which a request may be well the next time (RFC 9110, 6585)."""


class ServiceError(TransientError):
    """A service does not answer, or with what is no answer."""

    code = "service"


class UnsureError(ServiceError):
    """A request that must not be sent twice was sent, and whether it has had its effect is not known."""

    code = "service-unsure"


class ServiceRefusedError(RefusedError):
    """A service has said no; `status` is that of HTTP, `said` the code in the answer."""

    code = "service-refused"

    def __init__(self, what: str, *, where: str = "", remedy: str = "", status: int = 0, said: str = "") -> None:
        super().__init__(what, where=where, remedy=remedy)
        self.status, self.said = status, said


class Http:
    """Requests to services; opened by the first, may be used by several threads.

    Args:
        timeout_s: longest silence in an answer.
        sleep: between tries.
    """

    def __init__(self, timeout_s: float, sleep: Callable[[float], None] = time.sleep) -> None:
        self._timeout_s = timeout_s
        self._sleep = sleep
        self._client: httpx.Client | None = None
        self._opening = threading.Lock()

    @property
    def client(self) -> httpx.Client:
        with self._opening:
            if self._client is None:
                try:
                    import httpx
                except ImportError:
                    what, remedy = "the package httpx is not installed", "pip install 'pilotfish[clouds]'"
                    raise UsageError(what, where="machine.context_type", remedy=remedy) from None
                # Below that it has whole addresses, with keys in them.
                logging.getLogger("httpx").setLevel(logging.WARNING)
                self._client = httpx.Client(timeout=self._timeout_s)
            return self._client

    def close(self) -> None:
        if self._client is not None:
            self._client.close()
            self._client = None

    def send(self, method: str, url: str, *, once: bool = False, **more: Any) -> httpx.Response:
        """The answer to a request that was well; its body is read. `more` is what `httpx.Client.request` takes.

        `once`: it is not sent again when it may have arrived. Raises ServiceError, UnsureError, ServiceRefusedError.
        """
        client, pause_s, trouble = self.client, FIRST_PAUSE_S, ""
        import httpx

        for left in reversed(range(TRIES)):
            try:
                response = client.request(method, url, **more)
            except (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout) as error:
                trouble = _words(error)
            except httpx.HTTPError as error:
                trouble = _words(error)
                if once:
                    raise UnsureError(trouble, where=plain(url)) from error
            except httpx.InvalidURL as error:
                raise ServiceRefusedError(f"is no address: {error}", where=plain(url)) from error
            else:
                if response.is_success:
                    return response
                trouble = f"HTTP status {response.status_code}{_said(response)}"
                if response.status_code not in _PASSING:
                    raise ServiceRefusedError(trouble, where=plain(url), status=response.status_code)
                if once and response.status_code not in (429, 503):  # those have not been looked at
                    raise UnsureError(trouble, where=plain(url))
            if left:
                self._sleep(pause_s)
                pause_s *= 2
        raise ServiceError(f"{trouble} ({TRIES} tries)", where=plain(url))

    def json(self, method: str, url: str, *, once: bool = False, **more: Any) -> dict[str, Any]:
        """The object in the answer. Raises what `send` does; where there is none ServiceError, or UnsureError with `once`."""
        response = self.send(method, url, once=once, **more)
        try:
            if len(response.content) > _LONGEST_ANSWER:
                raise ValueError("too long")
            found = response.json()
            if not isinstance(found, dict):
                raise ValueError("no object")
        except (ValueError, RecursionError):
            what = f"has answered with what is no JSON object: {printable(response.text[:80])!r}"
            raise (UnsureError if once else ServiceError)(what, where=plain(url)) from None
        return found

    def download(self, url: str, target: Path, headers: Mapping[str, str] | None = None) -> None:
        """Bring a file here; what has come of it before a break is not fetched again.

        Raises ServiceError, ServiceRefusedError, TransferError.
        """
        part, pause_s, trouble, left = target.with_name(f"{target.name}.part"), FIRST_PAUSE_S, "", TRIES
        while left:
            before = part.stat().st_size if part.exists() else 0
            try:
                self._download_rest(url, part, headers or {})
                part.replace(target)
                return
            except ServiceError as error:
                trouble = error.what
            except OSError as error:
                raise TransferError(f"cannot be written here: {error.strerror}", where=str(part)) from error
            left = TRIES if part.exists() and part.stat().st_size > before else left - 1  # as long as it goes on at all
            if left:
                self._sleep(pause_s)
                pause_s = min(2 * pause_s, 5.0)
        raise ServiceError(f"{trouble} ({TRIES} tries without a byte)", where=plain(url))

    def _download_rest(self, url: str, part: Path, headers: Mapping[str, str]) -> None:
        import httpx

        mark = part.with_name(f"{part.name}.mark")
        have = part.stat().st_size if part.exists() else 0
        known = mark.read_text() if have and mark.exists() else ""
        asked = {**headers, "Accept-Encoding": "identity"}
        if have and known:
            asked |= {"Range": f"bytes={have}-", "If-Range": known}
        try:
            with self.client.stream("GET", url, headers=asked, follow_redirects=True) as response:
                if response.status_code == 416:
                    part.unlink(missing_ok=True)
                    raise ServiceError("has another file there now", where=plain(url))
                if not response.is_success:
                    response.read()
                    what = f"HTTP status {response.status_code}{_said(response)}"
                    passing = response.status_code in _PASSING
                    raise (ServiceError(what) if passing else ServiceRefusedError(what, status=response.status_code))
                goes_on = response.status_code == 206 and _begin_of(response) == have
                mark.write_text(response.headers.get("ETag", "").removeprefix("W/"))
                with open(part, "ab" if goes_on else "wb") as file:
                    for block in response.iter_raw(BLOCK):
                        file.write(block)
                _check_length(response, part, have if goes_on else 0)
        except httpx.HTTPError as error:
            raise ServiceError(_words(error), where=plain(url)) from error
        except httpx.InvalidURL as error:
            raise ServiceRefusedError(f"is no address: {error}", where=plain(url)) from error
        mark.unlink(missing_ok=True)

    def tail(self, url: str, offset: int, headers: Mapping[str, str] | None = None) -> bytes:
        """What a file has from this byte on; nothing when it has no more. Raises ServiceError, ServiceRefusedError."""
        asked = {**(headers or {}), "Range": f"bytes={offset}-", "Accept-Encoding": "identity"}
        try:
            response = self.send("GET", url, headers=asked, follow_redirects=True)
        except ServiceRefusedError as error:
            if error.status == 416:
                return b""
            raise
        content: bytes = response.content
        return content if response.status_code == 206 else content[offset:]


def _begin_of(response: httpx.Response) -> int:
    with suppress(ValueError, IndexError):
        return int(response.headers.get("Content-Range", "").split(" ")[1].split("-")[0])
    return -1


def _check_length(response: httpx.Response, part: Path, begin: int) -> None:
    length = response.headers.get("Content-Length", "")
    if length.isdigit() and part.stat().st_size != begin + int(length):
        raise ServiceError("the connection broke")


def plain(url: str) -> str:
    """An address without what comes after the `?`: keys and signatures may stand there."""
    return printable(str(url).partition("?")[0])


def _words(error: Exception) -> str:
    return f"{type(error).__name__}: {error}".removesuffix(": ")


def _said(response: httpx.Response) -> str:
    """The beginning of the page, which may be anything."""
    text = printable(" ".join(response.text[:200].split()))
    return f": {text}" if text else ""


def text_of(found: Mapping[str, Any], name: str, where: str) -> str:
    """A text that an answer must have. Raises ServiceError."""
    value = found.get(name)
    if not isinstance(value, str):
        raise ServiceError(f"has answered without {name!r}", where=where)
    return value


def number_of(found: Mapping[str, Any], name: str, where: str) -> int:
    """A whole number that an answer must have, which may be written as a text. Raises ServiceError."""
    value = found.get(name)
    if isinstance(value, str) and value.removeprefix("-").isdecimal():
        value = int(value)
    if not isinstance(value, int) or isinstance(value, bool):
        raise ServiceError(f"has answered without a number {name!r}", where=where)
    return value
