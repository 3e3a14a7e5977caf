"""Both services of Bohrium and their storage on loopback, as far as the launcher uses them; jobs really run.

Answers are as docs of the services and DPDispatcher's requests have them. What goes wrong, a test says: `troubles` are
(part of a request, what happens to it), each once.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import os
import re
import signal
import subprocess
import threading
import zipfile
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

PROFILES: dict[str, dict[str, Any]] = {
    "Bohrium": {
        "email": "ann@example.org",
        "password": "env:BOHRIUM_PASSWORD",
        "program_id": 12,
        "input_data": {
            "job_type": "container",
            "platform": "ali",
            "machine_type": "c2",
            "image_name": "i",
            "grouped": True,
        },
    },
    "OpenAPI": {"access_key": "env:KEY_OF_ANN", "project_id": 12, "machine_type": "c2", "image_address": "i"},
}
"""With references to secrets, which the fixture puts into the environment."""
KEYS = {"AccessKeyId": "id", "AccessKeySecret": "secret", "SecurityToken": "token"}


@dataclass
class CloudJob:
    """One job there; `given` is what was asked for."""

    id: int
    group: int
    given: dict[str, Any]
    folder: Path
    process: subprocess.Popen[bytes] | None = None
    killed: bool = False
    status: int | None = None
    """Instead of what is so."""


@dataclass
class Cloud:
    """Use as a context manager.

    Attributes:
        hold: jobs do not start; `refuses`: why none is taken.
        packs_slowly: how often a job that has ended has no results yet.
        requests: (method, path) of all, in their order.
        tokens: that are taken; without those that have expired.
        blobs: what is in storage, by key.
    """

    folder: Path
    jobs: dict[int, CloudJob] = field(default_factory=dict)
    requests: list[tuple[str, str]] = field(default_factory=list)
    bodies: list[dict[str, Any]] = field(default_factory=list)
    troubles: list[tuple[str, str | Callable[[], None]]] = field(default_factory=list)
    tokens: set[str] = field(default_factory=set)
    blobs: dict[str, bytes] = field(default_factory=dict)
    uploads: dict[str, dict[int, bytes]] = field(default_factory=dict)
    hold: bool = False
    refuses: str = ""
    packs_slowly: int = 0
    logins: int = 0
    last: int = 1000
    changed_results: Callable[[Path], None] | None = None
    lock: threading.RLock = field(default_factory=threading.RLock)

    def __enter__(self) -> Cloud:
        self.folder.mkdir(parents=True)
        cloud = self

        class Handler(_Handler):
            owner = cloud

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *ignored: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        for job in self.jobs.values():
            self.kill(job)

    @property
    def environ(self) -> dict[str, str]:
        return {
            "DPDISPATCHER_LEBESGUE_API_HOST": f"{self.url}/",
            "DPDISPATCHER_LEBESGUE_ALI_STS_ENDPOINT": self.url,
            "DPDISPATCHER_LEBESGUE_ALI_STS_BUCKET_NAME": "bucket",
            "DPDISPATCHER_LEBESGUE_ALI_OSS_BUCKET_URL": f"{self.url}/bucket/",
            "BOHRIUM_BASE_URL": self.url,
            "TIEFBLUE_BASE_URL": f"{self.url}/nowhere",
        }

    def asked(self, path: str) -> int:
        """How often a request was made whose path has this in it."""
        return sum(path in each for _, each in self.requests)

    # --- jobs -----------------------------------------------------------------------------------------------------------

    def create(self, given: dict[str, Any], group: int) -> CloudJob:
        with self.lock:
            self.last += 1
            number = self.last
            self.jobs[number] = CloudJob(number, group or number * 10, given, self.folder / str(number))
            return self.jobs[number]

    def start(self, job: CloudJob, blob: bytes) -> None:
        job.folder.mkdir()
        with zipfile.ZipFile(BytesIO(blob)) as packed:
            packed.extractall(job.folder)
        if not self.hold:
            text = f"cd {job.folder} && {{ {job.given['cmd']}; }}"
            out = open(f"{job.folder}.out", "wb")
            environ = {"PATH": "/usr/local/bin:/usr/bin:/bin", "HOME": "/nonexistent"}
            job.process = subprocess.Popen(
                ["bash", "-c", text],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                env=environ,
                start_new_session=True,
            )
            out.close()

    def kill(self, job: CloudJob) -> None:
        job.killed = True
        if job.process is not None and job.process.poll() is None:
            with suppress(ProcessLookupError):
                os.killpg(job.process.pid, signal.SIGKILL)
            job.process.wait()

    def detail(self, job: CloudJob) -> dict[str, Any]:
        code = None if job.process is None else job.process.poll()
        status = 5 if job.killed else 3 if job.process is None else 1 if code is None else -1 if code else 2
        status = status if job.status is None else job.status
        found = {"id": job.id, "status": status, "jobGroupId": job.group, "cmd": job.given.get("cmd", "")}
        found |= {"exitCode": code or 0, "resultUrl": "", "inputData": json.dumps(job.given), "jobName": "x"}
        if code is not None and self.packs_slowly:
            self.packs_slowly -= 1
        elif code is not None and not job.killed:
            found["resultUrl"] = f"{self.url}/result/{job.id}.zip?signature=x"
        return found

    def result(self, job: CloudJob) -> bytes:
        """What its patterns mean, as the service packs it."""
        packed = Path(f"{job.folder}.zip")
        if not packed.exists():
            with zipfile.ZipFile(packed, "w") as archive:
                for pattern in job.given["outFiles"]:
                    for each in sorted(job.folder.glob(pattern)):
                        files = [each] if each.is_file() else [file for file in each.rglob("*") if file.is_file()]
                        for file in files:
                            archive.write(file, file.relative_to(job.folder))
                archive.writestr("STDOUTERR", Path(f"{job.folder}.out").read_bytes())
            if self.changed_results is not None:
                self.changed_results(packed)
        return packed.read_bytes()


class _Handler(BaseHTTPRequestHandler):
    """Which service is meant its paths tell."""

    owner: Cloud
    protocol_version = "HTTP/1.1"

    def log_message(self, *ignored: Any) -> None:
        pass

    def do_GET(self) -> None:
        self._serve()

    do_POST = do_PUT = do_HEAD = do_GET

    def _serve(self) -> None:  # noqa: PLR0911 - each trouble is one
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        parts = urlsplit(self.path)
        with self.owner.lock:
            self.owner.requests.append((self.command, self.path))
            trouble = self._trouble()
        if trouble == "cut":  # nothing was done, and the connection breaks
            return self._break()
        if trouble == "500":
            return self._send(500, b"<html>Internal error</html>")
        if trouble == "html":
            return self._send(200, b"<html>Please log in to this network</html>")
        if trouble == "no object":
            return self._send(200, b"[1, 2]")
        if callable(trouble):
            trouble()
        with self.owner.lock:
            status, answer, more = self._answer(parts.path, parse_qs(parts.query, keep_blank_values=True), body)
        if trouble == "lost":  # it was done, and nobody hears of it
            return self._break()
        if trouble == "half":
            self._send(status, answer, more, only=len(answer) // 2)
            return self._break()
        return self._send(status, answer, more)

    def _trouble(self) -> str | Callable[[], None] | None:
        for at, (part, what) in enumerate(self.owner.troubles):
            if part in f"{self.command} {self.path}":
                del self.owner.troubles[at]
                return what
        return None

    def _break(self) -> None:
        with suppress(OSError):
            self.connection.shutdown(2)
        self.close_connection = True

    def _send(self, status: int, body: bytes, more: dict[str, str] | None = None, only: int | None = None) -> None:
        with suppress(OSError):
            self.send_response(status)
            for name, value in (more or {}).items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body[:only])

    def _answer(self, path: str, query: dict[str, list[str]], body: bytes) -> tuple[int, bytes, dict[str, str]]:
        if path.startswith("/bucket/"):
            return self._storage(path, query, body)
        if path.startswith(("/result/", "/logs/")):
            return self._file(path)
        if path.startswith("/openapi/"):
            return self._json(self._openapi(path, json.loads(body or b"{}"), query))
        if path.startswith("/store/"):
            return self._json(self._store(path, body))
        return self._json(self._bohrium(path, json.loads(body or b"{}"), query))

    @staticmethod
    def _json(answer: object) -> tuple[int, bytes, dict[str, str]]:
        status = answer if isinstance(answer, int) else 200
        return status, json.dumps(answer).encode(), {"Content-Type": "application/json"}

    # --- the first service ----------------------------------------------------------------------------------------------

    def _bohrium(self, path: str, body: dict[str, Any], query: dict[str, list[str]]) -> object:  # noqa: PLR0911
        cloud = self.owner
        if path == "/account/login":
            if body != {"email": "ann@example.org", "password": "s3cret-of-ann"}:
                return {"code": 2104, "message": "wrong password"}
            cloud.logins += 1
            cloud.tokens.add(token := f"t{cloud.logins}")
            return {"code": "0000", "data": {"token": token, "user_id": 1}}
        ticket = self.headers.get("Brm-Ticket") == "a ticket"
        if self.headers.get("Authorization", "").removeprefix("jwt ") not in cloud.tokens and not ticket:
            return {"code": 2100, "message": "token invalid"}
        if path == "/data/get_sts_token":
            return {"code": 0, "data": KEYS}
        if path == "/brm/v2/job/add" and cloud.refuses:
            return {"code": 2101, "message": cloud.refuses}
        if path == "/brm/v2/job/add":
            cloud.bodies.append(body)
            job = cloud.create(body, body.get("jobGroupId", 0))
            cloud.start(job, cloud.blobs[body["ossPath"][-1].partition("/bucket/")[2]])
            return {"code": 0, "data": {"jobId": job.id, "jobGroupId": job.group}}
        if path == "/brm/v1/job/list":
            page, size = int(query["page"][0]), int(query["pageSize"][0])
            hidden = ("inputData", "resultUrl", "exitCode")
            items = [{k: v for k, v in cloud.detail(job).items() if k not in hidden} for job in cloud.jobs.values()]
            return {"code": 0, "data": {"items": items[::-1][page * size : (page + 1) * size]}}
        match = re.fullmatch(r"/brm/v1/job/(kill/)?(\d+)(/log)?", path)
        job_there = cloud.jobs.get(int(match[2])) if match else None
        if match is None or job_there is None:
            return {"code": 2300, "message": "no such job"}
        if match[1]:
            cloud.kill(job_there)
            return {"code": 0, "data": {}}
        if match[3]:
            size = Path(f"{job_there.folder}.out").stat().st_size
            return {"code": 0, "data": {"logFiles": [{"url": f"{cloud.url}/logs/{job_there.id}", "size": size}]}}
        return {"code": 0, "data": cloud.detail(job_there)}

    # --- the newer service and its stores -------------------------------------------------------------------------------

    def _openapi(self, path: str, body: dict[str, Any], query: dict[str, list[str]]) -> object:  # noqa: PLR0911
        cloud = self.owner
        if query.get("accessKey") != ["k3y-of-ann"] or self.headers.get("Authorization") != "Bearer k3y-of-ann":
            return 401
        if path == "/openapi/v1/job/create":
            job = cloud.create({}, body.get("bohrGroupId", 0))
            cloud.tokens.add(token := f"s{job.id}")
            data = {"jobId": job.id, "jobGroupId": job.group, "token": token, "storePath": f"store/{job.id}/"}
            return {"code": 0, "data": {**data, "storeHost": f"{cloud.url}/store/{job.id}/"}}
        if path == "/openapi/v2/job/add" and cloud.refuses:
            return {"code": 2101, "message": cloud.refuses}
        if path == "/openapi/v2/job/add":
            cloud.bodies.append(body)
            job = cloud.jobs[body["jobId"]]
            if job.given:
                return {"code": 2101, "message": "the job has been added"}
            job.given = body
            cloud.start(job, cloud.blobs[body["ossPath"][0]])
            return {"code": 0, "data": {"jobId": job.id}}
        match = re.fullmatch(r"/openapi/v1/job/(kill/)?(\d+)(/log)?", path)
        job_there = cloud.jobs.get(int(match[2])) if match else None
        if match is None or job_there is None:
            return 404
        if match[1]:
            cloud.kill(job_there)
            return {"code": 0}
        if match[3]:
            text = Path(f"{job_there.folder}.out").read_text()
            return {"code": 0, "data": {"log": text[-int(query["pageSize"][0]) :]}}
        return {"code": 0, "data": {**cloud.detail(job_there), **({} if job_there.given else {"status": 7})}}

    def _store(self, path: str, body: bytes) -> object:
        cloud = self.owner
        job, _, name = path.removeprefix("/store/").partition("/api/upload/")
        if self.headers.get("Authorization") != f"Bearer s{job}" or f"s{job}" not in cloud.tokens:
            return 401
        param = json.loads(base64.b64decode(self.headers.get("X-Storage-Param", "")) or b"{}")
        if name == "binary":
            assert param["option"]["contentDisposition"].startswith('attachment; filename="')
            cloud.blobs[param["path"]] = body
            return {"code": 0}
        if name == "multipart/upload":
            cloud.uploads[param["initialKey"]][param["number"]] = body
            return {"code": 0, "data": {"partString": f"part{param['number']}"}}
        given = json.loads(body)
        if name == "multipart/init":
            cloud.uploads[key := f"k{len(cloud.uploads)}"] = {}
            return {"code": 0, "data": {"initialKey": key}}
        parts = cloud.uploads.pop(given["initialKey"])
        assert given["partString"] == [f"part{number}" for number in sorted(parts)]
        cloud.blobs[given["path"]] = b"".join(parts[number] for number in sorted(parts))
        return {"code": 0, "data": {}}

    # --- object storage -------------------------------------------------------------------------------------------------

    def _storage(self, path: str, query: dict[str, list[str]], body: bytes) -> tuple[int, bytes, dict[str, str]]:
        cloud, key = self.owner, path.removeprefix("/bucket/")
        asked = "&".join(f"{name}={v[0]}" if v[0] else name for name, v in sorted(query.items()))
        resource = f"{path}?{asked}" if asked else path
        text = f"{self.command}\n\n{self.headers.get('Content-Type', '')}\n{self.headers['Date']}\n"
        text += f"x-oss-security-token:{KEYS['SecurityToken']}\n{resource}"
        digest = hmac.new(KEYS["AccessKeySecret"].encode(), text.encode(), hashlib.sha1).digest()
        if self.headers["Authorization"] != f"OSS {KEYS['AccessKeyId']}:{base64.b64encode(digest).decode()}":
            return 403, b"<Error><Code>SignatureDoesNotMatch</Code></Error>", {}
        if "uploads" in query:
            cloud.uploads[name := f"U{len(cloud.requests)}"] = {}
            return 200, f"<R><UploadId>{name}</UploadId></R>".encode(), {}
        upload = cloud.uploads.get(query["uploadId"][0]) if "uploadId" in query else None
        if self.command == "HEAD":
            return (200, cloud.blobs[key], {}) if key in cloud.blobs else (404, b"", {})
        if upload is None:
            return 404, b"<Error><Code>NoSuchUpload</Code></Error>", {}
        if "partNumber" in query:
            upload[int(query["partNumber"][0])] = body
            return 200, b"", {"ETag": f'"{hashlib.md5(body).hexdigest().upper()}"'}
        numbers = re.findall(rb"<PartNumber>(\d+)</PartNumber><ETag>(\"[0-9A-F]{32}\")</ETag>", body)
        assert [int(number) for number, _ in numbers] == sorted(upload)
        cloud.blobs[key] = b"".join(upload[number] for number in sorted(upload))
        del cloud.uploads[query["uploadId"][0]]
        return 200, b"<R/>", {}

    def _file(self, path: str) -> tuple[int, bytes, dict[str, str]]:
        """A part of it, where that was asked for and the file is still the same."""
        cloud = self.owner
        job = cloud.jobs[int(re.sub(r"\D", "", path))]
        content = cloud.result(job) if path.startswith("/result/") else Path(f"{job.folder}.out").read_bytes()
        mark = f'"{hashlib.sha1(content).hexdigest()}"'
        match = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        if match is None or self.headers.get("If-Range", mark) != mark:
            return 200, content, {"ETag": mark}
        begin = int(match[1])
        if begin >= len(content):
            return 416, b"", {}
        range_ = f"bytes {begin}-{len(content) - 1}/{len(content)}"
        return 206, content[begin:], {"ETag": mark, "Content-Range": range_}
