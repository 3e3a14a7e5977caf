"""Python values as bytes, and back: arguments of calls, and what they return or raise.

What is plain (None, numbers, text, bytes, lists, tuples, dictionaries of these, NumPy arrays of numbers) is written as
MessagePack and read without running anything. Everything else is pickled: by pickle, or by cloudpickle where classes or
functions have no module from which another process could import them. A value comes back as exactly what it was: a tuple as a
tuple, an array with its type and order, and what MessagePack cannot keep (subclasses, shared lists, whole numbers of more than
64 bits) is pickled.

The first byte says how the rest is to be read:

    m  MessagePack        p  pickle        b  either of them, with its large parts behind it
    f  the name of a file that has a value in one of these three ways
    e  no value, but what a call has raised (worker.py)

The parts of `b` (the data of arrays, and what else pickle's protocol 5 hands over) stand at multiples of 64 bytes, so that a
file can be mapped and used in place.

Unpickling runs what is in the pickle. Whoever calls `unpack` vouches for where the bytes come from (docs/security.md).
"""

from __future__ import annotations

import mmap
import os
import pickle
import struct
import sys
import tempfile
from collections.abc import Sequence
from typing import Any

import msgpack

Buffer = bytes | bytearray | memoryview

LARGE_BYTES = 48 << 10
"""Values above this go through a file, if there is a folder for it."""
_MOST_PLAIN = 1024
"""Elements of a value that is looked through; larger ones are pickled, which does that faster."""
_TUPLE, _ARRAY, _SCALAR = 0, 1, 2
_HEAD = struct.Struct("<cIQ")
"""`b`, how many parts there are, and the bytes of what they belong to; the size of each part follows."""
_SIZE = struct.Struct("<Q")
_ALIGNED = 64
_SCALARS = frozenset({type(None), bool, float, str, bytes})
_FAST = _SCALARS | {int}
_ARRAY_KINDS = "biufcSUmM?"


# --- writing --------------------------------------------------------------------------------------------------------------


def pack(value: Any) -> list[Buffer]:
    """The value in parts that belong together; usually one. Raises whatever pickling it raises."""
    parts: list[Buffer] = []
    kind = type(value)
    if kind in _SCALARS or kind is int or _is_plain(value, set()):
        try:
            head = msgpack.packb(value, default=_Plain(parts), strict_types=True)
            return _joined(b"m", head, parts)
        except (OverflowError, ValueError, UnicodeEncodeError):  # a number of more than 64 bits, lone surrogates
            parts = []
    head = _pickled(value, parts)
    return _joined(b"p", head, parts)


def _joined(kind: bytes, head: bytes, parts: list[Buffer]) -> list[Buffer]:
    if not parts:
        return [kind + head]
    sizes = [memoryview(part).nbytes for part in parts]
    begin = _HEAD.pack(b"b", len(parts), len(head) + 1) + b"".join(map(_SIZE.pack, sizes)) + kind + head
    pieces: list[Buffer] = [begin, bytes(-len(begin) % _ALIGNED)]
    for part, size in zip(parts, sizes, strict=True):
        pieces += (part, bytes(-size % _ALIGNED))
    return pieces


def _is_plain(value: Any, seen: set[int]) -> bool:
    """Whether MessagePack gives it back as it is. `seen`: lists and dictionaries in it, each of which may be only once."""
    kind = type(value)
    if kind in _SCALARS or kind is int:
        return True
    if kind in (list, tuple):
        if len(value) > _MOST_PLAIN or len(seen) > _MOST_PLAIN or id(value) in seen:
            return False
        seen.add(id(value))
        return _FAST.issuperset(map(type, value)) or all(_is_plain(element, seen) for element in value)
    if kind is dict:
        if len(value) > _MOST_PLAIN or len(seen) > _MOST_PLAIN or id(value) in seen:
            return False
        seen.add(id(value))
        return all(_is_plain(key, seen) and _is_plain(element, seen) for key, element in value.items())
    return _is_array(value) and id(value) not in seen and not seen.add(id(value))  # type: ignore[func-returns-value]


def _is_array(value: Any) -> bool:
    numpy = sys.modules.get("numpy")
    return (
        numpy is not None
        and type(value) is numpy.ndarray
        and value.dtype.kind in _ARRAY_KINDS
        and value.dtype.metadata is None
        and (value.flags.c_contiguous or value.flags.f_contiguous)
    )


class _Plain:
    """What `msgpack` asks for values that it has no word for; collects the data of arrays."""

    def __init__(self, parts: list[Buffer]) -> None:
        self._parts = parts

    def __call__(self, value: Any) -> Any:
        if type(value) is tuple:
            return msgpack.ExtType(_TUPLE, msgpack.packb(list(value), default=self, strict_types=True))
        if not _is_array(value):
            raise ValueError("not plain")
        order = "C" if value.flags.c_contiguous else "F"
        flat = value.reshape(-1, order=order)
        about = [value.dtype.str, list(value.shape), order, len(self._parts)]
        self._parts.append(memoryview(flat.view("u1")) if flat.size and flat.dtype.kind in "mM" else _bytes_of(flat))
        return msgpack.ExtType(_ARRAY, msgpack.packb(about))


def _bytes_of(flat: Any) -> Buffer:
    return memoryview(flat).cast("B") if flat.size and flat.dtype.kind in "biuf" else flat.tobytes()


def _pickled(value: Any, parts: list[Buffer]) -> bytes:
    """By pickle if another process can import all that it names, else by cloudpickle."""
    buffers: list[pickle.PickleBuffer] = []
    cloudpickle = sys.modules.get("cloudpickle")
    by_value = cloudpickle is not None and cloudpickle.list_registry_pickle_by_value()
    try:
        if by_value:
            raise pickle.PicklingError("modules have been registered")
        head = pickle.dumps(value, protocol=5, buffer_callback=buffers.append)
        if b"__main__" in head or b"__mp_main__" in head:
            raise pickle.PicklingError("no other process has this module")
    except Exception:
        buffers.clear()
        head = load_cloudpickle().dumps(value, protocol=5, buffer_callback=buffers.append)
    parts += [buffer.raw() for buffer in buffers]
    return head


def load_cloudpickle() -> Any:
    import cloudpickle

    return cloudpickle


def flat(pieces: Sequence[Buffer]) -> bytes:
    """All pieces as one."""
    return bytes(pieces[0]) if len(pieces) == 1 else b"".join(pieces)


def size_of(pieces: Sequence[Buffer]) -> int:
    return len(pieces[0]) if len(pieces) == 1 else sum(memoryview(piece).nbytes for piece in pieces)


def write(value: Any, folder: str) -> bytes:
    """The value as bytes; a large one goes to a file in `folder` (if that is not empty), and they name it."""
    return write_packed(pack(value), folder)


def write_packed(pieces: Sequence[Buffer], folder: str) -> bytes:
    """The same with what `pack` gives."""
    if not folder or size_of(pieces) <= LARGE_BYTES:
        return flat(pieces)
    try:
        return b"f" + os.fsencode(write_file(pieces, folder))
    except OSError:  # it is full, or gone
        return flat(pieces)


def write_file(pieces: Sequence[Buffer], folder: str) -> str:
    """A new file with these pieces; returns its path."""
    descriptor, path = tempfile.mkstemp(prefix="value-", dir=folder or None)
    try:
        for piece in pieces:
            view = memoryview(piece)
            while view.nbytes:
                view = view.cast("B")[os.write(descriptor, view) :]
    except BaseException:
        os.unlink(path)
        raise
    finally:
        os.close(descriptor)
    return path


# --- reading --------------------------------------------------------------------------------------------------------------


def unpack(data: Buffer, *, once: bool = False) -> Any:
    """The value. `once`: nobody else will read it, so a file that has it is removed.

    Runs what is in pickles; raises whatever that raises.
    """
    view = memoryview(data)
    kind = view[0]
    if kind == 0x6D:
        return msgpack.unpackb(view[1:], ext_hook=_Extension(()), strict_map_key=False)
    if kind == 0x70:
        return _loads(view[1:], ())
    if kind == 0x62:
        return _unpack_parts(memoryview(bytearray(data)) if view.readonly else view)
    if kind == 0x66:
        return _unpack_file(os.fsdecode(bytes(view[1:])), once)
    raise ValueError(f"not a value: it begins with {bytes(view[:1])!r}")


def file_of(data: Buffer) -> str | None:
    """The file that has the value, if one has."""
    view = memoryview(data)
    return os.fsdecode(bytes(view[1:])) if view[0] == 0x66 else None


def _unpack_file(path: str, once: bool) -> Any:
    """Mapped, privately: what is changed is this process's own, and only what is touched takes memory."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        mapped = mmap.mmap(descriptor, 0, access=mmap.ACCESS_COPY)
    finally:
        os.close(descriptor)
    if once:
        os.unlink(path)
    return unpack(memoryview(mapped))


def _unpack_parts(view: memoryview) -> Any:
    _, count, head_size = _HEAD.unpack_from(view)
    place = _HEAD.size
    sizes = [_SIZE.unpack_from(view, place + 8 * number)[0] for number in range(count)]
    place += 8 * count
    kind, head = view[place], view[place + 1 : place + head_size]
    place += head_size
    place += -place % _ALIGNED
    parts = []
    for size in sizes:
        parts.append(view[place : place + size])
        place += size + -size % _ALIGNED
    if kind == 0x6D:
        return msgpack.unpackb(head, ext_hook=_Extension(parts), strict_map_key=False)
    return _loads(head, parts)


def _loads(head: memoryview, parts: Sequence[memoryview]) -> Any:
    try:
        return pickle.loads(head, buffers=parts)
    except ModuleNotFoundError as error:
        if error.name != "cloudpickle":
            raise
        load_cloudpickle()
        return pickle.loads(head, buffers=parts)


class _Extension:
    def __init__(self, parts: Sequence[memoryview]) -> None:
        self._parts = parts

    def __call__(self, code: int, data: bytes) -> Any:
        inner = msgpack.unpackb(data, ext_hook=self, strict_map_key=False)
        if code == _TUPLE:
            return tuple(inner)
        import numpy

        dtype, shape, order, place = inner
        return numpy.frombuffer(self._parts[place], dtype=dtype).reshape(shape, order=order)
