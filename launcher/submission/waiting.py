"""What jobs wait for, in the batch system's words; and the last words of those that ended without a record."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace

from ..contexts import shell
from ..contexts.base import Context
from ..contexts.paths import printable
from ..contexts.shell import joined, sh, word
from ..job.sighting import HOPELESS_POLLS
from .batch_job import BatchJob
from .events import Ended
from .session import Site

_ASK_EVERY_S = 60.0
"""Where it takes a command of its own to learn what jobs wait for."""

# A pattern that fits no file stays as it is, and there is no such file.
_LAST_WORDS = """\
printf '\\n@pilotfish@%s\\n' {job}
for file in {files}; do [ ! -s "$file" ] || tail -c 2000 -- "$file"; done
"""


class Waiting:
    """Tells what jobs wait for, each time that changes; takes those that can never start out of the queue."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self._told: dict[str, str] = {}
        self._ask_again_s = 0.0

    def look(self) -> None:
        """To be called after a listing. Raises MachineBusyError."""
        jobs, now_s = self._site.progress.waiting(), self._site.tools.clock()
        silent = [job for job in jobs if not job.why]
        if silent and now_s >= self._ask_again_s:
            self._ask_again_s = now_s + _ASK_EVERY_S
            for job in self._ask(silent):
                job.hopeless = HOPELESS_POLLS
        lost = self._site.progress.without_hope()
        self._ask([job for job in lost if not job.never])
        self._tell(jobs)
        self._give_up(lost)

    def _ask(self, jobs: Sequence[BatchJob]) -> list[BatchJob]:
        """Of jobs of which the listing itself says nothing, or not enough; those that can never start."""
        told = self._site.machine.reasons(self._site.context, [job.id for job in jobs]) if jobs else {}
        for job in jobs:
            job.why = told[job.id].why if job.id in told else job.why
        return [job for job in jobs if job.id in told and told[job.id].hopeless]

    def _tell(self, jobs: Sequence[BatchJob]) -> None:
        changed: dict[str, list[BatchJob]] = {}
        for job in jobs:
            if job.why and self._told.get(job.id) != job.why:
                self._told[job.id] = job.why
                changed.setdefault(job.why, []).append(job)
        for why, some in changed.items():
            wait = f"and {len(some) - 1} more wait" if len(some) > 1 else "waits"
            self._site.tools.tell(f"job {some[0].hash[:8]} ({some[0].id}) {wait}: {printable(why)}")

    def _give_up(self, jobs: Sequence[BatchJob]) -> None:
        """That they are gone is seen by the next listings; until then they are told to go again and again."""
        for job in jobs:
            if not job.never:
                self._site.tools.tell(f"job {job.hash[:8]} ({job.id}) can never start: it is taken out of the queue")
            job.never = printable(job.why)
        if jobs:
            self._site.machine.cancel(self._site.context, [job.id for job in jobs])


def explained(site: Site, silent: Sequence[BatchJob], ends: Mapping[str, Ended]) -> dict[str, Ended]:
    """These ends, by job hash; where jobs have left no record and nobody has said why, with the last words of their scripts."""
    wanted = [job for job in silent if job.hash in ends and ends[job.hash].reason and not ends[job.hash].detail]
    patterns = {job.hash: site.machine.outputs(job.id, job.hash) for job in wanted}
    words = last_words(site.context, site.work.root, patterns)
    return {name: replace(ended, detail=words[name]) if name in words else ended for name, ended in ends.items()}


def last_words(context: Context, folder: str, patterns: Mapping[str, Sequence[str]]) -> dict[str, str]:
    """The end of what the scripts of jobs in this folder have printed, by their hashes; of those that have printed anything."""
    files = {name: shell.patterns(each) for name, each in patterns.items() if each}
    if not files:
        return {}
    command = joined(sh(_LAST_WORDS, job=word(name), files=each) for name, each in files.items())
    parts = re.split(r"^@pilotfish@([0-9a-f]{40})\n", context.run(command, cwd=folder).out, flags=re.MULTILINE)
    return {name: part.strip() for name, part in zip(parts[1::2], parts[2::2], strict=True) if part.strip()}
