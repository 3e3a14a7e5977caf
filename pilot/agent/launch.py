"""From a description and a grant to one posix_spawn call: program, arguments, environment, folder, streams.

Python's posix_spawn cannot change the folder of the child, so the hand goes there itself before it spawns: it has one
thread and no use for a folder of its own. Defaults cost nothing: the hand's own streams are /dev/null and are inherited.
"""

from __future__ import annotations

import os
import shutil
import signal
import stat
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import lru_cache

from ..execmodels.base import LaunchError as LaunchError
from ..execmodels.base import Place
from ..execmodels.choose import wrap_of
from ..execmodels.default import behind_prelude, command, program_words
from ..execmodels.environ import Env, encode, without_other_gpus
from ..execmodels.threads import thread_environment
from ..model.job import Execution

# Python ignores these; a program expects to die of them.
DEFAULT_SIGNALS = (signal.SIGPIPE, signal.SIGXFSZ)
_STREAM_MODE = 0o666
# O_NONBLOCK means nothing to a file; a named pipe that nobody reads is refused with it, instead of waited for.
_WRITE = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NONBLOCK


@dataclass(slots=True)
class Launch:
    """Everything posix_spawn needs; `env` still lacks what differs from task to task."""

    program: str
    argv: list[str]
    env: Env
    wd: str
    file_actions: list[tuple[object, ...]]
    execution: Execution
    files: Mapping[str, str] = field(default_factory=dict)
    """Files the execution model wants to be there while the task runs, with their texts."""

    def spawn(self) -> int:
        """Start the process in a session of its own and return its id. Raises OSError as posix_spawn does."""
        return os.posix_spawn(
            self.program,
            self.argv,
            self.env,
            file_actions=self.file_actions,
            setsid=True,
            setsigmask=(),
            setsigdef=DEFAULT_SIGNALS,
        )


def environment(execution: Execution, base: Env, of_grant: Env, cores: int) -> Env:
    """All variables of a task but those that differ from run to run: the agent's, the job's, ours; later ones win."""
    of_job = encode(execution.env)
    env = without_other_gpus({**base, **of_job, **of_grant}, of_job, of_grant)
    if execution.model == "threads":
        env.update(thread_environment(cores, of_job))
    return env


def prepare(execution: Execution, env: Env, root_wd: str, place: Place | None = None) -> Launch:
    """Work out how to start a task whose variables have been filled in. Raises LaunchError.

    `place` is for the execution model; None when the program is simply started.
    """
    wd = root_wd if execution.wd is None else os.path.normpath(os.path.join(root_wd, execution.wd))
    if execution.stdin is not None:
        _refuse_pipe(os.path.join(wd, execution.stdin))
    path = env.get(b"PATH", os.fsencode(os.defpath))
    if place is None:
        argv = command(execution)
        return Launch(_find_program(argv[0], wd, path), argv, env, wd, _streams(execution), execution)
    wrapped = wrap_of(execution.model)(program_words(execution), place)
    argv = behind_prelude(execution, wrapped.argv)
    program = _find_launcher(argv[0], wd, path, execution)
    of_model = {name: value for name, value in wrapped.env.items() if name not in execution.env}
    env = {**env, **encode(of_model), **encode(place.env)}
    return Launch(program, argv, env, wd, _streams(execution), execution, wrapped.files)


def _find_launcher(name: str, wd: str, path: bytes, execution: Execution) -> str:
    try:
        return _find_program(name, wd, path)
    except LaunchError as error:
        if name == execution.exec:
            raise
        remedy = "load its module with execution.modules, or say where it is with model_opts.mpirun"
        raise LaunchError(f"{error}; execution model '{execution.model}' needs it: {remedy}") from None


def _find_program(name: str, wd: str, path: bytes) -> str:
    """Where the program is: relative to the task's folder when the name has a slash, else on the task's PATH."""
    return os.path.join(wd, name) if "/" in name else _find_on_path(name, path)


@lru_cache(maxsize=1024)
def _find_on_path(name: str, path: bytes) -> str:
    """Like a shell, a hand remembers where it has found a program, and looks again for what it has not."""
    found = shutil.which(name, path=os.fsdecode(path))
    if found is None:
        raise LaunchError(f"[Errno 2] No such file or directory: '{name}' (not found on PATH)")
    return found


def _refuse_pipe(path: str) -> None:
    """A child waits for a named pipe's other end as it opens it, and the hand for its child: it would stand still."""
    with suppress(OSError):
        if stat.S_ISFIFO(os.stat(path).st_mode):
            raise LaunchError(f"cannot read stdin '{path}': it is a named pipe; open it inside the task")


def _streams(execution: Execution) -> list[tuple[object, ...]]:
    actions: list[tuple[object, ...]] = []
    if execution.stdin is not None:
        actions.append((os.POSIX_SPAWN_OPEN, 0, execution.stdin, os.O_RDONLY, 0))
    if execution.stdout is not None:
        actions.append((os.POSIX_SPAWN_OPEN, 1, execution.stdout, _WRITE, _STREAM_MODE))
    if execution.stderr is not None:
        if execution.stderr == execution.stdout:
            actions.append((os.POSIX_SPAWN_DUP2, 1, 2))
        else:
            actions.append((os.POSIX_SPAWN_OPEN, 2, execution.stderr, _WRITE, _STREAM_MODE))
    return actions


def enter_folder(wd: str) -> None:
    """Make `wd` the current folder, creating it with its parents. Raises LaunchError."""
    try:
        try:
            os.chdir(wd)
        except FileNotFoundError:
            os.makedirs(wd, exist_ok=True)
            os.chdir(wd)
    except OSError as error:
        raise LaunchError(f"cannot use working directory '{wd}': {error.strerror}") from error


def mend(launch: Launch) -> bool:
    """After a failed spawn: look for the program again, create missing folders of the output streams.

    True when the next try may succeed: also where another hand was faster with a folder. Raises LaunchError.
    """
    changed = _found_elsewhere(launch)
    for stream in (launch.execution.stdout, launch.execution.stderr):
        folder = os.path.dirname(stream) if stream else ""
        if folder:
            try:
                os.makedirs(folder, exist_ok=True)
            except OSError as error:
                raise LaunchError(f"cannot make folder '{folder}' for '{stream}': {error.strerror}") from error
            changed = True
    return changed


def _found_elsewhere(launch: Launch) -> bool:
    """Whether a program that was found on PATH has moved since."""
    name = launch.argv[0]
    if "/" in name or os.access(launch.program, os.X_OK):
        return False
    _find_on_path.cache_clear()
    launch.program = _find_on_path(name, launch.env.get(b"PATH", os.fsencode(os.defpath)))
    return True


def why_not(launch: Launch, error: OSError) -> str:
    """posix_spawn gives only a number: find out which of the paths it was about. The current folder is the task's."""
    execution = launch.execution
    if execution.stdin is not None:
        problem = _cannot_open(execution.stdin, os.O_RDONLY)
        if problem:
            return f"cannot read stdin '{execution.stdin}' in {launch.wd}: {problem}"
    for name, stream in (("stdout", execution.stdout), ("stderr", execution.stderr)):
        problem = _cannot_open(stream, os.O_WRONLY | os.O_CREAT) if stream is not None else ""
        if problem:
            return f"cannot write {name} '{stream}' in {launch.wd}: {problem}"
    return _why_not_program(launch.program, error)


def _cannot_open(path: str, flags: int) -> str:
    try:
        os.close(os.open(path, flags | os.O_NONBLOCK, _STREAM_MODE))
    except OSError as error:
        return error.strerror or str(error)
    return ""


def _why_not_program(program: str, error: OSError) -> str:
    text = f"[Errno {error.errno}] {error.strerror}: '{program}'"
    try:
        mode = os.stat(program).st_mode
        if stat.S_ISDIR(mode):
            return f"{text} (it is a directory)"
        if not os.access(program, os.X_OK):
            return f"{text} (it is not executable; chmod +x)"
        with open(program, "rb") as file:
            first = file.readline(256)
    except OSError:
        return text
    if first.startswith(b"#!"):
        return f"{text} (its interpreter '{os.fsdecode(first[2:].strip())}' cannot be started)"
    return f"{text} (it is not a program for this machine)" if error.errno == 8 else text
