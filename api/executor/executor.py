"""`Executor`: `concurrent.futures` on a pilot.

An executor has a pilot of its own, which is started with it and ends with it, or uses one that runs (`connect`). What it does
itself is little: functions and arguments become bytes, futures get their results. Everything between is the pilot's: calls are
tasks there (`pilotfish top`, `show`, `explain`), journalled before they run, on as many nodes as it has.
"""

from __future__ import annotations

import concurrent.futures
import os
import re
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import chain, islice
from types import TracebackType
from typing import Any, TypeVar, overload

from .. import html
from ..errors import WrongArgumentsError
from ..manager import Manager
from .command import Command, CommandResult
from .core import Core
from .future import Future
from .options import Options, TaskFunction, with_keywords
from .place import place_on
from .progress import Watched

T = TypeVar("T")


class Executor(concurrent.futures.Executor):
    """Calls Python functions on the cores of a pilot.

    It returns at once; its pilot is started meanwhile. As a context manager it waits at the end for all calls. May be used by
    any thread.

    Args:
        max_workers: how many cores of this machine it uses; None: all, or those of the allocation in which this runs.
        connect: a pilot that runs already: its connection file, or a folder with it. It goes on running at the end.
        machine: another machine, on which the pilot is put, with a batch system or without: the name or path of one of your
            machine files, its content, or a Machine. `shutdown` ends the pilot there and takes its batch job out of the queue.
        resources: what a batch job there asks for: a Resources, or a mapping with its keys; default: one core.
        pilots: batch jobs at the same time, whose nodes are one pilot; or a Pilot, or a mapping with its keys.
        idle_timeout: when a pilot there ends by itself, as "30m" or in seconds: without work, and without this program;
            default: 15 minutes, with `name` never.
        initializer: called in each function worker before its first call, with `initargs`.
        name: lets a program that is started again find its results: a call that an executor of this name has made before, of
            the same function with the same arguments, gives the result that it had then, or has when it ends.
        folder: where the run's own folder stands, which is kept; None: a temporary one, or, with `name`, here. With `machine`:
            where results are kept that have come home, for `name`.
        cache: a folder for results: the same function with the same arguments, and the same content of the `files` that its
            options name, is not called again.
        server_args: further options of `pilotfish service`, for a pilot of its own.

    Raises:
        ValueError, TypeError: for an argument that makes no sense.
    """

    def __init__(
        self,
        max_workers: int | None = None,
        *,
        connect: str | os.PathLike[str] | None = None,
        machine: Any = None,
        resources: Any = None,
        pilots: Any = None,
        idle_timeout: str | float | None = None,
        initializer: Callable[..., object] | None = None,
        initargs: tuple[Any, ...] = (),
        name: str | None = None,
        folder: str | os.PathLike[str] | None = None,
        cache: str | os.PathLike[str] | None = None,
        server_args: Sequence[object] = (),
    ) -> None:
        if max_workers is not None and (isinstance(max_workers, bool) or not isinstance(max_workers, int)):
            raise TypeError(f"max_workers is a whole number, not {max_workers!r}")
        if max_workers is not None and max_workers <= 0:
            raise ValueError("max_workers must be greater than 0")
        if initializer is not None and not callable(initializer):
            raise TypeError("initializer must be a callable")
        if connect is not None and (max_workers is not None or server_args or folder is not None):
            remedy = "leave out max_workers, folder and server_args"
            raise WrongArgumentsError(
                "a pilot that runs has its cores and its folder already", where="connect", remedy=remedy
            )
        if name is not None and re.fullmatch(r"[A-Za-z0-9._-]{1,64}", name, re.ASCII) is None:
            remedy = "use at most 64 letters, digits and the signs . _ -"
            raise WrongArgumentsError(f"{name!r} is not a name", where="name", remedy=remedy)
        words = [*server_args, *(() if max_workers is None else ("--nodes", max_workers))]
        place = None
        if machine is not None:
            if connect is not None or max_workers is not None:
                remedy = "leave out connect and max_workers; `resources` says what is asked for there"
                raise WrongArgumentsError("the pilot is put there", where="machine", remedy=remedy)
            of_machine = {"resources": resources, "pilots": pilots, "idle_timeout": idle_timeout, "words": words}
            place = place_on(machine, name=name, folder=folder, **of_machine)
        elif (resources, pilots, idle_timeout) != (None, None, None):
            remedy = "name a machine, or leave them out"
            raise WrongArgumentsError(
                "resources, pilots and idle_timeout are of a machine", where="machine", remedy=remedy
            )
        self._core = Core(connect, words, folder, initializer, initargs, name, cache, place)
        self._options = Options()
        self._finalizer = weakref.finalize(self, Core.let_go, self._core)
        self._finalizer.atexit = False  # the core sees to that itself, in time

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._core}>"

    @overload
    def submit(self, fn: Command, /) -> Future[CommandResult]: ...

    @overload
    def submit(
        self, fn: Callable[..., T], /, *args: Any, **kwargs: Any
    ) -> Future[T]: ...  # a future may stand for a value

    def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Call `fn(*args, **kwargs)` on a core of the pilot, or run a Command; returns its future.

        Futures of this executor among the arguments, also in lists and dictionaries among them, stand for their results: the
        call waits for them in the pilot.

        Raises RuntimeError after `shutdown`, BrokenExecutor when the pilot is lost, and what pickling the function or an
        argument raises.
        """
        options = self._options
        if isinstance(fn, TaskFunction):
            fn, options = fn.function, with_keywords(options, fn.options)
        if isinstance(fn, Command):
            return self._core.submit_command(options, fn)
        return self._core.submit(options, fn, args, kwargs)

    def map(
        self,
        fn: Callable[..., T],
        *iterables: Iterable[Any],
        timeout: float | None = None,
        chunksize: int = 1,
        progress: bool = False,
    ) -> Iterator[T]:
        """The results of `fn` for the arguments, in their order, as the built-in `map`.

        `timeout`: seconds from now after which waiting for a result raises TimeoutError. `chunksize`: so many calls are one
        task, which costs less where each of them takes less than a millisecond. `progress`: show how many have ended, with
        tqdm if that is installed.
        """
        if chunksize < 1:
            raise ValueError("chunksize must be >= 1.")
        is_single = chunksize == 1
        calls = iterables if is_single else (chunks_of(zip(*iterables, strict=False), chunksize),)
        executor: concurrent.futures.Executor = self if is_single else Chunks(self)
        watched = None
        if progress:
            executor = watched = Watched(executor, in_chunks=not is_single)
        results: Iterator[Any] = concurrent.futures.Executor.map(executor, fn, *calls, timeout=timeout)
        if watched is not None:
            watched.all_submitted()
        return results if is_single else chain.from_iterable(results)

    def options(
        self,
        *,
        cores: int | None = None,
        nodes: int | None = None,
        ranks: int | None = None,
        model: str | None = None,
        model_opts: Mapping[str, Any] | None = None,
        gpus: float | str | None = None,
        mem: str | None = None,
        resources: Mapping[str, float | str | None] | None = None,
        wt: str | float | None = None,
        tags: str | Sequence[str] | None = None,
        retries: int | None = None,
        priority: int | None = None,
        after: Future[Any] | Iterable[Future[Any]] | None = None,
        env: Mapping[str, str] | None = None,
        wd: str | os.PathLike[str] | None = None,
        python: str | os.PathLike[str] | None = None,
        venv: str | os.PathLike[str] | None = None,
        modules: str | Sequence[str] | None = None,
        max_calls: int | None = None,
        max_mem: str | None = None,
        files: str | os.PathLike[str] | Sequence[str | os.PathLike[str]] | None = None,
    ) -> Executor:
        """This executor, for calls that ask for something else: it shares the pilot, and `shutdown` is for both.

        Args:
            cores, nodes: cores of one call (of each of its nodes); one core if neither is given.
            ranks: the function is called at so many MPI ranks, on as many cores, with mpi4py; the result is what it returns at
                rank 0. With `nodes` they are spread evenly over so many.
            model, model_opts: the execution model that starts the ranks; by default the one for the `mpirun` that is there.
            gpus, mem: GPUs and memory, as "2G", of each node of a call; 0.25 or "1/3": part of a GPU.
            resources: how much of named resources, as {"licence": 1, "scratch": "10G"}; None: nothing, any more.
            wt: how long a call may take, as "10m" or in seconds; then it is stopped.
            tags: words that its node must have.
            retries: how often a call that fails is made again.
            priority: higher starts first.
            after: futures that must have succeeded before.
            env, wd, python, venv, modules: where its function worker runs.
            files: files whose content counts among the arguments, where there is a cache.
            max_calls, max_mem: a function worker ends after so many calls, or when it has grown beyond that.
        """
        given = {name: value for name, value in locals().items() if value is not None and name != "self"}
        view = object.__new__(type(self))
        view._core = self._core
        view._options = with_keywords(self._options, given)
        view._finalizer = self._finalizer
        return view

    def interrupt(self, future: Future[Any]) -> bool:
        """Stop this call, also one that executes: its process is told to end, and the future raises CancelledError.

        False: it is over.
        """
        return self._core.interrupt(future)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Wait for all calls. After Ctrl-C they are stopped: function workers do not see it, and would go on."""
        if kind is KeyboardInterrupt:
            self._core.interrupt_all()
        self.shutdown()

    def _repr_html_(self) -> str:
        return html.facts(type(self).__name__, self._core.facts())

    @property
    def pilot(self) -> Manager:
        """Its pilot, to look at; waits until that has started."""
        return self._core.pilot

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Take no more calls; `wait` until all have ended. `cancel_futures`: those that do not execute are cancelled."""
        self._core.shutdown(wait, cancel_futures)


class Chunks(concurrent.futures.Executor):
    """Submits chunks of calls (`chunks_of`); the result of each is the list of theirs."""

    def __init__(self, executor: Executor) -> None:
        self._executor = executor

    def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Future[Any]:
        options = self._executor._options
        if isinstance(fn, TaskFunction):
            fn, options = fn.function, with_keywords(options, fn.options)
        return self._executor._core.submit_many(options, fn, args[0])


def chunks_of(calls: Iterator[tuple[Any, ...]], size: int) -> Iterator[list[list[Any]]]:
    """The arguments of so many calls, by column: these are written faster than as many tuples."""
    while chunk := list(islice(calls, size)):
        yield list(map(list, zip(*chunk, strict=True)))
