"""Calls of Python functions among the tasks of one worker process: begun, ended, lost with their function worker.

Part of TaskRunner, which owns grants, pools and what runs; the function workers themselves are in function_workers.py.
"""

from __future__ import annotations

from collections.abc import Callable, Collection

from ..functions import worker as program
from ..loop import Loop
from ..model.ids import JobNo, TaskKey
from ..wire.frames import Cause, Finished, TaskStart
from .function_workers import Ended, FunctionWorker, FunctionWorkers, with_output
from .report_buffer import ReportBuffer
from .task_starter import TaskStarter
from .tasks import HeldGrant, Pool, Task, key_of

_MOST_READ = 200
"""Ends of one function worker in one turn: it may write them as fast as they are read."""


class Calls:
    """`begun`: a call runs. `over`: one has ended that was the last its function worker had; whether its grant goes back."""

    def __init__(
        self,
        loop: Loop,
        starter: TaskStarter,
        report_buffer: ReportBuffer,
        begun: Callable[[Task], None],
        over: Callable[[Task], bool],
    ) -> None:
        self._starter = starter
        self._report_buffer = report_buffer
        self._begun = begun
        self._over = over
        self._workers = FunctionWorkers(loop, starter.spawn_function_worker, self._read)

    def start(self, start: TaskStart, held: HeldGrant, pool: Pool) -> Task:
        """Let a function worker make this call. Raises as TaskStarter.start."""
        calls = self._starter.calls_of(start.job_no)
        assert calls is not None
        try:
            worker = self._workers.worker_for(self._starter.wants_of(start.job_no, held), held)
            try:
                self._workers.send(worker, start, calls.data)
            except OSError:
                self._workers.dismiss(worker)
                raise
        except OSError as error:
            raise self._starter.no_room(error) from error
        task = self._starter.call(start, held, pool, worker)
        self._send_ahead(worker, task)
        return task

    def _send_ahead(self, worker: FunctionWorker, task: Task) -> None:
        """Give it what it can do in a moment, of the same kind as what it does."""
        waiting, room = task.pool.waiting, worker.most_ahead - len(worker.ahead)
        while waiting and room > 0:
            start = waiting[0]
            calls = self._starter.calls_of(start.job_no)
            if calls is None or (start.job_no != task.start.job_no and not self._suits(worker, start, task)):
                return
            try:
                self._workers.send(worker, start, calls.data)
            except OSError:  # it has no room for more now, or we have none
                return
            worker.ahead.append(waiting.popleft())
            room -= 1

    def _suits(self, worker: FunctionWorker, start: TaskStart, task: Task) -> bool:
        """Whether it can serve a call of another job on its grant; that of an MPI function comes to find out by itself."""
        calls = self._starter.calls_of(start.job_no)
        is_plain = calls is not None and not calls.ranks
        return is_plain and self._starter.wants_of(start.job_no, task.held) == worker.wants

    def turned_out_long(self, task: Task) -> None:
        """Others may take what was to follow it."""
        worker = self._workers.get(task.pid)
        if worker is not None and worker.ahead:
            self._take_back(worker, task)

    def take_back(self, keys: Collection[TaskKey]) -> None:
        """Whichever of these was sent ahead waits here again, or runs if it has begun."""
        for worker in self._workers.all():
            task = worker.task
            if task is not None and any(key_of(start) in keys for start in worker.ahead):
                self._take_back(worker, task)
                self._take_ends(worker)

    def take_all_back(self) -> None:
        for worker in self._workers.all():
            if worker.task is not None:
                self._take_back(worker, worker.task)

    def _take_back(self, worker: FunctionWorker, task: Task) -> None:
        """What it has not begun waits again, but not the call that it is about to begin.

        It reads the same socket meanwhile: then it has begun with a later one, and that is what it does now.
        """
        back = self._workers.take_back(worker)
        if back and back[0] is task.start:
            if worker.ahead:
                self._begun(self._starter.call(worker.ahead.popleft(), task.held, task.pool, worker))
            else:
                self._send_again(worker, back.pop(0))
        task.pool.waiting.extendleft(reversed(back))

    def _send_again(self, worker: FunctionWorker, start: TaskStart) -> None:
        calls = self._starter.calls_of(start.job_no)
        assert calls is not None
        try:
            self._workers.send(worker, start, calls.data)
        except OSError as error:
            self._workers.give_up(worker, str(error))

    def _take_ends(self, worker: FunctionWorker) -> None:
        for _ in range(_MOST_READ):
            ended = self._workers.read(worker)
            if ended is None:
                break
            self._take(worker, ended)

    def _read(self, worker: FunctionWorker) -> None:
        self._take_ends(worker)
        # One that has died takes all that it is sent, as its end of the link is open here, and does none of it.
        if worker.task is not None and not worker.is_dead and 2 * len(worker.ahead) < worker.most_ahead:
            self._send_ahead(worker, worker.task)

    def _take(self, worker: FunctionWorker, ended: Ended) -> None:
        task = worker.task
        assert task is not None
        is_being_stopped = task.kill_timer is not None
        if is_being_stopped:  # the signal was for this one alone: what it may have begun since is begun again
            self._take_back(worker, task)
            task.pool.waiting.extendleft(reversed(worker.ahead))
            worker.ahead.clear()
        elif ended.how == program.UNKNOWN:
            self._not_made(worker, task)
            return
        if worker.ahead and not is_being_stopped:
            self._begun(self._starter.call(worker.ahead.popleft(), task.held, task.pool, worker))
            self._report(task, ended, returns_grant=False)
            return
        calls = self._starter.calls_of(task.start.job_no)
        if is_being_stopped:
            worker.task = None
            self._workers.dismiss(worker)
        else:
            assert calls is not None
            self._workers.rest(worker, calls.max_calls, calls.max_bytes)
        self._report(task, ended, self._over(task))

    def _not_made(self, worker: FunctionWorker, task: Task) -> None:
        """It has begun with this call when the one before it was taken back, which had the data of the job: it waits again."""
        task.pool.waiting.appendleft(task.start)
        if worker.ahead:
            self._begun(self._starter.call(worker.ahead.popleft(), task.held, task.pool, worker))
            return
        self._workers.rest(worker, 0, 0)
        if self._over(task):
            self._report_buffer.returned(task.held.grant.grant_id)

    def _report(self, task: Task, ended: Ended, returns_grant: bool) -> None:
        self._report_buffer.returned_value(TaskKey(*task.start[:3]), ended.data)
        self._report_buffer.finished(
            Finished(
                *task.start[:3],
                task.held.grant.grant_id,
                task.pid,
                ended.started_s,
                ended.ended_s,
                0 if ended.how == program.RETURNED else 1,
                Cause.EXITED,
                ended.cpu_s,
                ended.max_rss_kib,
                ended.message,
                returns_grant,
            )
        )

    def lost(self, pid: int) -> None:
        """A process has ended: if it was a function worker, what it had not begun waits again. Its call is not over yet."""
        worker = self._workers.get(pid)
        if worker is None:
            return
        worker.is_dead = True
        if worker.task is not None:
            self._take_back(worker, worker.task)
        self._read(worker)
        task = worker.task
        if task is not None:
            task.pool.waiting.extendleft(
                reversed(worker.ahead)
            )  # it has taken them, and nothing that counts came of them
            printed = self._workers.last_words(worker)
            if printed:
                self._report_buffer.returned_value(TaskKey(*task.start[:3]), with_output(printed))
        self._workers.dismiss(worker)

    def forget(self, job_no: JobNo) -> None:
        self._workers.forget(job_no)

    def close(self) -> None:
        self._workers.close()
