"""One function per client request: look up, call the scheduler, build the reply (spec 4). A table, no if-chain."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable
from datetime import datetime
from typing import Any, TypeVar

from ..model.errors import EndingError, InvalidRequestError, PilotfishError, RefusedError, UnknownJobError
from ..model.explain import why_not_running
from ..model.ids import split_name
from ..model.jobs import Job
from ..model.states import State
from ..wire import replies, requests
from ..wire.records import Submitted
from .ending import Ending
from .parts import Parts
from .request_server import Reply
from .shutdown import Shutdown

MOST_EVENTS = 10_000
T = TypeVar("T")


class Handlers:
    """Answers the requests of clients. Nothing here sends or waits."""

    def __init__(self, parts: Parts, shutdown: Shutdown, ending: Ending) -> None:
        self._parts = parts
        self._shutdown = shutdown
        self._ending = ending
        self._scheduler = parts.scheduler
        self._views = parts.views
        self._requests_seen = 0
        self._table: dict[type, Callable[[Any], Reply]] = {
            requests.Submit: self._submit,
            requests.JobStatus: self._job_status,
            requests.JobInfo: self._job_info,
            requests.ListJobs: self._list_jobs,
            requests.CancelJob: self._cancel_job,
            requests.RemoveJob: self._remove_job,
            requests.ResourcesInfo: self._resources_info,
            requests.Status: self._status,
            requests.Control: self._control,
            requests.Finish: self._finish,
            requests.Events: self._events,
            requests.Register: self._register,
            requests.Notify: self._notify,
        }

    def answer(self, body: bytes) -> Reply:
        """Raises PilotfishError; the caller makes the error reply."""
        return self._handle(requests.parse(body, self._variables))

    def answer_value(self, value: object) -> Reply:
        """The same for a request that comes from a file."""
        return self._handle(requests.from_value(value, self._variables))

    def _handle(self, request: requests.Request) -> Reply:
        return self._table[type(request)](request)

    def _variables(self) -> dict[str, str]:
        self._requests_seen += 1
        moment = str(datetime.fromtimestamp(self._parts.now()))
        return requests.submit_variables(self._requests_seen, str(uuid.uuid4()), moment)

    # --- jobs -----------------------------------------------------------------------------------------------------------

    def _submit(self, request: requests.Submit) -> Reply:
        now = self._parts.now()
        if self._shutdown.stopping:
            raise EndingError("processing stopped")
        accepted = self._scheduler.check(request.jobs)
        self._parts.store.write_now(Submitted(self._scheduler.jobs.next_no, now, request.jobs))
        jobs = self._scheduler.accept(accepted, now)
        names = [job.spec.name for job in jobs]
        return Reply(replies.ok(f"{len(names)} jobs submitted", replies.Submitted(len(names), names)), durable=True)

    def _find(self, name: str) -> tuple[Job, int | None]:
        """(job, position or None for the whole job). Raises UnknownJobError, or ValueError for a strange iteration."""
        job_name, iteration = split_name(name)
        job = self._scheduler.jobs.find(job_name)
        if job is None:
            raise UnknownJobError(f"Job '{name}' doesn't exist")
        return job, None if iteration is None else job.pos_of(int(iteration))

    def _entries(self, names: list[object], one: Callable[[Job, int | None, str], T]) -> Reply:
        """The answers of jobStatus and jobInfo: odd names are errors of their entry, unknown ones of the request."""
        entries: dict[str, replies.Entry[T]] = {}
        for name in names:
            if not isinstance(name, str):
                text = json.dumps(name)
                entries[text] = replies.Entry(1, f"a job name is text, not {text}")
                continue
            try:
                job, pos = self._find(name)
            except ValueError as error:
                entries[name] = replies.Entry(1, str(error))
            else:
                entries[name] = replies.Entry(0, data=one(job, pos, name))
        return Reply(replies.ok(data=replies.Entries(entries)))

    def _job_status(self, request: requests.JobStatus) -> Reply:
        def one(job: Job, pos: int | None, name: str) -> replies.JobStatus:
            state = job.state if pos is None else job.tasks.state(pos)
            return replies.JobStatus(name, state.name)

        return self._entries(request.names, one)

    def _job_info(self, request: requests.JobInfo) -> Reply:
        def one(job: Job, pos: int | None, name: str) -> replies.JobInfo:
            info = self._views.info(job, pos, name, request.with_childs)
            if request.explain:
                info.explain = why_not_running(self._scheduler, job, pos, self._parts.now())
            return info

        return self._entries(request.names, one)

    def _list_jobs(self, request: requests.ListJobs) -> Reply:
        jobs: dict[str, replies.ListedJob] = {}
        queued = 0
        for job in self._scheduler.jobs:
            entry = jobs[job.spec.name] = replies.ListedJob(job.state.name, job.message or None)
            if job.state is State.QUEUED:
                entry.in_queue = queued
                queued += 1
        return Reply(replies.ok(data=replies.JobList(len(jobs), jobs)))

    def _cancel_job(self, request: requests.CancelJob) -> Reply:
        now = self._parts.now()

        def cancel(job: Job, pos: int | None) -> None:
            if pos is None:
                self._scheduler.cancel(job, now)
            else:
                self._scheduler.cancel_task(job, pos, now)

        count, errors = self._each(request.names, "Job/iteration {} doesn't exist", cancel)
        return Reply(replies.ok(data=replies.Canceled(count, errors or None)), durable=count > 0)

    def _remove_job(self, request: requests.RemoveJob) -> Reply:
        def remove(job: Job, pos: int | None) -> None:
            if pos is not None:
                raise UnknownJobError(f"Job '{job.spec.task_name(pos)}' doesn't exist")
            self._scheduler.remove(job)

        count, errors = self._each(request.names, "Job '{}' doesn't exist", remove)
        return Reply(replies.ok(data=replies.Removed(count, errors or None)), durable=count > 0)

    def _each(
        self, names: list[object], unknown: str, act: Callable[[Job, int | None], None]
    ) -> tuple[int, dict[str, str]]:
        """Do something to each named job; returns how often it succeeded, and the errors by name (spec 4.7, 4.8)."""
        count, errors = 0, {}
        for name in names:
            key = name if isinstance(name, str) else json.dumps(name)
            try:
                if not isinstance(name, str):
                    raise InvalidRequestError(f"a job name is text, not {key}")
                if self._scheduler.jobs.find(split_name(name)[0]) is None:
                    raise UnknownJobError(unknown.format(name))
                act(*self._find(name))
                count += 1
            except (PilotfishError, ValueError) as error:
                errors[key] = str(error)
        return count, errors

    # --- the pilot ------------------------------------------------------------------------------------------------------

    def _resources_info(self, request: requests.ResourcesInfo) -> Reply:
        return Reply(replies.ok(data=self._parts.status.resources()))

    def _status(self, request: requests.Status) -> Reply:
        if request.all_jobs_finished:
            return Reply(replies.ok(data=replies.AllFinished(self._scheduler.jobs.unfinished == 0)))
        return Reply(replies.ok(data=self._parts.status.describe()))

    def _events(self, request: requests.Events) -> Reply:
        caught = self._parts.publisher.since(request.after)
        events = replies.EventList(caught.events[:MOST_EVENTS], caught.last, caught.missed)
        return Reply(replies.ok(data=events))

    def _control(self, request: requests.Control) -> Reply:
        self._ending.finish_when_idle()
        return Reply(replies.ok(f"{request.command} command accepted"))

    def _finish(self, request: requests.Finish) -> Reply:
        self._shutdown.begin_closing()
        if request.kill:
            for job in list(self._scheduler.jobs):
                if not job.state.final and not job.canceling:
                    self._scheduler.cancel(job, self._parts.now())
        self._ending.finish_after(request.delay_s)
        return Reply(replies.ok(data=replies.FinishTime(f"{request.delay_s:g}s")), durable=request.kill)

    def _register(self, request: requests.Register) -> Reply:
        raise RefusedError("Register manager request not supported in this kind of manager (direct)")

    def _notify(self, request: requests.Notify) -> Reply:
        raise RefusedError("Operation not supported")
