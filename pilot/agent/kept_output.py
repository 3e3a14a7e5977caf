"""What tasks print without files of their own: into streams if the job asks for that, else the last lines of those that fail.

A task writes into a file that is its own as long as it runs, one of a few that are used again and again. When it has ended,
what is there is put behind what the tasks before it have written, and the file is emptied. So no task ever waits for us, none
can touch what another has written (`>/dev/stderr` empties the file), nothing is opened for each of a million tasks, and a
kill of the worker leaves what the task had written. For last lines the file has no name and is in memory; it is cut when it
gets long.

Rejected: pipes, read by the worker: a task would wait while the worker is busy, and die of a worker that is killed. One file to
which tasks append themselves, one at a time: the first that empties it takes with it what a thousand others have written.

A process that outlives its task, outside its process group, may write behind its end: that stands with a later task then.
"""

from __future__ import annotations

import fcntl
import logging
import os
import tempfile
from contextlib import suppress
from dataclasses import dataclass, field

from ..execmodels.base import LaunchError
from ..loop import Loop
from ..model.job_spec import Execution
from ..wire import streams
from ..wire.frames import TaskStart
from ..wire.streams import NOTHING, Entry, Kept
from .launch import FileAction

log = logging.getLogger(__name__)

_LAST_BYTES = 4096
_MOST_COPIED_BYTES = 4 << 20
"""What is longer is not copied, which would hold up other tasks: its file is kept as it is."""
_LOOK_S = 0.5
_APPEND = os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND | os.O_CLOEXEC


@dataclass(slots=True)
class Lane:
    """Files for one task at a time. `number` -1: only for last lines; `out` and `err` are descriptors, -1 for none."""

    number: int
    out: int
    err: int
    cut: bytes = b""
    """The last of what was cut off while this task was running."""
    announced: bool = False
    """Whether the index has a line of the task that runs."""
    actions: dict[tuple[bool, bool], list[FileAction]] = field(default_factory=dict)
    """For tasks whose (stdout, stderr) goes there."""


class KeptOutput:
    """Of one worker process. `name`: of its files."""

    def __init__(self, name: str, loop: Loop) -> None:
        self._name = name.replace("/", "_")
        self._loop = loop
        self._folder = ""
        self._streams: list[Lane] = []
        self._scratch: list[Lane] = []
        """Lanes that are free."""
        self._made = 0
        self._in_use: dict[int, Lane] = {}
        """Lanes for last lines with a task, by descriptor."""
        self._looks = False
        self._files: dict[str, int] = {}
        """Open files of this worker, by the ends of their names."""
        self._lines: list[str] = []
        self._failed = False

    def configure(self, aux_dir: str) -> None:
        self._folder = os.path.join(aux_dir, streams.FOLDER)

    # --- one task ---------------------------------------------------------------------------------------------------------

    def lane(self, execution: Execution) -> Lane | None:
        """For a task that is about to start; None when all it prints goes into files of its own, or none can be had.

        Raises LaunchError when a stream cannot be opened.
        """
        if execution.stream and (execution.stdout is None or execution.stderr is None):
            return self._streams.pop() if self._streams else self._new_stream()
        if execution.stderr is not None and execution.stderr != os.devnull:
            return None
        lane = self._scratch.pop() if self._scratch else Lane(-1, -1, _without_name())
        if lane.err < 0:
            self._scratch.append(lane)
            return None
        if not self._looks:
            self._looks = True
            self._loop.call_after(_LOOK_S, self._look)
        self._in_use[lane.err] = lane
        return lane

    @staticmethod
    def actions(lane: Lane, execution: Execution) -> list[FileAction]:
        """What posix_spawn has to do for a task on this lane."""
        goes = execution.stdout is None and lane.out >= 0, lane.number < 0 or execution.stderr is None
        actions = lane.actions.get(goes)
        if actions is None:
            pairs = [(lane.out, 1)] * goes[0] + [(lane.err, 2)] * goes[1]
            actions = lane.actions[goes] = [(os.POSIX_SPAWN_DUP2, *pair) for pair in pairs]
        return actions

    def unused(self, lane: Lane) -> None:
        """The task was not started."""
        self._in_use.pop(lane.err, None)
        (self._scratch if lane.number < 0 else self._streams).append(lane)

    def begun(self, lane: Lane, task: str, start: TaskStart) -> None:
        """A task has run for a while: whoever looks for it is to find what it prints."""
        if lane.number >= 0:
            lane.announced = True
            out, err = (Kept(f"{lane.number}.{end}", 0, None) for end in (streams.OUT, streams.ERR))
            self._lines.append(Entry(task, start.attempt, start.run, None, out, err).line())

    def ended(self, lane: Lane, task: str, start: TaskStart, exit_code: int, failed: bool) -> None:
        """The task on this lane has ended, and nothing of it writes any more."""
        if lane.number < 0:
            err = self._end_last_lines(lane, failed)
            if err is not NOTHING:
                self._lines.append(Entry(task, start.attempt, start.run, exit_code, NOTHING, err).line())
            return
        out = self._take_over(lane, lane.out, streams.OUT)
        err = self._take_over(lane, lane.err, streams.ERR)
        self._lines.append(Entry(task, start.attempt, start.run, exit_code, out, err).line())
        if lane.announced:  # before another task has its files
            self.flush()
            lane.announced = False
        self._empty(lane, out, err)

    def flush(self) -> None:
        """Bring the index up to date; before the ends are reported. What cannot be written is kept for the next time."""
        if not self._lines:
            return
        text = "".join(self._lines).encode(errors="surrogateescape")
        try:
            is_new = streams.INDEX not in self._files
            os.write(self._file(streams.INDEX), streams.HEADER.encode() + text if is_new else text)
        except OSError as error:
            if not self._failed:
                log.error("streams.index_failed", extra={"folder": self._folder, "reason": error.strerror})
            self._failed = True
        else:
            self._lines.clear()
            self._failed = False

    def close(self) -> None:
        """No task runs any more: the files that were theirs while they ran are not needed."""
        self.flush()
        for lane in self._streams:
            for end in (streams.OUT, streams.ERR):
                with suppress(OSError):
                    os.unlink(self._path(f"{lane.number}.{end}"))

    # --- streams ----------------------------------------------------------------------------------------------------------

    def _path(self, end: str) -> str:
        return os.path.join(self._folder, f"{self._name}.{end}")

    def _file(self, end: str) -> int:
        """Opened once. Raises OSError."""
        number = self._files.get(end)
        if number is None:
            os.makedirs(self._folder, mode=0o700, exist_ok=True)
            number = self._files[end] = os.open(self._path(end), _APPEND, 0o666)
        return number

    def _new_stream(self) -> Lane:
        number = self._made
        self._made += 1
        lane = Lane(number, -1, -1)
        try:
            self._open(lane)
        except OSError as error:
            raise LaunchError(f"cannot write to a stream in {self._folder}: {error.strerror}") from error
        return lane

    def _open(self, lane: Lane) -> None:
        """Files for a lane that has none; both or neither. Raises OSError."""
        os.makedirs(self._folder, mode=0o700, exist_ok=True)
        lane.out = os.open(self._path(f"{lane.number}.{streams.OUT}"), _APPEND, 0o666)
        try:
            lane.err = os.open(self._path(f"{lane.number}.{streams.ERR}"), _APPEND, 0o666)
        except OSError:
            os.close(lane.out)
            raise

    def _take_over(self, lane: Lane, descriptor: int, end: str) -> Kept:
        """Put what the task has written behind what others have; what is long, or finds no room, stays where it is."""
        size = os.lseek(descriptor, 0, os.SEEK_END)
        if not size:
            return NOTHING
        if size <= _MOST_COPIED_BYTES:
            with suppress(OSError):
                file = self._file(end)
                start = os.lseek(file, 0, os.SEEK_END)
                if os.write(file, os.pread(descriptor, size, 0)) == size:
                    return Kept(end, start, size)
        return Kept(f"{lane.number}.{end}", 0, size)

    def _empty(self, lane: Lane, out: Kept, err: Kept) -> None:
        """Make the lane ready for the next task, unless its files are kept: then that one gets others."""
        own = f"{lane.number}."
        if any(kept.file is not None and kept.file.startswith(own) for kept in (out, err)):
            os.close(lane.out)
            os.close(lane.err)
            return
        for descriptor, kept in ((lane.out, out), (lane.err, err)):
            if kept.size:
                os.ftruncate(descriptor, 0)
        self._streams.append(lane)

    # --- last lines -------------------------------------------------------------------------------------------------------

    def _end_last_lines(self, lane: Lane, failed: bool) -> Kept:
        """Keep them if the task has failed."""
        self._in_use.pop(lane.err, None)
        self._scratch.append(lane)
        size = os.lseek(lane.err, 0, os.SEEK_END)
        kept = NOTHING
        if failed and (size or lane.cut):
            text = (lane.cut + os.pread(lane.err, _LAST_BYTES, max(0, size - _LAST_BYTES)))[-_LAST_BYTES:]
            with suppress(OSError):  # a full disk: the task's state is what counts
                file = self._file(streams.LAST)
                start = os.lseek(file, 0, os.SEEK_END)
                kept = Kept(streams.LAST, start, os.write(file, text))
        lane.cut = b""
        if size:
            os.ftruncate(lane.err, 0)
        return kept

    def _look(self) -> None:
        """Cut what has become long. What is written between the two calls is lost, of a megabyte that nobody wanted."""
        for number, lane in self._in_use.items():
            size = os.fstat(number).st_size
            if size > _MOST_COPIED_BYTES:
                lane.cut = os.pread(number, _LAST_BYTES, size - _LAST_BYTES)
                os.ftruncate(number, 0)
        self._looks = bool(self._in_use)
        if self._looks:
            self._loop.call_after(_LOOK_S, self._look)


def _without_name() -> int:
    """A file without a name that is written at its end, in memory if that can be had; -1 for none."""
    number = -1
    with suppress(AttributeError, OSError):  # not all builds of Python have this
        number = os.memfd_create("stderr")
    for folder in ("/dev/shm", tempfile.gettempdir() if number < 0 else ""):
        if number < 0 and folder:
            with suppress(OSError):
                number = os.open(folder, os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o600)
    if number >= 0:
        fcntl.fcntl(number, fcntl.F_SETFL, os.O_APPEND)
    return number
