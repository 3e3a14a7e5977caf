"""From a description and a grant to one posix_spawn call: program, arguments, environment, folder, streams.

Python's posix_spawn cannot change the folder of the child, so the worker goes there itself before it spawns: it has one
thread and no use for a folder of its own. Defaults cost nothing: the worker's own streams are /dev/null and are inherited.

Named streams are opened by the worker and passed on. A child that waited for the reader of a named pipe, or for the carrier of
a terminal line, would hold up its worker, which waits until the child has become its program. So they are opened without
waiting, and then made what a shell's `>` and `<` would have made them: the flag would stay with the task, whose writes would
fail as soon as a reader is slower than it.

A name such as /dev/stdout means a descriptor of whoever opens it. What a shell would take from the terminal it was started
in, a task cannot have: it has a descriptor only if the job has named a file for it. Opened by the worker, /dev/fd/7 would
even be something of the worker's own.
"""

from __future__ import annotations

import errno
import os
import re
import resource
import shutil
import signal
import stat
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import lru_cache
from typing import NamedTuple

from ..execmodels.base import LaunchError as LaunchError
from ..execmodels.base import Place
from ..execmodels.choose import wrap_of
from ..execmodels.default import LongTexts, behind_prelude, command, program_words
from ..execmodels.environ import Env, encode, without_other_gpus
from ..execmodels.threads import thread_environment
from ..inherited import Inherited
from ..model.job_spec import Execution
from ..wire.word_limits import MOST_WORD_BYTES
from .launcher_hints import NO_HINTS, Hints

_STREAM_MODE = 0o666
# A process that leads a session, as tasks do, would be tied to a terminal it opens; a shell's commands are not.
_READ = os.O_RDONLY | os.O_NOCTTY
_WRITE = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOCTTY
_NULL = os.stat(os.devnull).st_rdev

_DESCRIPTOR = re.compile(r"/dev/(?:std(?P<name>in|out|err)|fd/(?P<fd>\d+))|/proc/(?:thread-)?self/fd/(?P<number>\d+)")
_STREAMS = ("stdin", "stdout", "stderr")

FileAction = tuple[object, ...]
"""As posix_spawn takes it: POSIX_SPAWN_OPEN or POSIX_SPAWN_DUP2 and its values."""


class Stream(NamedTuple):
    """One of the streams 0, 1, 2 that is not inherited. `path` None: stderr goes where stdout goes."""

    number: int
    path: str | None
    flags: int


class OpenFiles(NamedTuple):
    """(soft, hard) limits of open files: a task's, and ours, which was raised for the many connections of a manager."""

    of_task: tuple[int, int]
    own: tuple[int, int]


class Signals(NamedTuple):
    """A task's: those that are not ignored in it though they are in us, and those that are blocked."""

    default: frozenset[int] = frozenset({signal.SIGPIPE, signal.SIGXFSZ})  # Python ignores these
    blocked: frozenset[int] = frozenset()


@dataclass(slots=True)
class Launch:
    """Everything posix_spawn needs; `env` still lacks what differs from task to task."""

    program: str
    argv: list[str]
    env: Env
    wd: str
    streams: list[Stream]
    execution: Execution
    files: Mapping[str, str] = field(default_factory=dict)
    """Files the execution model wants to be there while the task runs, with their texts."""
    open_files: OpenFiles | None = None
    """None: the limit of open files is inherited."""
    signals: Signals = field(default_factory=Signals)
    kept: list[FileAction] = field(default_factory=list)
    """For streams that have no file: see kept_output.py, function_workers.py."""

    def spawn(self) -> int:
        """Start the process in a session of its own and return its id. Raises OSError as posix_spawn does, and LaunchError."""
        if not self.streams:
            return self._spawn(self.kept)
        actions, opened = open_streams(self.streams)
        try:
            return self._spawn([*actions, *self.kept])
        finally:
            close_all(opened)

    def _spawn(self, actions: list[FileAction]) -> int:
        if self.open_files is not None:
            resource.setrlimit(resource.RLIMIT_NOFILE, self.open_files.of_task)
        try:
            return os.posix_spawn(
                self.program,
                self.argv,
                self.env,
                file_actions=actions,
                setsid=True,
                setsigmask=self.signals.blocked,
                setsigdef=self.signals.default,
            )
        finally:
            if self.open_files is not None:
                resource.setrlimit(resource.RLIMIT_NOFILE, self.open_files.own)


def task_signals(inherited: Inherited) -> Signals:
    """What posix_spawn has to change, given that we ignore all that a task is to ignore."""
    ignored_here = {number for number in signal.valid_signals() if signal.getsignal(number) is signal.SIG_IGN}
    return Signals(frozenset(ignored_here - inherited.ignored), inherited.blocked)


def task_open_files(soft: int) -> OpenFiles | None:
    """The limit for tasks of a pilot that was started where the soft limit was `soft`; None when it is ours anyway."""
    own = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == own[0]:
        return None
    hard = own[1]
    if hard != resource.RLIM_INFINITY:  # this may be another node, which allows less
        soft = hard if soft == resource.RLIM_INFINITY else min(soft, hard)
    return OpenFiles((soft, hard), own)


def open_streams(streams: Iterable[Stream]) -> tuple[list[FileAction], list[int]]:
    """Open them, in the current folder; returns what the child is to do, and the descriptors to be closed afterwards.

    Raises OSError, also for a named pipe that nobody reads, and LaunchError for one that is to be read.
    """
    actions: list[FileAction] = []
    opened: list[int] = []
    try:
        for number, path, flags in streams:
            if path is None:
                actions.append((os.POSIX_SPAWN_DUP2, 1, number))
                continue
            descriptor = os.open(path, flags | os.O_NONBLOCK | os.O_CLOEXEC, _STREAM_MODE)
            opened.append(descriptor)
            if _is_of_child(descriptor, path, number):
                actions.append((os.POSIX_SPAWN_OPEN, number, path, flags, _STREAM_MODE))
            else:
                os.set_blocking(descriptor, True)
                actions.append((os.POSIX_SPAWN_DUP2, descriptor, number))
    except BaseException:
        close_all(opened)
        raise
    return actions, opened


def _is_of_child(descriptor: int, path: str, number: int) -> bool:
    """Whether the name may mean something else in the child, as /dev/stdout does: here it leads to our own /dev/null.

    Raises LaunchError for a named pipe as stdin.
    """
    status = os.fstat(descriptor)
    if number == 0 and stat.S_ISFIFO(status.st_mode):
        raise _pipe_as_stdin(path)
    return stat.S_ISCHR(status.st_mode) and status.st_rdev == _NULL and path != os.devnull


def close_all(descriptors: Iterable[int]) -> None:
    for descriptor in descriptors:
        os.close(descriptor)


def environment(execution: Execution, base: Env, of_grant: Env, cores: int, hints: Hints = NO_HINTS) -> Env:
    """All variables of a task but those that differ from run to run: the agent's, the job's, ours; later ones win.

    The job's own win over `hints`.
    """
    of_job = encode(execution.env)
    env = without_other_gpus({**base, **hints.env, **of_job, **of_grant}, of_job, of_grant)
    if execution.model == "threads":
        env.update(thread_environment(cores, of_job, hints.has_places))
    return env


def prepare(
    execution: Execution, env: Env, root_wd: str, place: Place | None = None, long_texts: LongTexts | None = None
) -> Launch:
    """Work out how to start a task whose variables have been filled in. Raises LaunchError.

    `place` is for the execution model; None when the program is simply started. `long_texts` gets what needs a
    file; None: there is no place for one.
    """
    wd = root_wd if execution.wd is None else os.path.normpath(os.path.join(root_wd, execution.wd))
    streams = _streams(execution, wd)
    if "PWD" not in execution.env:
        env[b"PWD"] = os.fsencode(wd)
    path = env.get(b"PATH", os.fsencode(os.defpath))
    if place is None:
        argv = command(execution, long_texts)
        return Launch(_find_program(argv[0], wd, path), argv, env, wd, streams, execution)
    wrapped = wrap_of(execution.model)(program_words(execution, long_texts), place)
    argv = behind_prelude(execution, wrapped.argv, long_texts)
    program = _find_launcher(argv[0], wd, path, execution)
    of_model = {name: value for name, value in wrapped.env.items() if name not in execution.env}
    env = {**env, **encode(of_model), **encode(place.env)}
    return Launch(program, argv, env, wd, streams, execution, wrapped.files)


def _find_launcher(name: str, wd: str, path: bytes, execution: Execution) -> str:
    try:
        return _find_program(name, wd, path)
    except LaunchError as error:
        if name == execution.exec:
            raise
        remedy = "load its module with execution.modules, or name it with model_opts.mpirun"
        raise LaunchError(f"{error}; execution model '{execution.model}' needs it: {remedy}") from None


def _find_program(name: str, wd: str, path: bytes) -> str:
    """Where the program is: relative to the task's folder when the name has a slash, else on the task's PATH."""
    return os.path.join(wd, name) if "/" in name else _find_on_path(name, path)


@lru_cache(maxsize=1024)
def _find_on_path(name: str, path: bytes) -> str:
    """Like a shell, a worker remembers where it has found a program, and looks again for what it has not."""
    found = shutil.which(name, path=os.fsdecode(path))
    if found is None:
        raise LaunchError(f"[Errno 2] No such file or directory: '{name}' (not found on PATH)")
    return found


def _refuse_pipe(path: str) -> None:
    """Opened without waiting it would be at its end before anybody has written to it. Asked before it is opened at all,
    because somebody may wait for a reader.
    """
    with suppress(OSError):
        if stat.S_ISFIFO(os.stat(path).st_mode):
            raise _pipe_as_stdin(path)


def _pipe_as_stdin(path: str) -> LaunchError:
    return LaunchError(f"cannot read stdin '{path}': it is a named pipe; open it inside the task")


def _streams(execution: Execution, wd: str) -> list[Stream]:
    """Raises LaunchError for names that cannot mean anything in a task."""
    streams: list[Stream] = []
    for number, path in enumerate((execution.stdin, execution.stdout, execution.stderr)):
        if path is None:
            continue
        _refuse_foreign_descriptor(number, path, wd, {stream.number for stream in streams})
        if number == 0:
            _refuse_pipe(os.path.join(wd, path))
            streams.append(Stream(0, path, _READ))
        elif number == 2 and path == execution.stdout:
            streams.append(Stream(2, None, _WRITE))
        else:
            streams.append(Stream(number, path, _WRITE))
    return streams


def _refuse_foreign_descriptor(number: int, path: str, wd: str, named: set[int]) -> None:
    """`named`: the streams that the job has named before this one, in the order in which they are opened."""
    match = _descriptor_meant(os.path.join(wd, path))
    if match is None:
        return
    meant = _STREAMS.index(f"std{match['name']}") if match["name"] else int(match["fd"] or match["number"])
    if meant in named:
        return
    verb, stream = ("read", "write")[number > 0], _STREAMS[number]
    if meant == number:
        why = f"a task has no {stream} but the one that is named for it"
    elif meant < len(_STREAMS):
        why = f"the job names no file for {_STREAMS[meant]}, or a later one"
    else:
        why = f"a task inherits no descriptor {meant}"
    raise LaunchError(f"cannot {verb} {stream} '{path}': {why}; name a file")


def _descriptor_meant(path: str) -> re.Match[str] | None:
    """The match of a name that means a descriptor of whoever opens it, also behind a symbolic link."""
    match = _DESCRIPTOR.fullmatch(os.path.normpath(path))
    if match is None and os.path.islink(path):
        with suppress(OSError):
            target = os.path.join(os.path.dirname(path), os.readlink(path))
            return _DESCRIPTOR.fullmatch(os.path.normpath(target))
    return match


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

    True when the next try may succeed: also where another worker was faster with a folder. Raises LaunchError.
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
    if error.errno == errno.E2BIG:
        return _too_long(launch)
    return _why_not_program(launch.program, error)


def _too_long(launch: Launch) -> str:
    """Which of the kernel's two limits it was: that for one word, or that for all together (a quarter of the stack's)."""
    words = [os.fsencode(word) for word in launch.argv]
    variables = [name + b"=" + value for name, value in launch.env.items()]
    longest = max(map(len, words + variables))
    if longest > MOST_WORD_BYTES:
        where = "an argument" if longest in map(len, words) else "a variable"
        return f"[Errno 7] Argument list too long: {where} has {longest} bytes, the kernel takes {MOST_WORD_BYTES}"
    total = sum(len(word) + 1 for word in words + variables)
    return (
        f"[Errno 7] Argument list too long: arguments and variables have {total} bytes, the kernel takes about "
        f"{os.sysconf('SC_ARG_MAX')} here (a quarter of `ulimit -s`); pass some of it in a file"
    )


def _cannot_open(path: str, flags: int) -> str:
    try:
        os.close(os.open(path, flags | os.O_NONBLOCK | os.O_NOCTTY, _STREAM_MODE))
    except OSError as error:
        if error.errno == errno.ENXIO and stat.S_ISFIFO(os.stat(path).st_mode):
            return "nobody reads this named pipe"
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
    if first.startswith(b"#!") and first.endswith(b"\r\n"):
        return (
            f"{text} (its first line ends in CR, as on Windows, and the CR counts as part of the interpreter's name; "
            "dos2unix it)"
        )
    if first.startswith(b"#!"):
        return f"{text} (its interpreter '{os.fsdecode(first[2:].strip())}' cannot be started)"
    return f"{text} (it is not a program for this machine)" if error.errno == 8 else text
