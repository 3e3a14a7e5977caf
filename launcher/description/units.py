"""Times and amounts of memory in descriptions: read by the pilot's own parsers, a bare number in our own unit."""

from __future__ import annotations

from ...pilot.model import units, walltime
from ...pilot.model.errors import UsageError
from .schema import DescriptionError

_MIB = 1 << 20


def seconds(value: str | float, where: str) -> float:
    """`1h30m`, `HH:MM:SS`, or a number of seconds. Raises DescriptionError."""
    try:
        return walltime.parse(value if isinstance(value, str) else f"{value}s")
    except UsageError as error:
        raise DescriptionError(error.what, where=where, remedy=error.remedy) from None


def mebibytes(value: str | float, where: str) -> int:
    """`4G`, `500M`, or a number of MiB. Raises DescriptionError."""
    text = str(value).strip()
    try:
        amount = round(units.parse_bytes(text if not _is_number(text) else f"{text}M") / _MIB)
    except UsageError:
        amount = 0
    if amount < 1:
        raise DescriptionError(f"{value!r} is not an amount of memory", where=where, remedy="write 4G, 500M, or MiB")
    return amount


def _is_number(text: str) -> bool:
    return text.replace(".", "", 1).isascii() and text.replace(".", "", 1).isdigit()
