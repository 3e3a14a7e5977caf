"""The newest connections are refused before the manager runs out of descriptors.

libzmq accepts connections by itself, without a limit, and its listener for ipc addresses aborts the process when `accept`
says that there is no descriptor left (EMFILE, ipc_listener.cpp of 4.3.5; its TCP listener goes on, and spins). With a limit
of 1024, as older clusters have, some hundred tasks that are clients of their own pilot are enough. So `accept` is asked
through us: a connection that gets one of the last descriptors (`reserved`) is closed at once, which its client sees as a
refusal and tries again, and the manager keeps some for its own files.

libzmq has no hook for that. What is set here is the entry for `accept4` in its table of imported functions, which the dynamic
linker fills in the same way. Where that table is not as expected nothing is changed. Rejected:

- to unbind near the limit: libzmq's own thread accepts faster than our loop can see it;
- TCP for everybody on this host: it needs a network, keys and their arithmetic, and unmodified clients have none;
- to accept ourselves and pass the bytes on: two descriptors for each client, and a copy of everything.
"""

from __future__ import annotations

import ctypes
import errno
import logging
import os
import resource
import struct
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

log = logging.getLogger(__name__)

_MOST_RESERVED = 16
_RESERVED_PART = 16
"""One in so many descriptors is kept, so that a low limit still leaves some for connections."""

_PT_LOAD, _PT_DYNAMIC = 1, 2
_DT_PLTRELSZ, _DT_STRTAB, _DT_SYMTAB, _DT_JMPREL = 2, 5, 6, 23
_DYNAMIC, _RELOCATION, _SYMBOL = struct.Struct("<qQ"), struct.Struct("<QQq"), struct.Struct("<IBBHQQ")
_LONGEST_NAME = 64

_ARGUMENTS = (ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int)
_Accept = ctypes.CFUNCTYPE(ctypes.c_int, *_ARGUMENTS, use_errno=True)
_kept: list[Any] = []
"""What libzmq calls must live as long as the process."""


def limit_connections() -> bool:
    """For all sockets of this process, from now on. Returns False where libzmq cannot be made to ask; the log says so."""
    if _kept:
        return True
    entry = None
    if sys.byteorder == "little" and ctypes.sizeof(ctypes.c_void_p) == 8:
        entry = next(_entries(b"accept4"), None)
    if entry is None:
        log.warning(
            "connections.unlimited", extra={"reason": "this libzmq is not known; too many connections may end us"}
        )
        return False
    function = _limited(resource.getrlimit(resource.RLIMIT_NOFILE)[0] - reserved())
    _kept.append(function)
    ctypes.c_void_p.from_address(entry).value = ctypes.cast(function, ctypes.c_void_p).value
    return True


def reserved() -> int:
    """How many descriptors no connection gets, under the limit as it is."""
    return min(_MOST_RESERVED, resource.getrlimit(resource.RLIMIT_NOFILE)[0] // _RESERVED_PART)


def _limited(first_reserved: int) -> Any:
    real = ctypes.CDLL(None, use_errno=True).accept4
    real.argtypes, real.restype = _ARGUMENTS, ctypes.c_int

    def accept(listener: int, address: int, length: int, flags: int) -> int:
        descriptor = int(real(listener, address, length, flags))
        if descriptor >= first_reserved:
            os.close(descriptor)
        elif descriptor >= 0 or ctypes.get_errno() not in (errno.EMFILE, errno.ENFILE):
            return descriptor
        ctypes.set_errno(errno.ECONNABORTED)  # one of those that libzmq expects
        return -1

    return _Accept(accept)


def _entries(name: bytes) -> Iterator[int]:
    """Addresses of libzmq's table entries for an imported function, those that can be written."""
    mapped = []
    for line in Path("/proc/self/maps").read_text().splitlines():
        words = line.split(maxsplit=5)
        if len(words) == 6:
            start, end = (int(each, 16) for each in words[0].split("-"))
            mapped.append((start, end, words[1], int(words[2], 16), os.path.basename(words[5])))
    for start, _, _, offset, file in mapped:
        if "libzmq" in file and offset == 0:
            for entry in _imports_of(start, name):
                if any(first <= entry < end and "w" in mode for first, end, mode, _, _ in mapped):
                    yield entry


def _imports_of(start: int, name: bytes) -> Iterator[int]:
    """Of the ELF file that is mapped at `start`."""
    if ctypes.string_at(start, 5) != b"\x7fELF\x02":
        return
    (header_offset,) = struct.unpack("<Q", ctypes.string_at(start + 0x20, 8))
    size, count = struct.unpack("<HH", ctypes.string_at(start + 0x36, 4))
    headers = [struct.unpack("<IIQQ", ctypes.string_at(start + header_offset + n * size, 24)) for n in range(count)]
    first = next((address for kind, _, offset, address in headers if kind == _PT_LOAD and offset == 0), 0)
    dynamic = next((address for kind, _, _, address in headers if kind == _PT_DYNAMIC), None)
    if dynamic is None:
        return
    bias, table = start - first, {}
    for number in range(4096):
        tag, value = _DYNAMIC.unpack(ctypes.string_at(bias + dynamic + number * _DYNAMIC.size, _DYNAMIC.size))
        if tag == 0:
            break
        table[tag] = value
    if not {_DT_PLTRELSZ, _DT_STRTAB, _DT_SYMTAB, _DT_JMPREL} <= table.keys():
        return
    relocations, symbols, strings = (
        table[tag] if table[tag] >= bias else bias + table[tag] for tag in (_DT_JMPREL, _DT_SYMTAB, _DT_STRTAB)
    )
    for offset, info, _ in _RELOCATION.iter_unpack(ctypes.string_at(relocations, table[_DT_PLTRELSZ])):
        symbol = _SYMBOL.unpack(ctypes.string_at(symbols + (info >> 32) * _SYMBOL.size, _SYMBOL.size))
        if ctypes.string_at(strings + symbol[0], _LONGEST_NAME).split(b"\0")[0] == name:
            yield bias + offset
