"""A function worker: takes calls of Python functions, one after the other, from the agent's worker process that started it.

Run as a program, by the Python of the user's choice. Its standard input is its end of a pair of sockets that keep the borders
of messages; output and errors are a file, emptied after each call, so that what a call prints goes home with its end. It is
given the next calls ahead, and they wait in the socket, from which the other side may take them back.

A job's functions and arguments come with its first call and are kept for a few jobs; a function is loaded once.
"""

from __future__ import annotations

import os
import resource
import signal
import socket
import struct
import sys
import time
import traceback
from collections import OrderedDict
from importlib import import_module
from importlib.util import module_from_spec, spec_from_file_location
from types import ModuleType
from typing import Any

CALL = struct.Struct("<QQIB")
"""Job, position, run, and what follows: the job's data, the name of a file with it, or nothing (the job is known)."""
KNOWN, DATA, FILE, SETUP, SETUP_FILE = range(5)
END = struct.Struct("<QQIBdddQI")
"""Job, position, run, how (below), begin, end, processor seconds, most resident KiB; bytes of a line that says what was raised.

Behind that line: what was printed, as OUTPUT bytes, and the value, or EXCEPTION and what was raised.
"""
EXCEPTION = b"e"
"""No value begins with it (values.py), so whoever reads an end sees which of the two it has, whatever became of the task."""
ONE, MANY, RANKS = 0, 1, 16
"""How a call of a job is to be made: with its arguments, or once with each of them, for a list of what is returned; or with its
arguments over so many ranks beyond RANKS.
"""
PROGRAM, STEM = "@program@", "@stem@"
"""In the command lines for ranks: where the program of a rank comes, and the begin of the paths of files for the launcher."""
RETURNED, RAISED, UNPREPARED, UNKNOWN = range(4)
"""UNKNOWN: it was not made, as the data of its job did not come: the other side may just have taken that back."""
OUTPUT = struct.Struct("<I")
MOST_OUTPUT = 32 << 10
"""Of what a call has printed, the end is kept."""
IN_FILE = 16
"""Added to how a call went: what follows the line is the name of a file that has it, which is the reader's to remove."""
MOST_INLINE = 128 << 10
MOST_MESSAGE = 160 << 10
MOST_JOBS = 16
"""So many jobs are kept, the newest ones: the other side counts along."""
_MOST_FUNCTIONS = 256
_MOST_LINE = 500


def load(name: str) -> ModuleType:
    """`NAME.py` beside this file."""
    spec = spec_from_file_location(f"_pilotfish_{name}", os.path.join(os.path.dirname(__file__), f"{name}.py"))
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def need(name: str, folder: str) -> ModuleType:
    """Import a package of ours that the user's Python may not have, from where the agent has it."""
    try:
        return import_module(name)
    except ModuleNotFoundError:
        sys.path.append(folder)
        try:
            return import_module(name)
        finally:
            sys.path.remove(folder)


class OtherPythonError(Exception):
    """A function cannot be called by this Python. It goes home as kind and text: nobody there has this class."""

    def __reduce__(self) -> Any:
        raise TypeError


class Job:
    """The functions and arguments of one job, as bytes.

    `inputs`: values that are arguments of several calls, or that other calls have returned, which come last.
    """

    def __init__(self, data: bytes) -> None:
        import msgpack

        unpacker = msgpack.Unpacker(use_list=False, max_buffer_size=len(data))
        unpacker.feed(data)
        self.functions, self.calls, given = unpacker.unpack()
        returned = [_value_of(end) for more in unpacker for end in more]
        self.inputs = [returned[place] if isinstance(place, int) else place for place in given]


def _value_of(end: bytes) -> bytes:
    """Of what came with the end of a call, without what it had printed."""
    return end[OUTPUT.size + OUTPUT.unpack_from(end)[0] :] if end else b""


class Worker:
    """Serves the socket `link` until its other end is closed."""

    def __init__(self, link: Any, site: str, folder: str) -> None:
        self._link = link
        self._folder = folder
        self._site = site
        self._values: Any = load("values")
        self._values.__dict__["load_cloudpickle"] = self._load_cloudpickle
        self._jobs: OrderedDict[int, Job] = OrderedDict()
        self._functions: OrderedDict[bytes, Any] = OrderedDict()
        self._unprepared: bytes = b""
        """What the initializer has raised, as it is sent with each call since."""
        self._line = b""
        self._starts: Any = None
        """How the ranks of MPI functions are started here (agent/rank_starts.py)."""
        self._python: tuple[int, ...] = sys.version_info[:2]
        """That of the client: what its functions consist of is code of this version."""

    def _load_cloudpickle(self) -> Any:
        return need("cloudpickle", self._site)

    def serve(self) -> None:
        own, pid_of_self = os.getpid(), os.getpid
        receive, send, usage_of = self._link.recv, self._link.send, resource.getrusage
        now, cpu_time, unpack_call = time.time, time.process_time, CALL.unpack_from
        while True:
            message = receive(MOST_MESSAGE + CALL.size)
            if not message:
                return
            number, pos, run, kind = unpack_call(message)
            if kind:
                self._learn(number, kind, message[CALL.size :])
                if kind >= SETUP:
                    continue
            started_s, cpu_s = now(), cpu_time()
            how, line, value = self._call(number, pos, run)
            if pid_of_self() != own:  # the call has forked, and this is the child: it is nobody's function worker
                os._exit(0)
            rest = self._printed() + value
            if len(rest) > MOST_INLINE:
                how, rest = how + IN_FILE, self._values.write_file([rest], "").encode()
            rss_kib = usage_of(resource.RUSAGE_SELF).ru_maxrss
            end = number, pos, run, how, started_s, now(), cpu_time() - cpu_s, rss_kib, len(line)
            send(END.pack(*end) + line + rest)

    def _learn(self, number: int, kind: int, data: bytes) -> None:
        if kind in (FILE, SETUP_FILE):
            with open(data, "rb") as file:
                data = file.read()
        if kind >= SETUP:
            self._prepare(data)
            return
        self._jobs.pop(number, None)  # so that it is the newest again
        self._jobs[number] = Job(data)
        if len(self._jobs) > MOST_JOBS:
            self._jobs.popitem(last=False)

    def _prepare(self, data: bytes) -> None:
        """Before the first call: the path of modules as the client has it, the user's initializer; how ranks are started."""
        import msgpack

        unpacker = msgpack.Unpacker(max_buffer_size=len(data))
        unpacker.feed(data)
        path, initializer, *python = unpacker.unpack()
        self._starts = next(unpacker, None)
        self._python = tuple(python[0]) if python else self._python
        sys.path[:0] = [entry for entry in path if entry not in sys.path]  # ours have been imported before
        if initializer:
            try:
                self._check_python(initializer)
                function, arguments = self._values.unpack(initializer)
                function(*arguments)
            except BaseException as error:
                self._line, self._unprepared = self._raised(error, UNPREPARED)

    def _call(self, number: int, pos: int, run: int) -> tuple[int, bytes, bytes]:
        if self._unprepared:
            return UNPREPARED, self._line, self._unprepared
        job = self._jobs.get(number)
        if job is None:
            return UNKNOWN, b"", b""
        place, how, arguments, slots = job.calls[pos]
        try:
            digest, code = job.functions[place]
            function = self._functions.get(digest)
            if function is None:
                function = self._learn_function(digest, code)
            if how == MANY:
                value: Any = list(map(function, *self._values.unpack(arguments)))
            else:
                args, kwargs = self._values.unpack(arguments)
                if slots:
                    args = self._filled(args, kwargs, job, slots)
                if how > RANKS:
                    given = code, args, kwargs
                    mark = f"{number}-{pos}-{run}"
                    value = load("ranks").call(
                        how - RANKS, given, self._values, self._site, self._starts, self._folder, mark
                    )
                else:
                    value = function(*args, **kwargs)
            return RETURNED, b"", self._values.write(value, self._folder)
        except BaseException as error:
            return RAISED, *self._raised(error)
        finally:
            args = kwargs = value = None  # nothing of a call stays until the next

    def _filled(self, args: Any, kwargs: Any, job: Job, slots: Any) -> Any:
        """The arguments with the values of other calls in their places, each a number of an input and a path to there."""
        both = [list(args), kwargs]
        for number, path in slots:
            holder: Any = both
            for step in path[:-1]:
                holder = holder[step]
            holder[path[-1]] = self._values.unpack(job.inputs[number])
        return both[0]

    def _check_python(self, code: bytes) -> None:
        """Raises OtherPythonError for a function that is not only a name, if it is code for another Python."""
        if self._python != sys.version_info[:2] and b"cloudpickle" in code:
            theirs, ours = (".".join(map(str, version)) for version in (self._python, sys.version_info[:2]))
            raise OtherPythonError(
                f"the function is code of Python {theirs}, and {sys.executable} is Python {ours}; name one of {theirs} "
                "(options(python=...), on a machine pilots={'python': ...}), or call a function of an installed module"
            )

    def _learn_function(self, digest: bytes, code: bytes) -> Any:
        self._check_python(code)
        function = self._functions[digest] = self._values.unpack(code) if code else load("commands").run
        if len(self._functions) > _MOST_FUNCTIONS:
            self._functions.popitem(last=False)
        return function

    def _raised(self, error: BaseException, how: int = RAISED) -> tuple[bytes, bytes]:
        """A line about it, and for the client: how the call went, its kind, its text, where it came from, and itself, if that
        can be had.
        """
        import msgpack

        frames = error.__traceback__.tb_next if error.__traceback__ is not None else None
        text = "".join(traceback.format_exception(type(error), error, frames))
        kind, said = type(error).__name__, _text_of(error)
        try:
            itself = self._values.flat(self._values.pack(error))
            self._values.unpack(itself)
        except BaseException:
            itself = b""
        if len(itself) > self._values.LARGE_BYTES:
            itself = b""
        line = f"{kind}: {said}".partition("\n")[0][:_MOST_LINE]
        kept = text[-self._values.LARGE_BYTES // 4 :]
        packed: bytes = msgpack.packb([how, kind, said[:_MOST_LINE], kept, itself], unicode_errors="replace")
        return line.encode(errors="replace"), EXCEPTION + packed

    def _printed(self) -> bytes:
        """What is in the output file now, as the end has it; the file is empty then."""
        for stream in (sys.stdout, sys.stderr):
            try:
                stream.flush()
            except (AttributeError, OSError, ValueError):  # closed by the call, or replaced
                pass
        size = os.lseek(1, 0, os.SEEK_END)
        if not size:
            return b"\0\0\0\0"
        printed = os.pread(1, MOST_OUTPUT, max(0, size - MOST_OUTPUT))
        os.ftruncate(1, 0)
        return OUTPUT.pack(len(printed)) + printed


def _text_of(error: BaseException) -> str:
    try:
        return str(error)
    except Exception:
        return "its text cannot be had"


def main() -> None:
    del sys.path[0]  # our folder: its modules are not the user's
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C at a terminal is for who has started the pilot
    link = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET, fileno=os.dup(0))
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null)
    for stream in (sys.stdout, sys.stderr):  # what a call prints stands before what it has others print then
        stream.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    site, folder = sys.argv[1:]
    need("msgpack", site)
    sys.argv = [""]
    Worker(link, site, folder).serve()
    sys.stdout.flush()


if __name__ == "__main__":
    main()
