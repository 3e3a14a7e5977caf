"""What all views of one executor share: its pilot, its link, its functions; and how it ends."""

from __future__ import annotations

import atexit
import hashlib
import os
import shutil
import sys
import sysconfig
import tempfile
import threading
import weakref
from base64 import b64encode
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgpack

from ...pilot.functions import values
from ...pilot.functions.worker import MANY, ONE, RANKS
from ...pilot.wire.connection import AUX_PREFIX
from ..client import Client
from ..errors import ConnectionError, WrongArgumentsError
from ..forking import renew_in_children
from ..local import LocalManager
from ..manager import Manager
from .cache import Cache, digest_of
from .command import Command
from .functions import Code, Functions
from .future import NO_OUTPUT, Future, settle
from .inputs import Slot, find
from .link import AFTER_SHUTDOWN, Link
from .needs import broken
from .options import Options
from .place import Place
from .sent_job import KEY_BYTES, Call

_QUIET = {"log_file": os.devnull}
_CONNECT_S = 2.0
_FAR_CONNECT_S = 20.0


class Core:
    """`words`: options of `pilotfish service`, for a pilot of its own. `place`: where the pilot is, if on another machine."""

    def __init__(
        self,
        connect: str | os.PathLike[str] | None,
        words: Sequence[object],
        folder: str | os.PathLike[str] | None,
        initializer: Callable[..., object] | None,
        initargs: tuple[Any, ...],
        name: str | None = None,
        cache: str | os.PathLike[str] | None = None,
        place: Place | None = None,
    ) -> None:
        results = cache or (None if place is None else place.results)
        self._cache = None if results is None else Cache(Path(results))
        self._place = place
        self._is_elsewhere = place is not None and not place.is_here
        self._name = name
        self._connect = connect
        self._words = words
        self._folder = None if folder is None else Path(folder)
        self._temporary: Path | None = None
        self._functions = Functions()
        self._lock = threading.Lock()
        self._wd = os.getcwd()
        self._is_closed = False
        self._is_orphan = False
        self._pilot: Manager | None = None
        self._setup = _setup([] if self._is_elsewhere else _module_path(), initializer, initargs)
        self._link = self._new_link()
        if place is None or place.results is None:  # else all that is asked for may be at home
            self._link.start()
        _open.add(self)
        renew_in_children(self)

    def _new_link(self) -> Link:
        again = None if self._connect is None else self._to_next_manager
        if self._place is not None:
            again = self._to_placed_pilot
        start, is_placed = self._start, self._place is not None
        return Link(self._name or "", start, self._describe, self._value_folder, again, is_placed)

    def after_fork(self) -> None:
        """The child has calls of its own, over a connection of its own, on the same pilot, which it leaves running. Nothing
        comes there of the calls that its parent has made.
        """
        if self._pilot is not None and self._connect is None:
            with suppress(ConnectionError):  # it was closed
                self._connect = self._pilot.where
        self._is_orphan = self._connect is None
        self._name = self._pilot = self._temporary = self._place = None
        self._lock = threading.Lock()
        self._link.after_fork(os.getppid())
        self._link = self._new_link()

    def __str__(self) -> str:
        return f"{self._link.name}{' (shut down)' if self._is_closed else ''}"

    # --- calls --------------------------------------------------------------------------------------------------------------

    def submit(self, options: Options, fn: Callable[..., Any], args: Any, kwargs: Any) -> Future[Any]:
        args, kwargs, slots = find(args, kwargs)
        how = RANKS + options.ranks if options.ranks else ONE
        return self._put(options, fn, (args, kwargs), how, Future(self._link), slots)

    def submit_many(self, options: Options, fn: Callable[..., Any], columns: list[list[Any]]) -> Future[list[Any]]:
        """One task that calls the function with each of these arguments, which are given by column."""
        if options.ranks:
            raise WrongArgumentsError(
                "an MPI function is one task for each call", where="chunksize", remedy="leave it out"
            )
        return self._put(options, fn, columns, MANY, Future(self._link))

    def submit_command(self, options: Options, command: Command) -> Future[Any]:
        future: Future[Any] = Future(self._link)
        future.convert = command.result_of
        return self._put(options, command, (command.words(), {}), ONE, future)

    def _put(
        self,
        options: Options,
        fn: Any,
        arguments: Any,
        how: int,
        future: Future[Any],
        slots: Sequence[Slot] = (),
    ) -> Future[Any]:
        if self._is_closed:
            raise RuntimeError(AFTER_SHUTDOWN)
        if self._link.failure is not None:
            raise broken(self._link.failure)
        with self._lock:
            code = Code(b"command", b"", _word(fn.__name__)) if isinstance(fn, Command) else self._functions.code_of(fn)
        packed = values.pack(arguments)
        key = b""
        if (self._name is not None or self._cache is not None) and all(slot.future.key for slot in slots):
            key = future.key = _key(code, how, packed, options, slots)
        if key and self._cache is not None:
            known = self._cache.get(key)
            if known is not None:
                settle(future, NO_OUTPUT + known, keep=True)
                return future
            future.cache = self._cache
        with self._lock:
            self._link.start()
        if values.size_of(packed) <= values.LARGE_BYTES or self._is_elsewhere:
            data = values.flat(packed)
        else:
            data = values.write_packed(packed, self._link.folder())
        self._link.put(Call(future, code, how, data, options, slots, key))
        return future

    def interrupt(self, future: Future[Any]) -> bool:
        if future.done():
            return False
        if not future.cancel():
            self._link.cancel(future)
        return True

    def interrupt_all(self) -> None:
        for future in self._link.unfinished():
            self.interrupt(future)

    def facts(self) -> dict[str, object]:
        """For people."""
        unfinished = self._link.unfinished()
        pilot = self._pilot
        state = "shut down" if self._is_closed else "lost" if self._link.failure else "open" if pilot else "starts"
        where = None if pilot is None or self._is_closed else pilot.where
        return {"state": state, "pilot": where, "calls under way": len(unfinished)}

    # --- the end ------------------------------------------------------------------------------------------------------------

    def shutdown(self, wait: bool, cancel_futures: bool) -> None:
        self._is_closed = True
        if cancel_futures:
            for future in self._link.unfinished():
                future.cancel()
        self._link.close()
        can_wait = not self._link.is_own_thread()
        if wait and can_wait:
            self._link.wait_until_done()
            self._end()
            return
        threading.Thread(target=self._end, name="pilotfish-shutdown", daemon=True).start()
        if wait:
            raise RuntimeError("a callback cannot wait for its executor; use shutdown(wait=False)")

    def let_go(self) -> None:
        """Nobody has it any more: it ends when what was submitted is done."""
        if not self._is_closed:
            self.shutdown(wait=False, cancel_futures=False)

    def _end(self) -> None:
        """All calls have ended, or do soon: then the pilot ends, too."""
        self._link.join()
        with self._lock:
            pilot, self._pilot = self._pilot, None
            temporary, self._temporary = self._temporary, None
        if isinstance(pilot, LocalManager):
            pilot.stop()
        elif pilot is not None:
            pilot.close()
        if temporary is not None:
            shutil.rmtree(temporary, ignore_errors=True)
        _open.discard(self)
        if self._place is not None:
            self._place.end()

    # --- the pilot ----------------------------------------------------------------------------------------------------------

    @property
    def pilot(self) -> Manager:
        with self._lock:
            self._link.start()
        self._link.wait_until_connected()
        if self._pilot is None:
            raise RuntimeError("the executor was shut down")
        return self._pilot

    def _start(self) -> Client:
        if self._is_orphan:
            remedy = "use `executor.pilot` before, which waits for it, or make an executor in the child"
            raise ConnectionError("this process was forked before the executor's pilot had started", remedy=remedy)
        if self._place is not None:
            return self._to_placed_pilot()
        if self._connect is not None:
            return self._to_running_pilot(self._connect, _QUIET)
        folder, words = self._folder, list(self._words)
        if self._name is not None:
            folder = folder or Path(self._wd)
            aux = folder / f"{AUX_PREFIX}{self._name}"
            before = ("--resume", aux) if aux.exists() else ("--wd", folder, "--id", self._name)
            self._pilot = LocalManager([*before, *words], _QUIET)
            return self._pilot.client
        if folder is None:
            folder = self._temporary = Path(tempfile.mkdtemp(prefix="pilotfish-"))
            words = ["--report-format", "none", *words]
        self._pilot = LocalManager(["--wd", folder, *words], _QUIET)
        return self._pilot.client

    def _to_placed_pilot(self) -> Client:
        """The pilot on the other machine, or the next one there. Raises NoPilotError."""
        assert self._place is not None
        while True:
            where = self._place.pilot(self._link.is_needed, self._link.ends)
            try:
                return self._to_running_pilot(where, {**_QUIET, "connect_timeout": _FAR_CONNECT_S})
            except ConnectionError:
                self._place.look()

    def _to_next_manager(self) -> Client:
        """The pilot has lost its manager: to the next one, when there is one."""
        assert self._connect is not None
        return self._to_running_pilot(self._connect, {**_QUIET, "connect_timeout": _CONNECT_S})

    def _to_running_pilot(self, where: str | os.PathLike[str], config: dict[str, Any]) -> Client:
        pilot = Manager(where, config)
        with self._lock:
            before, self._pilot = self._pilot, pilot
        if before is not None:
            before.close()
        pilot.client.notice_when_replaced()
        return pilot.client

    def _value_folder(self, folder: str) -> str:
        """Where large values go: where the pilot says, but for an executor that is to find them again with its own pilot.

        Between two machines they are part of requests and replies.
        """
        if self._is_elsewhere:
            return ""
        if self._name is None or not isinstance(self._pilot, LocalManager):
            return folder
        values_folder = self._pilot.connection_file.parent / "values"
        values_folder.mkdir(mode=0o700, exist_ok=True)
        return str(values_folder)

    def _describe(self, options: Options, data: bytes, inputs: int, folder: str, keys: bytes) -> dict[str, Any]:
        description = options.members()
        calls = {
            "executor": self._link.name,
            "data": b64encode(data).decode(),
            "setup": self._setup,
            "inputs": inputs,
            "folder": folder,
            "keys": b64encode(keys).decode(),
            "max_calls": options.max_calls,
            "max_bytes": options.max_bytes,
            "ranks": options.ranks,
        }
        here = (
            {} if self._is_elsewhere else {"exec": sys.executable, "wd": self._wd}
        )  # else as the agent has them there
        description["execution"] = {**here, **description["execution"], "calls": calls}
        return description


def _key(code: Code, how: int, packed: Sequence[Any], options: Options, slots: Sequence[Slot]) -> bytes:
    """What a call is: the same function with the same arguments, asking for the same, gives the same key."""
    key = hashlib.blake2b(code.digest, digest_size=KEY_BYTES)
    if options.files:
        key.update(digest_of(options.files))
    key.update(repr((how, options._replace(after=()), [slot.path for slot in slots])).encode(errors="surrogateescape"))
    for part in (*packed, *(slot.future.key for slot in slots)):
        key.update(part)
    return key.digest()


def _word(name: str) -> str:
    return "".join(sign if sign.isalnum() and sign.isascii() else "_" for sign in name)[:40] or "command"


def _module_path() -> list[str]:
    """Where this program finds modules that are not installed."""
    installed = tuple(set(sysconfig.get_paths().values()))
    return [
        os.path.abspath(entry) for entry in sys.path if not entry.startswith(installed) and not entry.endswith(".zip")
    ]


def _setup(path: Sequence[str], initializer: Callable[..., object] | None, initargs: tuple[Any, ...]) -> str:
    """What a function worker does first, as base64: take this module path, and call the initializer.

    Besides, which Python its functions are from.
    """
    packed = b"" if initializer is None else values.flat(values.pack((initializer, initargs)))
    return b64encode(msgpack.packb((list(path), packed, sys.version_info[:2]))).decode()


_open: weakref.WeakSet[Core] = weakref.WeakSet()


@atexit.register
def _finish_all() -> None:
    """The program ends: as with the executors of the standard library, what was submitted is done first."""
    for core in list(_open):
        core.shutdown(wait=True, cancel_futures=False)
