"""Which processors are close to which GPU, as the kernel describes the devices on the PCI bus."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from ..cpus import ranges

_MAKERS = ("0x10de", "0x1002")
"""NVIDIA, AMD. Those of other makers only drive displays."""
_CLASSES = ("0x0300", "0x0302", "0x1200", "0x0380")
"""Display and 3D controllers, accelerators."""


def near_gpus(devices: Path = Path("/sys/bus/pci/devices")) -> list[list[int]]:
    """For each GPU, in the order of the bus, the processors close to it. Empty where there is no GPU."""
    processors = []
    with suppress(OSError):
        for device in sorted(devices.iterdir()):
            if _read(device / "vendor") in _MAKERS and _read(device / "class").startswith(_CLASSES):
                processors.append(sorted(ranges(_read(device / "local_cpulist"))))
    return processors


def _read(path: Path) -> str:
    with suppress(OSError):
        return path.read_text(encoding="ascii").strip()
    return ""
