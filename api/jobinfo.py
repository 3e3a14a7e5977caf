"""`JobInfo`: what a pilot knows of a job, as an object."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime, timedelta
from typing import Any

import msgspec

from ..pilot.wire import replies, reply_texts
from .html import facts, table


@dataclass
class JobInfo:
    """A job or one of its iterations.

    Attributes:
        nodes: core ids by node, as text; empty before the start, and for a whole job with iterations.
        time: how long it ran; None when it did not end.
        iterations: `start`, `stop`, `total`, `finished`, `failed` of a job with iterations, and `running` while
            some do; else empty.
        childs: its iterations, when they were asked for.
        history: (time, state), oldest first.
        resources: GPUs and named resources that it had, e.g. `gpu=0*1/4 nvme=1,2 licence=1`.
        exit_code: None when it has none; `cpu_s` in seconds, `max_rss_kib` in KiB, `attempts` counts starts.
    """

    name: str | None = None
    status: str | None = None
    nodes: dict[str, list[str]] = field(default_factory=dict)
    total_cores: int = 0
    wdir: str | None = None
    time: timedelta | None = None
    iteration: int | None = None
    iterations: dict[str, int] = field(default_factory=dict)
    childs: list[JobInfo] = field(default_factory=list)
    history: list[tuple[datetime, str]] = field(default_factory=list)
    messages: str | None = None
    exit_code: int | None = None
    node: str | None = None
    cpu_s: float | None = None
    max_rss_kib: int | None = None
    attempts: int | None = None
    resources: str | None = None

    @classmethod
    def from_job(cls, job_data: Mapping[str, Any]) -> JobInfo:
        """From the `data` of one entry of a jobInfo reply."""
        return cls.from_reply(msgspec.convert(job_data, replies.JobInfo))

    @classmethod
    def from_child(cls, job_name: str, child_data: Mapping[str, Any]) -> JobInfo:
        """From one element of `childs`."""
        return cls._from_iteration(job_name, msgspec.convert(child_data, replies.IterationInfo))

    @classmethod
    def from_reply(cls, data: replies.JobInfo) -> JobInfo:
        """The same from a decoded entry."""
        info = cls(data.job_name, data.status, messages=data.messages)
        if data.iterations is not None:
            info.iterations = msgspec.to_builtins(data.iterations)
        info._take_runtime(data.runtime)
        info.history = reply_texts.parse_history(data.history or "")
        info.childs = [cls._from_iteration(data.job_name, child) for child in data.childs or ()]
        return info

    @classmethod
    def _from_iteration(cls, job_name: str, data: replies.IterationInfo) -> JobInfo:
        info = cls(f"{job_name}:{data.iteration}", data.state, iteration=data.iteration, messages=data.messages)
        info._take_runtime(data.runtime)
        return info

    def _take_runtime(self, runtime: replies.Runtime | None) -> None:
        if runtime is None:
            return
        self.nodes = dict(reply_texts.parse_allocation(runtime.allocation or ""))
        self.total_cores = sum(len(cores) for cores in self.nodes.values())
        self.wdir = runtime.wd
        self.time = reply_texts.parse_rtime(runtime.rtime or "")
        self.node = runtime.node
        self.resources = runtime.resources
        self.exit_code = None if runtime.exit_code is None else int(runtime.exit_code)
        self.cpu_s = None if runtime.cpu_s is None else float(runtime.cpu_s)
        self.max_rss_kib = None if runtime.max_rss_kib is None else int(runtime.max_rss_kib)
        self.attempts = None if runtime.attempts is None else int(runtime.attempts)

    def _repr_html_(self) -> str:
        """What a notebook shows of it."""
        members = {name: value for name, value in vars(self).items() if name not in ("name", "childs", "history")}
        members["nodes"] = ", ".join(f"{node}: {','.join(cores)}" for node, cores in self.nodes.items())
        members["iterations"] = ", ".join(f"{name} {count}" for name, count in self.iterations.items())
        childs = table(
            ("iteration", "status", "exit_code"), ((one.name, one.status, one.exit_code) for one in self.childs)
        )
        return facts(self.name or "job", members) + childs

    def __str__(self) -> str:
        """As JSON; times as text."""
        return json.dumps(asdict(self), default=str)
