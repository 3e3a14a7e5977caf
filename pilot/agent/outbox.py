"""What the manager has to learn: collected, sent in few frames, kept until it is acknowledged."""

from __future__ import annotations

from collections import deque

from ..model.ids import GrantId, TaskKey
from ..wire.frames import Finished, Report, Started


class Outbox:
    """Reports in the making and on their way."""

    def __init__(self) -> None:
        self.next_seq = 1
        self.unacknowledged: deque[Report] = deque()
        self.urgent = False
        """Whether the manager could use what we give back: then waiting for more to report costs more than it saves."""
        self._started: list[Started] = []
        self._finished: list[Finished] = []
        self._revoked: list[TaskKey] = []
        self._returned: list[GrantId] = []

    @property
    def empty(self) -> bool:
        """Whether nothing new has been noted."""
        return not (self._finished or self._started or self._revoked or self._returned)

    @property
    def first_seq(self) -> int:
        """Number of the oldest report that may have to be sent again."""
        return self.unacknowledged[0].seq if self.unacknowledged else self.next_seq

    def started(self, started: Started) -> None:
        self._started.append(started)

    def finished(self, finished: Finished) -> None:
        self._finished.append(finished)
        self.urgent = self.urgent or finished.returns_grant

    def revoked(self, key: TaskKey) -> None:
        self._revoked.append(key)
        self.urgent = True

    def returned(self, grant_id: GrantId) -> None:
        self._returned.append(grant_id)
        self.urgent = True

    def seal(self) -> Report:
        """Everything noted, as the next report."""
        report = Report(self.next_seq, self._started, self._finished, self._revoked, self._returned)
        self._started, self._finished, self._revoked, self._returned = [], [], [], []
        self.urgent = False
        self.next_seq += 1
        self.unacknowledged.append(report)
        return report

    def acknowledged(self, seq: int) -> None:
        while self.unacknowledged and self.unacknowledged[0].seq <= seq:
            self.unacknowledged.popleft()
