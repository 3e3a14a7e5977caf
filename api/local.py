"""`LocalManager`: a pilot of one's own, as a process beside this one.

The process holds one end of a pipe whose other end only we have: when we are gone, however that came about, the pipe ends,
and manager, agents and tasks end with it.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, BinaryIO, cast

from ..pilot import own_python, variable_names
from ..pilot.console import fill_closed_descriptors
from ..pilot.exit_codes import ExitCode
from ..pilot.model.errors import EndingError, SettingsError
from .errors import ConnectionError, RequestRefusedError, ServiceError
from .forking import renew_in_children
from .manager import Manager
from .outcome import final_status
from .plain import as_seconds

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from .service_options import ServiceOptions

_FINISH_WAIT_S = 10.0
_TERM_WAIT_S = 15.0
_KILL_WAIT_S = 5.0
_SLICE_S = 0.5


class LocalManager(Manager):
    """Start a pilot on this machine (or in this allocation) and talk to it.

    As a context manager it ends the pilot: leaving the block normally waits until all submitted work is done; leaving it by
    an exception (Ctrl-C included) stops the tasks that run, and keeps them and all that waits for `--resume`. A second
    Ctrl-C kills them at once. If this Python process dies, manager and tasks end too.

    A forked child may use the pilot, over a connection of its own; that it ends, or leaves the block, changes nothing for the
    pilot, which only the process that started it can end. Pickled it is a Manager of that pilot.

    Args:
        server_args: options of `pilotfish service`, e.g. `["--nodes", 4, "--wd", Path("work")]`; paths and numbers become
            text.
        cfg: as Manager; also `init_timeout` (300 s): how long the start may take.
        keep: leave the pilot running, whatever happens here; `connection_file` tells others where it is.
        hold: start no task until `release` is called; a resumed pilot would start at once what is left of its work.
        options: options of `pilotfish service` as keywords, with values of Python: `LocalManager(nodes=4)`, `nodes=(4, 2)`,
            `wd=Path("work")`, `walltime=3600`, `tags=["fast"]`, `net=True`.

    Raises:
        ServiceError: the manager did not start; the text says why. Its `code` is "settings" where an argument was wrong.
        WrongArgumentsError: an unknown option, or a value that cannot be one; a TypeError that names all of them.
    """

    def __init__(
        self,
        server_args: Sequence[object] | None = None,
        cfg: Mapping[str, Any] | None = None,
        *,
        keep: bool = False,
        hold: bool = False,
        **options: Unpack[ServiceOptions],
    ) -> None:
        from .service_options import checked_words, words_of

        config = dict(cfg or {})
        words = checked_words(() if server_args is None else server_args) + words_of(options)
        init_timeout_s = as_seconds(config.get("init_timeout", 300), "init_timeout", least=0.0)
        fill_closed_descriptors()  # the pipes to the service must not be its streams
        self._keep = keep
        self._owner = os.getpid()
        self._lifeline: int | None = None
        self._hold = os.pipe() if hold else None
        try:
            # For what the service writes to stderr: not a pipe, which nobody reads while all goes well, and nothing on a disk.
            with _memory_file() as said:
                self._process, self.connection_file = self._start(words, init_timeout_s, said)
        except BaseException:
            self._let_go()
            raise
        try:
            super().__init__(str(self.connection_file), config)
        except BaseException:
            self.kill_manager_process()
            raise
        self._channel.why_gone = self._why_ended
        renew_in_children(self)

    def after_fork(self) -> None:
        """The child does not keep the pilot alive when its parent has died."""
        self._let_go()

    @property
    def is_ours(self) -> bool:
        """Whether this process has started it, and not only inherited it: only the parent of a process can wait for it."""
        return os.getpid() == self._owner

    def _has_ended(self) -> bool:
        if self.is_ours:
            return self._process.poll() is not None
        try:
            os.kill(self._process.pid, 0)
        except ProcessLookupError:
            return True
        return False

    def _why_ended(self) -> str:
        """Empty while it runs."""
        if not self._has_ended():
            return ""
        status = final_status(self.connection_file.parent)
        problem = None if status is None else status.system.problem
        return f"the pilot has ended: {problem}" if problem else "the pilot has ended"

    def _need_ours(self) -> None:
        if not self.is_ours:
            raise ServiceError(
                f"this pilot is not this process's to end: process {self._owner} started it",
                remedy="let that one do it, or make a Manager(connection_file) here and use its finish()",
            )

    def _start(self, server_args: list[str], timeout_s: float, said: BinaryIO) -> tuple[subprocess.Popen[bytes], Path]:
        ready, ready_there = os.pipe()
        try:
            process = self._spawn([*server_args, "--ready-fd", str(ready_there)], ready_there, said)
        except BaseException:
            os.close(ready)
            raise
        finally:
            os.close(ready_there)
        try:
            line = _read_line(ready, timeout_s)
        except BaseException:  # Ctrl-C: nobody else knows of the process
            process.terminate()
            _ended(process, _TERM_WAIT_S)
            raise
        finally:
            os.close(ready)
        if not line or line.startswith("error: "):
            error = ServiceError(self._why_not(process, line, timeout_s, said))
            if process.returncode == ExitCode.BAD_INPUT:
                error.code = SettingsError.code
            raise error
        return process, Path(line)

    def _spawn(self, server_args: list[str], ready_there: int, said: BinaryIO) -> subprocess.Popen[bytes]:
        """Start the service: in a session of its own, so that Ctrl-C at the terminal is for us, who end it in good order."""
        # Below `pilotfish with` this Python may have Pilotfish only lent, which agents on other nodes would not have.
        python = os.environ.get(variable_names.DROPIN_PYTHON, sys.executable)
        command = own_python.pilotfish(python, "service", *server_args)
        inherited = [ready_there]
        lifeline_there = None
        if not self._keep:
            lifeline_there, self._lifeline = os.pipe()
            inherited.append(lifeline_there)
            command += ["--lifeline-fd", str(lifeline_there)]
        if self._hold is not None:
            inherited.append(self._hold[0])
            command += ["--hold-fd", str(self._hold[0])]
        try:
            return subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=None if "--show-progress" in server_args else subprocess.DEVNULL,
                stderr=said,
                pass_fds=inherited,
                start_new_session=True,
            )
        finally:
            if lifeline_there is not None:
                os.close(lifeline_there)

    def _why_not(self, process: subprocess.Popen[bytes], line: str, timeout_s: float, said: BinaryIO) -> str:
        if not line and not _ended(process, 1.0):
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            return f"Service not started in {timeout_s:.1f}"
        process.wait()
        said.seek(0)
        text = said.read().decode(errors="replace").strip().removeprefix("Error: ")  # as all our commands begin
        return line.removeprefix("error: ") or text or f"Service process killed (exit code {process.returncode})"

    def __enter__(self) -> LocalManager:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._keep or not self.is_ours:
            self.close()
            return
        try:
            if self._process.poll() is None and kind is None:
                self._ask_to_finish()
                self._process.wait()
            elif self._process.poll() is None:
                self._interrupt()
        except KeyboardInterrupt:
            self._interrupt()
            raise
        finally:
            self._end(0.0)

    def _interrupt(self) -> None:
        """As Ctrl-C for a service: what runs is stopped and stays queued. When that is not waited for, it is killed."""
        try:
            self._process.send_signal(signal.SIGINT)
            _ended(self._process, _TERM_WAIT_S)
        except KeyboardInterrupt:
            self._process.send_signal(signal.SIGINT)
            with contextlib.suppress(KeyboardInterrupt):
                _ended(self._process, _KILL_WAIT_S)

    def finish(self) -> None:
        """End the pilot: submitted work runs on for at most 10 s, then everything is stopped."""
        self._need_ours()
        if self._process.poll() is None:
            self._ask_to_finish()
        self._end(_FINISH_WAIT_S)

    def _ask_to_finish(self) -> None:
        try:
            self.client.finish()
        except RequestRefusedError as error:
            if error.code != EndingError.code:  # else its time is over, or somebody else has asked
                raise
        except ConnectionError:
            if self._process.poll() is None:  # else it has just ended, because somebody else has asked
                raise

    def kill_manager_process(self) -> None:
        """Stop manager and tasks now (SIGTERM)."""
        self._end(0.0)

    def release(self) -> None:
        """Let a pilot that was started with `hold` begin."""
        if self._hold is not None:
            os.write(self._hold[1], b"\n")
            self._close_hold()

    @property
    def exit_code(self) -> int | None:
        """How the manager has ended (75: the allocation is over and work is left); None while it runs."""
        self._need_ours()
        return self._process.poll()

    def send_signal(self, number: int) -> None:
        """Pass a signal on to the manager, as the batch system's warning that the end is near."""
        self._need_ours()
        self._process.send_signal(number)

    def stop(self) -> None:
        """Stop manager and tasks now and let go of the connection."""
        self._end(0.0)

    @staticmethod
    def is_notebook() -> bool:
        """Whether this runs in a Jupyter notebook; nothing here depends on it any more."""
        # Only a running IPython has a shell, and it has been imported then; that ipykernel was imported says nothing.
        ipython = sys.modules.get("IPython")
        shell = None if ipython is None else ipython.get_ipython()
        return any(base.__name__ == "ZMQInteractiveShell" for base in type(shell).__mro__)

    def _end(self, wait_s: float) -> None:
        """Wait for the process, then escalate: SIGTERM, then SIGKILL."""
        self._need_ours()
        process = self._process
        if not _ended(process, wait_s):
            process.terminate()
            if not _ended(process, _TERM_WAIT_S):
                process.kill()
                process.wait()
        self._let_go()
        if hasattr(self, "client"):
            self.close()

    def _let_go(self) -> None:
        if self._lifeline is not None:
            os.close(self._lifeline)
            self._lifeline = None
        self._close_hold()

    def _close_hold(self) -> None:
        for descriptor in self._hold or ():
            os.close(descriptor)
        self._hold = None


def _memory_file() -> BinaryIO:
    """Without a name, and in memory where this Python can make such: those of Miniforge and uv are built without."""
    with contextlib.suppress(AttributeError, OSError):
        return open(os.memfd_create("said"), "w+b")
    import tempfile

    with contextlib.suppress(OSError):
        return cast(BinaryIO, tempfile.TemporaryFile(dir="/dev/shm"))
    return cast(BinaryIO, tempfile.TemporaryFile())


def _ended(process: subprocess.Popen[bytes], wait_s: float) -> bool:
    """Whether it ends in `wait_s` seconds, counted in slices: time for which we are stopped, mostly with it, is left out."""
    while True:
        slice_s = min(_SLICE_S, wait_s)
        try:
            process.wait(slice_s)
        except subprocess.TimeoutExpired:
            wait_s -= slice_s
            if wait_s <= 0.0:
                return False
        else:
            return True


def _read_line(descriptor: int, timeout_s: float) -> str:
    """What the service says about its start; empty when it ended or took too long."""
    text = b""
    while not text.endswith(b"\n"):
        slice_s = min(_SLICE_S, max(0.0, timeout_s))
        ready, _, _ = select.select([descriptor], [], [], slice_s)
        timeout_s -= slice_s
        if not ready and timeout_s > 0.0:
            continue
        part = os.read(descriptor, 65536) if ready else b""
        if not part:
            return ""
        text += part
    return os.fsdecode(text).strip()
