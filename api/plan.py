"""What a run has to do, when its pilot has done a part of it already: which tasks are there, which are new, which go.

A task that has succeeded counts, whatever its limits were. One that failed counts as long as the limits are the same; one that
has not ended also has to wait for the same jobs and print to the same place. Everything else of the file is new, under
names that are free. Tasks of the file that are no longer in it are canceled if they have not ended, and count no more.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import msgspec

from .identity import Indices, Wanted
from .ledger import Entry, Ledger, ranges

States = Callable[[], Mapping[str, str]]
"""Gives the final states of tasks by name; what is not in it has not ended. Asked only when it matters."""
_ORDER = ("SUCCEED", None)
"""Which of several equal tasks to count first, if there are more than are wanted."""


class Place(NamedTuple):
    """A task in the pilot; `at` is its index, 0 without iterations."""

    entry: Entry
    at: int

    @property
    def task(self) -> str:
        return self.entry.task(self.at)


@dataclass
class Plan:
    """`submit`: new job descriptions. `cancel`: tasks and jobs that go. `ledger`: what there is afterwards."""

    ledger: Ledger
    submit: list[dict[str, Any]] = field(default_factory=list)
    cancel: list[str] = field(default_factory=list)
    known: int = 0
    new: int = 0
    changed: int = 0
    gone: int = 0
    again: int = 0
    left_out: int = 0


class _Known:
    """The tasks in the pilot, found by what they are. Each is given away once."""

    def __init__(self, entries: Sequence[Entry], wanted: Iterable[Wanted], states: States) -> None:
        self.states = states
        self.of_work: defaultdict[str, list[Entry]] = defaultdict(list)
        for entry in entries:
            self.of_work[entry.work].append(entry)
        self.used: defaultdict[str, set[int]] = defaultdict(set)
        self._left_over: defaultdict[str, int] = defaultdict(int)
        for entry in entries:
            self._left_over[entry.work] += len(entry.indices)
        for job in wanted:
            self._left_over[job.work] -= job.count
        self._by_key: dict[str, dict[str, list[Place]]] = {}
        self._by_label = {(entry.work, entry.label): entry for entry in entries}
        self._pools: dict[tuple[str, str, str, tuple[str, ...]], list[Place]] = {}

    def take(self, job: Wanted, pos: int, after: list[str], fits: Callable[[Place], bool]) -> Place | None:
        """A task that is the one at `pos` of `job`: the one of the same name if it can be, else a good one."""
        index, key = job.start + pos, job.key(pos)
        namesake = self._by_label.get((job.work, job.label))
        if namesake is not None and index in namesake.indices and namesake.key(index) == key:
            place = Place(namesake, index)
            good = self._left_over[job.work] <= 0 or self.states().get(place.task) == "SUCCEED"
            if good and index not in self.used[namesake.name] and fits(place):
                return self._given(place)
        places = self._with_key(job.work, key)
        if len(places) > 1:
            pool_key = (job.work, key, job.limits, tuple(after))
            if pool_key not in self._pools:
                self._pools[pool_key] = sorted(filter(fits, places), key=self._rank, reverse=True)
            places = self._pools[pool_key]
        else:
            places = [place for place in places if fits(place)]
        while places:
            place = places.pop()
            if place.at not in self.used[place.entry.name]:
                return self._given(place)
        return None

    def _given(self, place: Place) -> Place:
        self.used[place.entry.name].add(place.at)
        return place

    def _rank(self, place: Place) -> int:
        state = self.states().get(place.task)
        return _ORDER.index(state) if state in _ORDER else len(_ORDER)

    def _with_key(self, work: str, key: str) -> list[Place]:
        if work not in self._by_key:
            by_key = self._by_key[work] = {}
            for entry in self.of_work.get(work, ()):
                if entry.count is None or entry.keys is not None:
                    for index in entry.indices:
                        by_key.setdefault(entry.key(index), []).append(Place(entry, index))
        numbered = [entry for entry in self.of_work.get(work, ()) if entry.count is not None and entry.keys is None]
        of_index = [
            Place(entry, int(key)) for entry in numbered if key.lstrip("-").isdigit() and int(key) in entry.indices
        ]
        return [*self._by_key[work].get(key, ()), *of_index] if of_index else list(self._by_key[work].get(key, ()))


class Planner:
    """Makes one Plan.

    Args:
        ledger: what the pilot has.
        taken: names of all its jobs.
        states: see States.
        source: the file now.
        output: where what tasks print is to go.
        keep_output: fills in the files for it; gets a description and the beginning of their names.
        again: names in the pilot of tasks that have failed and are to run again.
        wants: whether a task at a position of a job that has not ended, and is not in `again`, is to run now; None: all are.
    """

    def __init__(
        self,
        ledger: Ledger,
        taken: Iterable[str],
        states: States,
        source: str,
        output: str,
        keep_output: Callable[[dict[str, Any], str], None],
        again: Collection[str] = (),
        wants: Callable[[Wanted, int], bool] | None = None,
    ) -> None:
        self._again = again
        self._wants = wants
        self._left_out: set[tuple[str, int]] = set()
        """By label and index."""
        self._taken = set(taken)
        self._states = states
        self._source = source
        self._output = output
        self._keep_output = keep_output
        self._entries = [msgspec.structs.replace(entry) for entry in ledger]
        self._again_keys = {
            (entry.work, entry.key(index))
            for entry in self._entries
            for index in entry.indices
            if self._again and entry.task(index) in self._again
        }
        self._stems: defaultdict[str, list[Entry]] = defaultdict(list)
        for entry in self._entries:
            self._stems[entry.stem].append(entry)
        self._places: dict[str, list[Place] | Entry] = {}
        """Where the tasks of each job of the file are, by its label: by position, or a job of the pilot that is just this."""
        self._starts: dict[str, int] = {}
        self._names_of: dict[str, list[str]] = {}
        self._new: list[tuple[str, int]] = []
        self._plan = Plan(Ledger())

    def plan(self, wanted: Sequence[Wanted], order: Mapping[str, int]) -> Plan:
        """`wanted`: each job after those it waits for; `order`: their places in the file, by label."""
        plan = self._plan
        self._known = _Known(self._entries, wanted, self._states)
        self._labels = {job.label for job in wanted}
        place_of: dict[str, int] = {}
        for job in wanted:
            before = len(plan.submit)
            self._find(job)
            place_of |= {description["name"]: order[job.label] for description in plan.submit[before:]}
        plan.submit.sort(key=lambda description: place_of[description["name"]])
        self._drop()
        plan.ledger = Ledger(self._entries)
        return plan

    # --- finding --------------------------------------------------------------------------------------------------------

    def _find(self, job: Wanted) -> None:
        self._starts[job.label] = job.start
        same = self._known.of_work.get(job.work, ())
        if len(same) == 1 and self._is_all_of(same[0], job):
            self._known.used[same[0].name].update(same[0].indices)
            self._plan.known += job.count
            self._is_now(same[0], job)
            return
        matches: list[Place | None] = [None] * job.count
        if same:
            matches = [self._known_as(job, pos) for pos in range(job.count)]
        if self._wants is not None:
            self._leave_out(job, matches, self._wants)
        self._plan.known += sum(place is not None for place in matches)
        self._add(job, matches)

    def _leave_out(self, job: Wanted, matches: list[Place | None], wants: Callable[[Wanted, int], bool]) -> None:
        """Take away what is not to run now. What has ended stays, whatever its limits were."""
        for pos, place in enumerate(matches):
            has_ended = place is not None and place.task in self._states()
            if has_ended or (job.work, job.key(pos)) in self._again_keys or wants(job, pos):
                continue
            other = place or self._known.take(job, pos, self._after(job, pos), lambda _: True)
            if other is not None and other.task in self._states():
                matches[pos] = other
                continue
            if other is not None:
                self._known.used[other.entry.name].discard(other.at)
            matches[pos] = None
            self._left_out.add((job.label, job.start + pos))

    def _known_as(self, job: Wanted, pos: int) -> Place | None:
        after = self._after(job, pos)
        return self._known.take(job, pos, after, lambda place: self._fits(place, job, after))

    def _is_now(self, entry: Entry, job: Wanted) -> None:
        """All of a job of the pilot, and nothing else, is this job of the file."""
        entry.label, entry.source = job.label, self._source
        self._places[job.label] = entry

    def _is_all_of(self, entry: Entry, job: Wanted) -> bool:
        """Whether a job of the pilot is just this one, so that nothing need be asked of its tasks."""
        keys = None if job.keys is None or isinstance(job.keys, Indices) else list(job.keys)
        return (
            self._wants is None
            and not self._known.used[entry.name]
            and not entry.dropped
            and not any(entry.task(index) in self._again for index in entry.indices if self._again)
            and (entry.limits, entry.output, entry.start) == (job.limits, self._output, job.start)
            and (entry.count, entry.keys) == (None if job.keys is None else job.count, keys)
            and entry.after == self._after_all(job)
        )

    def _fits(self, place: Place, job: Wanted, after: list[str]) -> bool:
        entry = place.entry
        state = self._states().get(place.task)
        if state == "SUCCEED":
            return True
        if place.task in self._again:
            return False
        if entry.limits != job.limits or (state == "CANCELED" and entry.is_dropped(place.at)):
            return False
        same_before = [name.replace("${it}", str(place.at)) for name in entry.after] == after
        return same_before and (state is not None or entry.output == self._output)

    # --- what waits for what --------------------------------------------------------------------------------------------

    def _after_all(self, job: Wanted) -> list[str] | None:
        """The names in the pilot of what all tasks of a job wait for, `${it}` being the own index; None: they differ."""
        names: list[str] = []
        for each in job.spec.after:
            places = self._places.get(each.job)
            if not each.same_index or places is None:
                names += self._names(str(each))
            elif isinstance(places, Entry):
                names.append(f"{places.name}:${{it}}")
            else:
                return None
        return names

    def _after(self, job: Wanted, pos: int) -> list[str]:
        """The names in the pilot of what one task waits for."""
        index = str(job.start + pos)
        return [name for each in job.spec.after for name in self._names(str(each).replace("${it}", index))]

    def _names(self, dependency: str) -> list[str]:
        label, _, index = dependency.partition(":")
        places = self._places.get(label)
        if places is None:  # not of this file; or a ring, which the pilot refuses
            return [dependency]
        if isinstance(places, Entry):
            return [f"{places.name}:{index}" if index else places.name]
        if index:
            pos = int(index) - self._starts[label]
            return [places[pos].task] if 0 <= pos < len(places) else [dependency]
        if label not in self._names_of:
            by_job: dict[str, list[Place]] = {}
            for place in places:
                by_job.setdefault(place.entry.name, []).append(place)
            self._names_of[label] = [name for theirs in by_job.values() for name in _together(theirs)]
        return self._names_of[label]

    # --- adding ---------------------------------------------------------------------------------------------------------

    def _add(self, job: Wanted, matches: list[Place | None]) -> None:
        """New jobs for the tasks that were not found: one for each stretch of them that waits for the same."""
        missing = [
            pos
            for pos, place in enumerate(matches)
            if place is None and (job.label, job.start + pos) not in self._left_out
        ]
        self._new += [(job.label, job.start + pos) for pos in missing]
        common = self._after_all(job)
        for first, end in ranges(missing):
            if common is not None:
                self._submit(job, first, end, common, matches)
                continue
            for pos in range(first, end):
                self._submit(job, pos, pos + 1, self._after(job, pos), matches)
        places = [place for place in matches if place is not None]
        if not places:
            self._places[job.label] = places
            return
        entry = places[0].entry
        if len(places) == len(entry.indices) and all(
            place == (entry, job.start + pos if job.keys is not None else 0) for pos, place in enumerate(places)
        ):
            self._is_now(entry, job)
        else:
            self._places[job.label] = places

    def _submit(self, job: Wanted, first: int, end: int, after: list[str], matches: list[Place | None]) -> None:
        name = self._free(job.label)
        entry = Entry(name, self._source, job.label, name, job.work, job.limits, self._output, after)
        description = {**job.job, "name": name}
        if job.keys is not None:
            entry.start, entry.count = job.start + first, end - first
            if not isinstance(job.keys, Indices):
                entry.keys = list(job.keys[first:end])
            if end - first < job.count:
                description["iteration"] = self._stretch(job, first, end)
        if after != [str(each) for each in job.spec.after]:
            description["dependencies"] = {**job.job["dependencies"], "after": after}
        if not any(_overlap(entry.indices, other.indices) for other in self._stems[job.label]):
            entry.stem = job.label
        self._stems[entry.stem].append(entry)
        self._keep_output(description, entry.stem)
        self._entries.append(entry)
        self._plan.submit.append(description)
        self._known.used[name].update(entry.indices)
        for pos in range(first, end):
            matches[pos] = Place(entry, job.start + pos if job.keys is not None else 0)

    @staticmethod
    def _stretch(job: Wanted, first: int, end: int) -> dict[str, Any]:
        iteration = job.spec.iteration
        assert iteration is not None
        start = iteration.start + first
        if iteration.params:
            return {
                "start": start,
                "params": {p.name: [p.at(pos) for pos in range(first, end)] for p in iteration.params},
            }
        if iteration.values is None:
            return {"start": start, "stop": iteration.start + end}
        return {"start": start, "values": list(iteration.values[first:end])}

    def _free(self, label: str) -> str:
        """The label itself, or with a number behind it."""
        name, number = label, 1
        while name in self._taken or (number > 1 and name in self._labels):
            number += 1
            name = f"{label}.{number}"
        self._taken.add(name)
        return name

    # --- dropping -------------------------------------------------------------------------------------------------------

    def _drop(self) -> None:
        dropped: set[tuple[str, int]] = set()
        for entry in self._entries:
            used = self._known.used[entry.name]
            ours = entry.source == self._source
            if len(used) < len(entry.indices):
                off = [index for index in entry.indices if index not in used and (ours or entry.is_dropped(index))]
                self._plan.again += sum(
                    entry.task(index) in self._again for index in off if not entry.is_dropped(index)
                )
                dropped |= {(entry.label, index) for index in off if not entry.is_dropped(index)}
                entry.dropped = ranges(off)
            else:
                entry.dropped = []
        both = len(dropped.intersection(self._new))
        self._plan.changed = max(0, both - self._plan.again)
        self._plan.left_out = len(self._left_out)
        self._plan.gone = len(dropped - self._left_out) - both
        self._plan.new = len(self._new) - both
        self._plan.cancel = unended(self._entries, self._states)


def unended(entries: Iterable[Entry], states: States) -> list[str]:
    """Names of what does not count any more and has not ended: whole jobs, or single tasks of them."""
    names: list[str] = []
    for entry in entries:
        off = [index for first, end in entry.dropped for index in range(first, end)]
        open_ones = [index for index in off if entry.task(index) not in states()]
        if open_ones and len(off) == len(entry.indices):
            names.append(entry.name)
        else:
            names += [entry.task(index) for index in open_ones]
    return names


def _overlap(one: range, other: range) -> bool:
    return max(one.start, other.start) < min(one.stop, other.stop)


def _together(places: Sequence[Place]) -> list[str]:
    """The shortest way to name some tasks of one job."""
    entry = places[0].entry
    return [entry.name] if len(places) == len(entry.indices) else [place.task for place in places]
