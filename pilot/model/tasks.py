"""The state of a job's tasks, kept small: a million iterations are a few arrays, not a million objects."""

# Columns grow as tasks are touched, so a queued iteration beyond the furthest touched one costs nothing; a touched one
# costs about 50 bytes. A job without iterations keeps one record: for a million of those an object each is less than a set
# of arrays.
#
# Where a task ran is a number into `Places`: very many tasks run in few places, and a tuple for each would be most of the
# memory. Rejected: numpy, for eight columns that are only ever read one value at a time; and one dict per touched task.

from __future__ import annotations

import re
from array import array
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from struct import Struct

from .results import PlacedShare, Result
from .states import Cause, State


@dataclass(slots=True)
class TaskRecord:
    """One task as it is known: its last attempt. Times in seconds since the epoch, 0.0 where it did not get that far."""

    state: State = State.QUEUED
    run: int = 0
    cause: Cause = Cause.EXITED
    exit_code: int = 0
    pid: int = -1
    scheduled_s: float = 0.0
    started_s: float = 0.0
    ended_s: float = 0.0
    cpu_s: float = 0.0
    max_rss_kib: int = 0
    shares: tuple[PlacedShare, ...] = ()


EndedRow = tuple[int, int, int, int, float, float, float, float, int]
"""Of an attempt that has ended: exit code, pid, number of the place, max_rss_kib, cpu_s, the times when it was scheduled,
started and ended, cause.
"""


class Places:
    """Where tasks ran, each distinct place once, so that a column of small numbers can name it. Number 0 is nowhere."""

    def __init__(self) -> None:
        self._known: list[tuple[PlacedShare, ...]] = [()]
        self._number: dict[tuple[PlacedShare, ...], int] = {(): 0}

    def number(self, shares: tuple[PlacedShare, ...]) -> int:
        number = self._number.get(shares)
        if number is None:
            number = self._number[shares] = len(self._known)
            self._known.append(shares)
        return number

    def shares(self, number: int) -> tuple[PlacedShare, ...]:
        return self._known[number]


class OneTask:
    """The task of a job without iterations."""

    __slots__ = ("_ended_s", "_result", "_run", "_state")

    def __init__(self) -> None:
        self._state = State.QUEUED
        self._run = 0
        self._ended_s = 0.0
        self._result: Result | None = None

    def state(self, pos: int) -> State:
        return self._state

    def set_state(self, pos: int, state: State) -> None:
        self._state = state

    def run(self, pos: int) -> int:
        return self._run

    def set_run(self, pos: int, run: int) -> None:
        self._run = run

    def end_unstarted(self, pos: int, ended_s: float) -> None:
        """The task reached its final state without an attempt that has a result."""
        self._ended_s = ended_s

    def store(self, pos: int, result: Result) -> None:
        """Keep the result of the attempt that ended the task."""
        self._result = result

    def load(self, pos: int) -> TaskRecord:
        result = self._result
        if result is None:
            return TaskRecord(self._state, self._run, ended_s=self._ended_s)
        return TaskRecord(
            state=self._state,
            run=self._run,
            cause=result.cause,
            exit_code=result.exit_code,
            pid=result.pid,
            scheduled_s=result.scheduled_s,
            started_s=result.started_s,
            ended_s=result.ended_s,
            cpu_s=result.cpu_s,
            max_rss_kib=result.max_rss_kib,
            shares=result.shares,
        )

    def queued(self, start: int, stop: int) -> int:
        """How many positions in start..stop-1 are QUEUED."""
        return int(self._state is State.QUEUED and start < stop)

    def states(self, start: int, stop: int) -> bytes:
        """The states of positions start..stop-1."""
        return bytes([self._state])

    def count(self, state: State) -> int:
        """How many are in this state."""
        return int(self._state is state)

    def first_queued(self) -> int | None:
        """The lowest position that is QUEUED."""
        return 0 if self._state is State.QUEUED else None

    def counts(self) -> list[tuple[State, int]]:
        """How many tasks there are in each state."""
        return [(self._state, 1)]

    def fill_queued(self, state: State) -> tuple[int, Iterator[int]]:
        """Give every queued task this state; returns how many there were, and their positions."""
        if self._state is not State.QUEUED:
            return 0, iter(())
        self._state = state
        return 1, iter((0,))

    def in_flight(self) -> list[int]:
        """Positions that an agent has."""
        return [0] if self._state in (State.SCHEDULED, State.EXECUTING) else []


class ManyTasks:
    """The tasks of an iteration job, by position."""

    __slots__ = ("_count", "_places", "_rows", "_run", "_state")

    def __init__(self, count: int, places: Places) -> None:
        self._count = count
        self._places = places
        self._state = bytearray()
        """May be longer than the others: tasks that end without ever having been sent have nothing else."""
        self._run = array("H")
        self._rows = bytearray()
        """An `EndedRow` for each: packed, because one call for nine fields costs half of nine for a column each."""

    def _reach(self, pos: int) -> None:
        """Grow all columns so that `pos` exists, by at least an eighth so that growing stays cheap."""
        have = len(self._run)
        if pos < have:
            return
        more = min(self._count, max(pos + 1, have + have // 8 + 64)) - have
        self._reach_state(have + more)
        self._run.frombytes(bytes(more * self._run.itemsize))
        self._rows.extend(bytes(more * _ROW.size))

    def _reach_state(self, length: int) -> None:
        self._state.extend(bytes(max(0, length - len(self._state))))

    def state(self, pos: int) -> State:
        return _STATES[self._state[pos]] if pos < len(self._state) else State.QUEUED

    def set_state(self, pos: int, state: State) -> None:
        if pos >= len(self._state):
            self._reach(pos)
        self._state[pos] = state

    def run(self, pos: int) -> int:
        return self._run[pos] if pos < len(self._run) else 0

    def set_run(self, pos: int, run: int) -> None:
        if pos >= len(self._run):
            self._reach(pos)
        self._run[pos] = run

    def end_unstarted(self, pos: int, ended_s: float) -> None:
        self._reach(pos)
        _TIME.pack_into(self._rows, pos * _ROW.size + _ENDED_AT, ended_s)

    def store(self, pos: int, result: Result) -> None:
        times = result.scheduled_s, result.started_s, result.ended_s
        usage = result.max_rss_kib, result.cpu_s
        place = self._places.number(result.shares)
        row = result.exit_code, result.pid, place, *usage, *times, result.cause
        _ROW.pack_into(self._rows, pos * _ROW.size, *row)

    def fresh(self, start: int, stop: int) -> int:
        """How many of start..stop-1, from the first on, are QUEUED and were never started."""
        touched = bytes(self._state[start:stop])
        states = len(touched) - len(touched.lstrip(_NUL))
        runs = self._run[start : start + states].tobytes()
        fresh = min(states, (len(runs) - len(runs.lstrip(_NUL))) // self._run.itemsize)
        return fresh if fresh < len(touched) else stop - start

    def send_first(self, positions: range) -> None:
        """These, which are `fresh`, go to an agent."""
        self._reach(positions[-1])
        self._state[positions.start : positions.stop] = _ONE_SCHEDULED * len(positions)
        self._run[positions.start : positions.stop] = array("H", [1]) * len(positions)

    def succeed(self, pos: int, row: EndedRow) -> int:
        """A task that an agent has ended with exit code 0: `set_state` and `store` in one. Returns the state before."""
        before = self._state[pos]
        self._state[pos] = _SUCCEED
        _ROW.pack_into(self._rows, pos * _ROW.size, *row)
        return before

    def succeed_all(self, positions: Sequence[int], *columns: Iterable[float]) -> None:
        """`succeed` for these; `columns` has what is in an `EndedRow`, a column for each."""
        rows = map(_ROW.pack, *columns)
        first, count = positions[0], len(positions)
        if positions == list(range(first, first + count)):
            self._state[first : first + count] = _ONE_SUCCEED * count
            self._rows[first * _ROW.size : (first + count) * _ROW.size] = b"".join(rows)
            return
        for pos, row in zip(positions, rows, strict=True):
            self._state[pos] = _SUCCEED
            self._rows[pos * _ROW.size : (pos + 1) * _ROW.size] = row

    def ended_row(self, pos: int) -> EndedRow:
        """What `load` has of a task that has ended, without an object: there is a line of the report for each."""
        return _ROW.unpack_from(self._rows, pos * _ROW.size)

    def load(self, pos: int) -> TaskRecord:
        if pos >= len(self._run):
            return TaskRecord(self.state(pos))
        exit_code, pid, place, rss_kib, cpu_s, scheduled_s, started_s, ended_s, cause = self.ended_row(pos)
        return TaskRecord(  # by position, which is what costs least
            _STATES[self._state[pos]],
            self._run[pos],
            _CAUSES[cause],
            exit_code,
            pid,
            scheduled_s,
            started_s,
            ended_s,
            cpu_s,
            rss_kib,
            self._places.shares(place),
        )

    def queued(self, start: int, stop: int) -> int:
        touched = self._state[start:stop]
        return stop - start - len(touched) + touched.count(State.QUEUED)

    def states(self, start: int, stop: int) -> bytes:
        """The states of positions start..stop-1."""
        return bytes(self._state[start:stop]).ljust(stop - start, bytes([State.QUEUED]))

    def count(self, state: State) -> int:
        untouched = self._count - len(self._state) if state is State.QUEUED else 0
        return self._state.count(state) + untouched

    def first_queued(self) -> int | None:
        place = self._state.find(bytes([State.QUEUED]))
        if place >= 0:
            return place
        return len(self._state) if len(self._state) < self._count else None

    def counts(self) -> list[tuple[State, int]]:
        untouched = self._count - len(self._state)
        return [(state, self._state.count(state) + untouched * (state is State.QUEUED)) for state in _STATES]

    def fill_queued(self, state: State) -> tuple[int, Iterator[int]]:
        # A million at once: with the functions of bytearray that takes a millisecond, one by one a long turn.
        self._reach_state(self._count)
        before = bytes(self._state)
        self._state = self._state.translate(_replacing(State.QUEUED, state))
        return before.count(State.QUEUED), (match.start() for match in _QUEUED.finditer(before))

    def in_flight(self) -> list[int]:
        return sorted([*_places_of(State.SCHEDULED, self._state), *_places_of(State.EXECUTING, self._state)])


def _places_of(state: State, states: bytearray) -> Iterator[int]:
    """There are few among very many, so the search has to be the fastest there is."""
    byte = bytes([state])
    place = states.find(byte)
    while place >= 0:
        yield place
        place = states.find(byte, place + 1)


def _replacing(old: State, new: State) -> bytes:
    return bytes(new if byte == old else byte for byte in range(256))


_QUEUED = re.compile(re.escape(bytes([State.QUEUED])), re.DOTALL)


# Indexing; calling the enum would cost five times as much.
_STATES, _CAUSES = tuple(State), tuple(Cause)
_NUL, _ONE_SCHEDULED = b"\0", bytes([State.SCHEDULED])
_SUCCEED, _ONE_SUCCEED = int(State.SUCCEED), bytes([State.SUCCEED])
_ROW, _TIME = Struct("<hiIQfdddB"), Struct("<d")
_ENDED_AT = _ROW.size - 1 - _TIME.size
