"""`JobInfo`: what a pilot knows of a job, as an object (spec 19.4)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

_ALLOCATION = re.compile(r"([^,\[]+)\[([^\]]*)\]")
_RTIME = re.compile(r"(?:(\d+) days?, )?(\d+):(\d+):(\d+(?:\.\d+)?)")


@dataclass
class JobInfo:
    """A job or one of its iterations.

    Attributes:
        nodes: core ids by node, as text.
        time: how long it ran; None when it did not end.
        iterations: `start`, `stop`, `total`, `finished`, `failed` of an iteration job.
        childs: its iterations, when they were asked for.
        history: (time, state), oldest first.
        exit_code: None when it has none; `cpu_s` in seconds, `max_rss_kib` in KiB, `attempts` counts starts.
    """

    name: str | None = None
    status: str | None = None
    nodes: dict[str, list[str]] | None = None
    total_cores: int = 0
    wdir: str | None = None
    time: timedelta | None = None
    iteration: int | None = None
    iterations: dict[str, int] | None = None
    childs: list[JobInfo] = field(default_factory=list)
    history: list[tuple[datetime, str]] = field(default_factory=list)
    messages: str | None = None
    exit_code: int | None = None
    node: str | None = None
    cpu_s: float | None = None
    max_rss_kib: int | None = None
    attempts: int | None = None

    @classmethod
    def from_job(cls, job_data: Mapping[str, Any]) -> JobInfo:
        """From the `data` of one entry of a jobInfo reply."""
        info = cls(job_data["jobName"], job_data["status"], messages=job_data.get("messages"))
        info.iterations = job_data.get("iterations")
        info._take_runtime(job_data.get("runtime") or {})
        info.history = _history(job_data.get("history") or "")
        info.childs = [cls.from_child(job_data["jobName"], child) for child in job_data.get("childs") or ()]
        return info

    @classmethod
    def from_child(cls, job_name: str, child_data: Mapping[str, Any]) -> JobInfo:
        """From one element of `childs`."""
        iteration = child_data["iteration"]
        info = cls(
            f"{job_name}:{iteration}", child_data["state"], iteration=iteration, messages=child_data.get("messages")
        )
        info._take_runtime(child_data.get("runtime") or {})
        return info

    def _take_runtime(self, runtime: Mapping[str, str]) -> None:
        if "allocation" in runtime:
            self.nodes = {node: cores.split(":") for node, cores in _ALLOCATION.findall(runtime["allocation"])}
            self.total_cores = sum(len(cores) for cores in self.nodes.values())
        self.wdir = runtime.get("wd")
        self.time = _duration(runtime.get("rtime", ""))
        self.node = runtime.get("node")
        if "exit_code" in runtime:
            self.exit_code = int(runtime["exit_code"])
        if "cpu_s" in runtime:
            self.cpu_s = float(runtime["cpu_s"])
        if "max_rss_kib" in runtime:
            self.max_rss_kib = int(runtime["max_rss_kib"])
        if "attempts" in runtime:
            self.attempts = int(runtime["attempts"])


def _duration(text: str) -> timedelta | None:
    """Python's duration text, with or without days and fraction."""
    match = _RTIME.fullmatch(text.strip())
    if match is None:
        return timedelta() if text.strip() == "0" else None
    days, hours, minutes, seconds = match.groups()
    return timedelta(days=int(days or 0), hours=int(hours), minutes=int(minutes), seconds=float(seconds))


def _history(text: str) -> list[tuple[datetime, str]]:
    entries = []
    for line in filter(None, text.splitlines()):
        moment, _, state = line.rpartition(": ")
        entries.append((datetime.fromisoformat(moment), state))
    return entries
