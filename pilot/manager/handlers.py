"""One function for each client request: look up, call the scheduler, build the reply. A table, no if-chain.

All of them work in slices (model/steps.py), because a request may name a million jobs, and other requests, results and the end
of the pilot may come between two slices. So:

* How a submit is accepted stands in submits.py.
* `cancelJob` and `removeJob` do one name after the other. What they report is true when the reply comes, whatever happened in
  between.
* `jobInfo`, `jobStatus` and `listJobs` report of each job what is true when its turn comes.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Any

from ..model.errors import InvalidRequestError, PilotfishError, RefusedError, UnknownJobError
from ..model.explain import why_not_running
from ..model.ids import split_name
from ..model.jobs import Job
from ..model.large import ByName
from ..model.running import running_of
from ..model.states import State
from ..model.steps import SLICE, Pause, Steps
from ..wire import replies, reply_bytes, requests
from ..wire.json_steps import PIECE_BYTES
from .demand import DemandView
from .ending import Ending
from .overview import overview
from .parts import Parts
from .request_server import Asked, Reply
from .shutdown import Shutdown
from .submits import Submits

MOST_EVENTS = 10_000
MOST_ERRORS = 10_000
"""Of one request, that are told: they are encoded at once, and who has so many knows what is wrong."""
_FEW = 50
"""Items in a slice where each has consequences that are recorded, reported and published at the end of the turn."""
_Answer = tuple[replies.JobInfo | replies.JobStatus, list[bytes] | None]
"""The answer about one job, and the stretches of its iterations if these are part of it."""


class Handlers:
    """Answers the requests of clients. Nothing here sends or waits."""

    def __init__(self, parts: Parts, shutdown: Shutdown, ending: Ending, release: Callable[[str], int]) -> None:
        self._parts = parts
        self._shutdown = shutdown
        self._ending = ending
        self._release_nodes = release
        self._demand_view = DemandView(parts, shutdown)
        self._scheduler = parts.scheduler
        self._jobs = parts.scheduler.jobs
        self._views = parts.views
        self._requests_seen = 0
        self._table: dict[type, Callable[[Any], Steps[Reply]]] = {
            requests.Submit: Submits(parts, shutdown).accept,
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
            requests.Overview: self._overview,
            requests.Demand: self._demand,
            requests.Release: self._release,
            requests.CallResults: self._call_results,
            requests.Register: self._register,
            requests.Notify: self._notify,
        }

    def answer(self, asked: Asked) -> Steps[Reply]:
        """Raises PilotfishError; the caller makes the error reply."""
        self._ending.needed()
        if len(asked.body) <= PIECE_BYTES:
            request = requests.parse(asked.body, self._variables)
        else:
            request = yield from requests.parse_in_steps(asked.body, self._variables, asked.note_id)
            asked.body = b""
        return (yield from self._table[type(request)](request))

    def answer_value(self, value: object) -> Steps[Reply]:
        """The same for a request that comes from a file: a value that can be stored."""
        request = yield from requests.parse_value(value, self._variables)
        return (yield from self._table[type(request)](request))

    def _variables(self) -> dict[str, str]:
        self._requests_seen += 1
        moment = str(datetime.fromtimestamp(self._parts.now()))
        return requests.submit_variables(self._requests_seen, str(uuid.uuid4()), moment)

    # --- looking --------------------------------------------------------------------------------------------------------

    def _find(self, name: str) -> tuple[Job, int | None]:
        """(job, position or None for the whole job). Raises ValueError for an odd iteration, UnknownJobError."""
        job_name, text = split_name(name)
        iteration = None if text is None else int(text)
        job = self._jobs.find_settled(job_name)
        if job is None:
            raise UnknownJobError(f"Job '{name}' doesn't exist")
        return job, None if iteration is None else job.pos_of(iteration)

    def _entries(self, names: list[object], one: Callable[[Job, int | None, str], Steps[_Answer]]) -> Steps[Reply]:
        """The answers of jobStatus and jobInfo: odd names are errors of their entry, unknown ones of the request."""
        stretches: list[bytes] = []
        entries: dict[str, replies.Entry[object]] = {}
        answered: ByName[None] = ByName()
        for number, name in enumerate(names, 1):
            text = name if isinstance(name, str) else json.dumps(name)
            if text not in answered:
                answered[text] = None
                entries[text], childs = yield from self._entry(name, text, one)
                if childs is not None:  # by itself: it is large
                    last = {text: entries.pop(text)}
                    stretches += [*_encoded(entries), *reply_bytes.filled(reply_bytes.stretch(last), "childs", childs)]
            if not number % SLICE:
                stretches += _encoded(entries)
                yield Pause.MORE
        stretches += _encoded(entries)
        return Reply((yield from reply_bytes.large(None, replies.Entries[object]({}), "jobs", stretches)))

    def _entry(
        self, name: object, text: str, one: Callable[[Job, int | None, str], Steps[_Answer]]
    ) -> Steps[tuple[replies.Entry[object], list[bytes] | None]]:
        """The entry and, when its `childs` are to be filled in, their stretches."""
        if not isinstance(name, str):
            return replies.Entry(1, f"a job name is text, not {text}"), None
        try:
            job, pos = self._find(name)
        except ValueError as error:
            return replies.Entry(1, str(error)), None
        data, childs = yield from one(job, pos, name)
        return replies.Entry(0, data=data), childs

    def _job_status(self, request: requests.JobStatus) -> Steps[Reply]:
        def one(job: Job, pos: int | None, name: str) -> Steps[_Answer]:
            yield from ()
            state = job.state if pos is None else job.tasks.state(pos)
            return replies.JobStatus(name, state.name), None

        return self._entries(request.names, one)

    def _job_info(self, request: requests.JobInfo) -> Steps[Reply]:
        def one(job: Job, pos: int | None, name: str) -> Steps[_Answer]:
            info = self._views.info(job, pos, name)
            if request.explain:
                info.explain = why_not_running(self._scheduler, job, pos, self._parts.now())
            if not (request.with_childs and job.is_iteration and pos is None):
                return info, None
            start, stop = _page(job, request.after, request.limit)
            childs = yield from self._views.children(job, start, stop)
            info.childs = []
            if stop < job.spec.task_count:
                info.next = job.spec.index_of(stop - 1)
            return info, childs

        return self._entries(request.names, one)

    def _list_jobs(self, request: requests.ListJobs) -> Steps[Reply]:
        stretches: list[bytes] = []
        jobs: dict[str, replies.ListedJob] = {}
        length = queued = 0
        listed = replies.JobList(0, {})
        last = None
        for number, no in enumerate(self._jobs.numbers(), 1):
            job = self._jobs.by_no(no)
            if job is not None and not self._is_entering(job):
                if request.after is None or no > request.after:
                    if length == request.limit and last is not None:
                        listed.next = last
                        break
                    jobs[job.spec.name] = replies.ListedJob(job.state.name, job.message or None)
                    if job.state is State.QUEUED:
                        jobs[job.spec.name].in_queue = queued
                        if job.is_iteration:
                            jobs[job.spec.name].running = running_of(self._scheduler, job)
                    length, last = length + 1, no
                queued += job.state is State.QUEUED
            if not number % SLICE:
                stretches += _encoded(jobs)
                yield Pause.MORE
        stretches += _encoded(jobs)
        listed.length = length
        return Reply((yield from reply_bytes.large(None, listed, "jobs", stretches)))

    def _is_entering(self, job: Job) -> bool:
        return bool(self._jobs.entering) and self._jobs.entering_with(job.spec.name) is not None

    # --- cancel and remove ----------------------------------------------------------------------------------------------

    def _cancel_job(self, request: requests.CancelJob) -> Steps[Reply]:
        def cancel(job: Job, pos: int | None) -> Steps[None]:
            if pos is None:
                yield from self._scheduler.cancel_in_steps(job, self._parts.now())
            else:
                self._scheduler.cancel_task(job, pos, self._parts.now())

        count, errors = yield from self._each(request.names, "Job/iteration {} doesn't exist", cancel)
        return _counted(replies.Canceled(count), errors)

    def _remove_job(self, request: requests.RemoveJob) -> Steps[Reply]:
        def remove(job: Job, pos: int | None) -> Steps[None]:
            name = job.spec.name
            if pos is not None:
                raise UnknownJobError(f"Job '{job.spec.task_name(pos)}' doesn't exist")
            while not self._scheduler.may_be_removed(name):
                yield Pause.WAITING
            if self._jobs.find(name) is not job:
                raise UnknownJobError(f"Job '{name}' doesn't exist")
            self._scheduler.remove(job)

        count, errors = yield from self._each(request.names, "Job '{}' doesn't exist", remove)
        return _counted(replies.Removed(count), errors)

    def _each(
        self, names: list[object], unknown: str, act: Callable[[Job, int | None], Steps[None]]
    ) -> Steps[tuple[int, dict[str, str]]]:
        """Do something to each named job; returns how often it succeeded, and the errors by name, as many as are told."""
        count = 0
        errors: dict[str, str] = {}
        for number, name in enumerate(names, 1):
            key = name if isinstance(name, str) else json.dumps(name)
            try:
                if not isinstance(name, str):
                    raise InvalidRequestError(f"a job name is text, not {key}")
                if self._jobs.find_settled(split_name(name)[0]) is None:
                    raise UnknownJobError(unknown.format(name))
                yield from act(*self._find(name))
                count += 1
            except (PilotfishError, ValueError) as error:
                if len(errors) < MOST_ERRORS:
                    errors[key] = str(error)
            if not number % _FEW:
                yield Pause.MORE
        return count, errors

    # --- the pilot ------------------------------------------------------------------------------------------------------

    def _resources_info(self, request: requests.ResourcesInfo) -> Steps[Reply]:
        yield from ()
        return Reply(reply_bytes.ok(data=self._parts.status.resources()))

    def _status(self, request: requests.Status) -> Steps[Reply]:
        yield from ()
        if request.all_jobs_finished:
            return Reply(reply_bytes.ok(data=replies.AllFinished(not self._scheduler.unfinished)))
        return Reply(reply_bytes.ok(data=self._parts.status.describe()))

    def _events(self, request: requests.Events) -> Steps[Reply]:
        caught = self._parts.publisher.since(request.after, MOST_EVENTS)
        stretches = []
        events: list[object] = []
        for event in caught.events:
            events.append(event)
            if len(events) == SLICE:
                stretches.append(reply_bytes.stretch(events))
                events.clear()
                yield Pause.MORE
        if events:
            stretches.append(reply_bytes.stretch(events))
        data = replies.EventList([], caught.last, caught.missed)
        return Reply((yield from reply_bytes.large(None, data, "events", stretches)))

    def _overview(self, request: requests.Overview) -> Steps[Reply]:
        return Reply(reply_bytes.ok(data=(yield from overview(self._parts, request.limit, request.match))))

    def _demand(self, request: requests.Demand) -> Steps[Reply]:
        if request.nodes_may_come:
            self._scheduler.nodes.elastic = True
        return Reply(reply_bytes.ok(data=(yield from self._demand_view.describe())))

    def _release(self, request: requests.Release) -> Steps[Reply]:
        yield from ()
        return Reply(reply_bytes.ok(data=replies.Released(self._release_nodes(request.allocation))))

    def _call_results(self, request: requests.CallResults) -> Steps[Reply]:
        outboxes, clock = self._parts.outboxes, self._parts.loop.clock
        until, turn = clock() + request.wait_s, outboxes.turn_of(request.executor)
        jobs = (yield from outboxes.jobs_of(request.executor)) if request.jobs else []
        while True:
            found = outboxes.after(request.executor, request.epoch, request.after, request.keep)
            is_last = outboxes.is_turn(request.executor, turn)
            if found.ends or not is_last or self._shutdown.stopping or clock() >= until:
                found.jobs = jobs
                return Reply(reply_bytes.ok(data=found))
            yield Pause.IDLE

    def _control(self, request: requests.Control) -> Steps[Reply]:
        yield from ()
        self._ending.finish_when_idle()
        return Reply(reply_bytes.ok(f"{request.command} command accepted"))

    def _finish(self, request: requests.Finish) -> Steps[Reply]:
        self._shutdown.begin_closing()
        if request.kill:
            for number, no in enumerate(self._jobs.numbers(), 1):
                job = self._jobs.by_no(no)
                if job is not None and not job.state.final and not job.canceling:
                    yield from self._scheduler.cancel_in_steps(job, self._parts.now())
                if not number % _FEW:
                    yield Pause.MORE
        self._ending.finish_after(request.delay_s)
        return Reply(reply_bytes.ok(data=replies.FinishTime(f"{request.delay_s:g}s")), durable=request.kill)

    def _register(self, request: requests.Register) -> Steps[Reply]:
        yield from ()
        raise RefusedError("Register manager request not supported in this kind of manager (direct)")

    def _notify(self, request: requests.Notify) -> Steps[Reply]:
        yield from ()
        raise RefusedError("Operation not supported")


def _page(job: Job, after: int | None, limit: int | None) -> tuple[int, int]:
    """The positions of one page: `limit` of those behind the iteration `after`."""
    iteration = job.spec.iteration
    assert iteration is not None
    total = job.spec.task_count
    start = 0 if after is None else min(max(0, after + 1 - iteration.start), total)
    return start, total if limit is None else min(total, start + limit)


def _encoded(entries: dict[str, Any]) -> Iterator[bytes]:
    """The stretch for these entries, if there are any; they are used up."""
    if entries:
        yield reply_bytes.stretch(entries)
        entries.clear()


def _counted(data: replies.Canceled | replies.Removed, errors: dict[str, str]) -> Reply:
    if errors:
        data.errors = errors
    return Reply(reply_bytes.ok(data=data), durable=data.count > 0)
