"""The machine as it would be if it had a task's cores only, for all programs that look at it with hwloc.

Launchers that a task starts itself (`mpirun` of Open MPI 4 and 5, MPICH's Hydra) bind their ranks, and do not look at the
affinity they are born with: they begin with the first core of the machine, as does the `mpirun` of every other task there. Open
MPI 4 can be told a list of cores, but refuses `--map-by`, `-N` and other usual options then; Hydra cannot be told anything.
All of them see the machine through hwloc, which reads it from a file if HWLOC_XMLFILE names one. So each set of cores gets
such a file: made by the library itself, with caches and memory nodes, in the old format, which old and new versions read.

The files are on the node, in a folder of the worker that ends with it: a name that gets to another machine, with a job that
a task submits say, leads nowhere there, and hwloc looks at the machine itself.
"""

from __future__ import annotations

import ctypes
import logging
import shutil
import tempfile
from collections.abc import Callable, Collection
from ctypes import byref, c_int, c_ulong, c_void_p
from pathlib import Path

log = logging.getLogger(__name__)

_LIBRARY = "libhwloc.so.15"
"""All versions of hwloc 2."""
_FORMAT_1 = 1
Export = Callable[[Collection[int], Path], None]
"""Write the machine with these processors only into that file. Raises OSError."""


class Topologies:
    """The files of one worker's tasks. `load` finds how to make them, None if this machine has no hwloc."""

    def __init__(self, load: Callable[[], Export | None] | None = None) -> None:
        self._load = load or load_library
        self._export: Export | None = None
        self._is_loaded = False
        self._folder: Path | None = None
        self._paths: dict[frozenset[int], str] = {}

    def path_of(self, cpus: frozenset[int]) -> str:
        """The file for these processors, made when it is first asked for; empty when there can be none."""
        path = self._paths.get(cpus)
        if path is None:
            path = self._paths[cpus] = self._make(cpus)
        return path

    def _make(self, cpus: frozenset[int]) -> str:
        try:
            if not self._is_loaded:
                self._is_loaded = True
                self._export = self._load()
            if self._export is None:
                return ""
            if self._folder is None:
                self._folder = Path(tempfile.mkdtemp(prefix="pilotfish-topology-"))
            path = self._folder / f"{'-'.join(map(str, sorted(cpus)))[:200]}.{len(self._paths)}.xml"
            self._export(cpus, path)
        except OSError as error:
            log.warning("topology.failed", extra={"cpus": sorted(cpus), "reason": error})
            self._export = None
            return ""
        return str(path)

    def close(self) -> None:
        """No task runs any more."""
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)


def load_library() -> Export | None:
    """None where there is no library. Raises OSError when it cannot see the machine."""
    try:
        hwloc = ctypes.CDLL(_LIBRARY)
        hwloc.hwloc_bitmap_alloc.restype = c_void_p
    except (OSError, AttributeError):
        return None
    machine = c_void_p()
    _check(hwloc.hwloc_topology_init(byref(machine)), "hwloc_topology_init")
    _check(hwloc.hwloc_topology_load(machine), "hwloc_topology_load")

    def export(cpus: Collection[int], path: Path) -> None:
        part, bits = c_void_p(), c_void_p(hwloc.hwloc_bitmap_alloc())
        _check(hwloc.hwloc_topology_dup(byref(part), machine), "hwloc_topology_dup")
        try:
            for cpu in cpus:
                hwloc.hwloc_bitmap_set(bits, c_int(cpu))
            _check(hwloc.hwloc_topology_restrict(part, bits, c_ulong(0)), "hwloc_topology_restrict")
            name = str(path).encode()
            _check(hwloc.hwloc_topology_export_xml(part, name, c_ulong(_FORMAT_1)), "hwloc_topology_export_xml")
        finally:
            hwloc.hwloc_bitmap_free(bits)
            hwloc.hwloc_topology_destroy(part)

    return export


def _check(code: int, call: str) -> None:
    if code != 0:
        raise OSError(f"{call} has failed")
