"""The lines that manager and agents log: `date time,ms: event.name key=value ...`.

A call names an event, by which logs are searched, and gives what varies as `extra`, so that nobody has to take a sentence
apart. Reasons, which have spaces, come last.
"""

from __future__ import annotations

import logging

_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


class EventFormatter(logging.Formatter):
    """Puts the keys of an event behind its name."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s: %(message)s")

    def formatMessage(self, record: logging.LogRecord) -> str:
        keys = {name: value for name, value in vars(record).items() if name not in _STANDARD}
        return super().formatMessage(record) + "".join(f" {name}={value}" for name, value in keys.items())
